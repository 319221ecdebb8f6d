#include "shared_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

namespace mlxrank {

#ifdef __linux__

std::unique_ptr<SharedPages> SharedPages::of(const void *data, size_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  if (address % alignof(float) != 0) {
    return nullptr;
  }
  const size_t before = address % static_cast<size_t>(sysconf(_SC_PAGESIZE));
  char *const first = static_cast<char *>(const_cast<void *>(data)) - before;
  // An old size of 0 maps shared pages a second time. Of others it is refused.
  void *const start = mremap(first, 0, before + bytes, MREMAP_MAYMOVE);
  if (start == MAP_FAILED) {
    return nullptr;
  }
  const auto *table = reinterpret_cast<const float *>(static_cast<char *>(start) + before);
  return std::unique_ptr<SharedPages>(new SharedPages(start, before + bytes, table));
}

void SharedPages::release(const void *data, size_t bytes) {
  // The advice would make zeros of private memory; only shared pages have a second mapping.
  if (const auto pages = of(data, bytes)) {
    const char *table = reinterpret_cast<const char *>(pages->data_);
    const size_t before = static_cast<size_t>(table - static_cast<const char *>(pages->start_));
    char *const own = static_cast<char *>(const_cast<void *>(data));
    madvise(own - before, before + bytes, MADV_DONTNEED);
  }
}

#else

std::unique_ptr<SharedPages> SharedPages::of(const void *, size_t) { return nullptr; }

void SharedPages::release(const void *, size_t) {}

#endif

SharedPages::~SharedPages() { munmap(start_, bytes_); }

} // namespace mlxrank
