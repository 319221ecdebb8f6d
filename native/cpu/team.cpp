#include "team.h"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mlxrank::cpu {

namespace {

// Kernels follow each other within microseconds: a helper looks for the next
// that long before it sleeps.
constexpr int spins = 4000;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Team {
 public:
  // Helpers live as long as the process: kernels may run until its end.
  static Team &shared() {
    static Team *team = new Team(static_cast<int>(std::thread::hardware_concurrency()) - 1);
    return *team;
  }

  void run(int parts, const std::function<void(int)> &job) {
    std::unique_lock<std::mutex> lock(busy_, std::try_to_lock);
    if (!lock.owns_lock() || helpers_ < 1) {
      for (int part = 0; part < parts; part++) {
        job(part);
      }
      return;
    }
    job_ = &job;
    parts_ = parts;
    next_.store(0, std::memory_order_relaxed);
    finished_.store(0, std::memory_order_relaxed);
    const uint32_t round = round_.load(std::memory_order_relaxed) + 1;
    state_.store(uint64_t{round} << 32 | open, std::memory_order_release);
    round_.store(round, std::memory_order_release);
    round_.notify_all();
    work();
    // Only those who have joined are waited for: a helper that sleeps, or whose
    // core does something else, holds nobody up.
    const uint32_t joined = static_cast<uint32_t>(state_.fetch_and(~open) & (open - 1));
    while (finished_.load(std::memory_order_acquire) < joined) {
      pause();
    }
  }

 private:
  static constexpr uint64_t open = 1u << 31;

  explicit Team(int helpers) : helpers_(helpers) {
    for (int i = 0; i < helpers; i++) {
      std::thread([this] { help(); }).detach();
    }
  }

  void work() {
    for (int part; (part = next_.fetch_add(1, std::memory_order_relaxed)) < parts_;) {
      (*job_)(part);
    }
  }

  // Joins a round that is open still: nothing of a round may be touched after it
  // was closed, but by those who had joined.
  bool join(uint32_t round) {
    uint64_t state = state_.load(std::memory_order_acquire);
    while (state >> 32 == round && (state & open) != 0) {
      if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) {
        return true;
      }
    }
    return false;
  }

  void help() {
    for (uint32_t seen = 0;;) {
      for (int i = 0; i < spins && round_.load(std::memory_order_acquire) == seen; i++) {
        pause();
      }
      round_.wait(seen, std::memory_order_acquire);
      seen = round_.load(std::memory_order_acquire);
      if (join(seen)) {
        work();
        finished_.fetch_add(1, std::memory_order_release);
      }
    }
  }

  const int helpers_;
  std::mutex busy_;
  const std::function<void(int)> *job_ = nullptr;
  int parts_ = 0;
  std::atomic<int> next_{0};
  std::atomic<uint32_t> finished_{0};
  std::atomic<uint32_t> round_{0};
  std::atomic<uint64_t> state_{0}; // round, whether it is open, and how many have joined
};

} // namespace

void start_team() { Team::shared(); }

void run_in_parts(int parts, const std::function<void(int)> &job) {
  if (parts <= 1) {
    job(0);
    return;
  }
  Team::shared().run(parts, job);
}

} // namespace mlxrank::cpu
