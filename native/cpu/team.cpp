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

// How often a helper checks for the next kernel before it sleeps: kernels follow
// each other within microseconds.
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
  // Leaked: kernels may run until the process ends.
  static Team &shared() {
    static Team *team = new Team;
    return *team;
  }

  // Starts missing helpers. More helpers than a session has threads would wake for
  // nothing, and spin on processors that the session may not use.
  void grow(int helpers) {
    std::lock_guard<std::mutex> lock(busy_);
    for (; helpers_ < helpers; helpers_++) {
      const uint32_t seen = round_.load(std::memory_order_relaxed);
      std::thread([this, seen] { help(seen); }).detach();
    }
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
    // Waits only for helpers that joined: a helper that sleeps, or whose core is
    // busy elsewhere, delays no one.
    const uint32_t joined = static_cast<uint32_t>(state_.fetch_and(~open) & (open - 1));
    wait_until_finished(joined);
  }

 private:
  static constexpr uint64_t open = 1u << 31;

  // A helper that lost its processor within a part may take long. After a while the
  // caller sleeps, and no longer spins on the processor that the helper needs.
  void wait_until_finished(uint32_t joined) {
    for (int i = 0;; i++) {
      const uint32_t finished = finished_.load(std::memory_order_acquire);
      if (finished >= joined) {
        return;
      }
      if (i < spins) {
        pause();
      } else {
        finished_.wait(finished, std::memory_order_acquire);
      }
    }
  }

  void work() {
    for (int part; (part = next_.fetch_add(1, std::memory_order_relaxed)) < parts_;) {
      (*job_)(part);
    }
  }

  // Joins a round if it is still open. After a round is closed, only threads that
  // had joined may use its state.
  bool join(uint32_t round) {
    uint64_t state = state_.load(std::memory_order_acquire);
    while (state >> 32 == round && (state & open) != 0) {
      if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) {
        return true;
      }
    }
    return false;
  }

  void help(uint32_t seen) {
    for (;;) {
      for (int i = 0; i < spins && round_.load(std::memory_order_acquire) == seen; i++) {
        pause();
      }
      round_.wait(seen, std::memory_order_acquire);
      seen = round_.load(std::memory_order_acquire);
      if (join(seen)) {
        work();
        finished_.fetch_add(1, std::memory_order_release);
        finished_.notify_one();
      }
    }
  }

  std::mutex busy_;
  int helpers_ = 0; // guarded by busy_
  const std::function<void(int)> *job_ = nullptr;
  int parts_ = 0;
  std::atomic<int> next_{0};
  std::atomic<uint32_t> finished_{0};
  std::atomic<uint32_t> round_{0};
  std::atomic<uint64_t> state_{0}; // round, the open bit, and how many joined
};

} // namespace

void start_team(int threads) { Team::shared().grow(threads - 1); }

void run_in_parts(int parts, const std::function<void(int)> &job) {
  if (parts <= 1) {
    job(0);
    return;
  }
  Team::shared().run(parts, job);
}

} // namespace mlxrank::cpu
