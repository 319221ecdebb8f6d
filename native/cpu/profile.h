// Measures where the time of a forward pass goes, or counts its matmuls. A thread
// without a recorder reads no clock and counts nothing.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

#include "matmuls.h"

namespace mlxrank::cpu {

// Classes of work, in the order of mlxrank.h. Bias and activation that the GEMM
// adds in registers count as matmul.
enum class Phase { matmul, attention, activation, norm, gather, building, copies, count };

// Kernels share ownership of it: some may still be queued when a microbatch has
// failed or the session is closed.
struct Recorder : std::enable_shared_from_this<Recorder> {
  static constexpr int phases = static_cast<int>(Phase::count);
  std::atomic<int64_t> ns[phases]{}, calls[phases]{}, flops[phases]{};
  std::atomic<int64_t> helped_ns{0}; // by helpers
  std::unique_ptr<Matmuls> matmuls; // null unless matmuls are counted, and no time is read then

  void add(Phase phase, int64_t took, int64_t operations) {
    const int i = static_cast<int>(phase);
    ns[i].fetch_add(took, std::memory_order_relaxed);
    calls[i].fetch_add(1, std::memory_order_relaxed);
    flops[i].fetch_add(operations, std::memory_order_relaxed);
  }

  // Subtracts from building the time of something else that ran meanwhile.
  void interrupted(int64_t took) {
    ns[static_cast<int>(Phase::building)].fetch_sub(took, std::memory_order_relaxed);
  }
};

// This thread's recorder, or null.
inline thread_local Recorder *recording = nullptr;

// Reports whether this thread records time.
inline bool is_timed() { return recording != nullptr && recording->matmuls == nullptr; }

// Counts a matmul if this thread's recorder counts them. A kernel calls it with the types
// that it multiplies, which are MLXRANK_FLOAT32 and so on, and with the bits of small weights.
inline void count_matmul(int32_t part, int32_t left, int32_t right, int32_t bits = 0) {
  if (recording != nullptr && recording->matmuls != nullptr) {
    recording->matmuls->add({part, left, right, left, bits});
  }
}

inline int64_t clock_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Sets this thread's recorder during its own lifetime.
class Recording {
 public:
  explicit Recording(Recorder *r) : before_(recording) { recording = r; }
  ~Recording() { recording = before_; }
  Recording(const Recording &) = delete;

 private:
  Recorder *before_;
};

// Times its own lifetime if this thread has a recorder.
class Timed {
 public:
  explicit Timed(Phase phase, int64_t flops = 0)
      : to_(is_timed() ? recording : nullptr),
        phase_(phase),
        flops_(flops),
        start_(to_ ? clock_ns() : 0) {}
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
