// Where a pass's time goes, while somebody asks: nothing is read or counted
// on a thread that has no recorder.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

namespace mlxrank::cpu {

// Classes of work, in the order of mlxrank.h. What is added to a product's
// results in registers (bias, activation) is a part of the product.
enum class Phase { product, attention, activation, norm, gather, building, copies, count };

// Kernels hold theirs: some may still be queued when a shard has failed, or the
// session is gone.
struct Recorder : std::enable_shared_from_this<Recorder> {
  static constexpr int phases = static_cast<int>(Phase::count);
  std::atomic<int64_t> ns[phases]{}, calls[phases]{}, flops[phases]{};
  std::atomic<int64_t> helped_ns{0}; // by threads other than the one that a kernel was given to

  void add(Phase phase, int64_t took, int64_t operations) {
    const int i = static_cast<int>(phase);
    ns[i].fetch_add(took, std::memory_order_relaxed);
    calls[i].fetch_add(1, std::memory_order_relaxed);
    flops[i].fetch_add(operations, std::memory_order_relaxed);
  }

  // What took so long while a graph was built was no building.
  void interrupted(int64_t took) {
    ns[static_cast<int>(Phase::building)].fetch_sub(took, std::memory_order_relaxed);
  }
};

// The recorder of what this thread does, or none.
inline thread_local Recorder *recording = nullptr;

inline int64_t clock_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Records for as long as it lives.
class Recording {
 public:
  explicit Recording(Recorder *r) : before_(recording) { recording = r; }
  ~Recording() { recording = before_; }
  Recording(const Recording &) = delete;

 private:
  Recorder *before_;
};

// Times its own life, if this thread is recorded.
class Timed {
 public:
  explicit Timed(Phase phase, int64_t flops = 0)
      : to_(recording), phase_(phase), flops_(flops), start_(to_ ? clock_ns() : 0) {}
  ~Timed() {
    if (to_) {
      to_->add(phase_, clock_ns() - start_, flops_);
    }
  }
  Timed(const Timed &) = delete;

 private:
  Recorder *const to_;
  const Phase phase_;
  const int64_t flops_, start_;
};

} // namespace mlxrank::cpu
