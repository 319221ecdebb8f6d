// Large tables of a mapped file, which are used where they are and not copied.
#pragma once

#include <cstddef>
#include <memory>

namespace mlxrank {

// A second mapping of a file's pages that the caller has mapped. It stays when the
// caller unmaps its own.
class SharedPages {
 public:
  // Returns null where the memory is no shared mapping, or the system has no way to map it
  // again.
  static std::unique_ptr<SharedPages> of(const void *data, size_t bytes);

  // Takes the pages of a mapped file, which the caller has mapped, out of the process's
  // memory. They return when they are read. Does nothing to other memory.
  static void release(const void *data, size_t bytes);

  ~SharedPages();
  SharedPages(const SharedPages &) = delete;
  SharedPages &operator=(const SharedPages &) = delete;

  const float *floats() const { return data_; }

 private:
  SharedPages(void *start, size_t bytes, const float *data)
      : start_(start), bytes_(bytes), data_(data) {}

  void *const start_;
  const size_t bytes_; // from start on
  const float *const data_;
};

} // namespace mlxrank
