// exit() runs the destructors of MLX's objects while workers still compute.
// Therefore work that uses MLX is marked, and exit() waits for marked work.
#pragma once

namespace mlxrank {

// Marks work that uses MLX, on the thread that does it. It must not wait for
// other marked work. Once exit() has begun, the constructor does not return.
class Busy {
 public:
  Busy();
  ~Busy();
  Busy(const Busy &) = delete;
  Busy &operator=(const Busy &) = delete;
};

// Reports whether exit() has begun. Who stays busy from one piece of work to the next
// must begin no more.
bool is_exiting();

} // namespace mlxrank
