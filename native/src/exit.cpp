#include "exit.h"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <mutex>

namespace mlxrank {

namespace {

// Longer than a microbatch takes. It is reached only by a host that calls exit()
// from a signal handler which interrupted such work.
constexpr auto patience = std::chrono::seconds(10);

struct Gate {
  std::mutex mutex;
  std::condition_variable changed;
  int busy = 0;
  uint64_t ended = 0;
  bool exiting = false;
};

// Leaked: threads wait on it until the process is gone.
Gate &gate() {
  static Gate *instance = new Gate;
  return *instance;
}

void wait_for_busy() {
  Gate &g = gate();
  {
    std::unique_lock<std::mutex> lock(g.mutex);
    g.exiting = true;
    g.changed.wait_for(lock, patience, [&g] { return g.busy == 0; });
  }
  // Keeps the unlocking from being a tail call, which would seem to come from
  // libc: ThreadSanitizer, told to pass over this library, would see an unlock
  // without its lock.
  asm volatile("" ::: "memory");
}

// exit() calls handlers and destructors in the reverse order in which they were
// registered, and MLX constructs some objects at their first use: the handler is
// registered again after such uses.
bool is_time_to_register(uint64_t ended) { return ended <= 64 || (ended & (ended - 1)) == 0; }

} // namespace

bool is_exiting() {
  Gate &g = gate();
  std::lock_guard<std::mutex> lock(g.mutex);
  return g.exiting;
}

Busy::Busy() {
  Gate &g = gate();
  std::unique_lock<std::mutex> lock(g.mutex);
  while (g.exiting) {
    g.changed.wait(lock);
  }
  g.busy++;
}

Busy::~Busy() {
  Gate &g = gate();
  std::unique_lock<std::mutex> lock(g.mutex);
  if (!g.exiting && is_time_to_register(++g.ended)) {
    std::atexit(wait_for_busy); // a failure is an exit without the wait
  }
  g.busy--;
  g.changed.notify_all();
}

} // namespace mlxrank
