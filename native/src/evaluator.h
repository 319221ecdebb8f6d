// The evaluator: the one thread that evaluates all unfused graphs of a device.
// MLX is not safe with several threads that evaluate on a GPU. On the CPU the
// unfused graph follows the same rules, so that it rehearses what Metal runs.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "exit.h"
#include "mlx/c/mlx.h"
#include "session.h"

namespace mlxrank {

// It owns several MLX streams and computes at most one microbatch on each at a
// time. After a microbatch it synchronizes the stream, so that an error of its
// work reaches this microbatch and no later one. It takes microbatches from the
// sessions in turn.
class Evaluator {
 public:
  // Returns the evaluator of the device, which is started at first use and lives
  // until the process ends.
  static Evaluator &of(int32_t device);

  // Runs the job between microbatches, waits, and rethrows what it threw. The job
  // has a stream of its own.
  void run(const Job &job);

  // Computes the session's microbatches, up to so many at the same time.
  void add(Session *session, int streams);
  // Returns once none of the session's microbatches runs.
  void remove(Session *session);
  // Signals that a session has work.
  void wake();

  static int threads_started();

 private:
  struct Stream {
    mlx_stream handle;
    Session *session = nullptr; // whose microbatch runs, null if none
    Session::Running running;
    uint64_t order = 0; // in which it was started
  };
  struct Task {
    const Job &job;
    std::exception_ptr thrown = nullptr;
    bool done = false;
  };

  explicit Evaluator(int32_t device);

  void serve();
  bool run_task();
  bool start_next();
  void finish(Stream *stream);
  void release(Stream *stream);
  Stream *free_stream();
  Stream *oldest();
  mlx_stream new_stream() const;

  const int32_t device_;
  // Changed by the thread alone, under the lock. Of a stream only its session is
  // read elsewhere.
  std::deque<Stream> streams_;
  std::optional<mlx_stream> own_stream_; // of the jobs
  std::optional<Busy> busy_; // while anything runs
  uint64_t started_ = 0;

  std::mutex mutex_;
  std::condition_variable work_, changed_;
  std::deque<Task *> tasks_;
  std::vector<Session *> sessions_; // the next to take from is the first
  bool woken_ = false;
};

// Runs the job on a thread that may evaluate the model's arrays.
void run_for(const Model &model, const Job &job);

} // namespace mlxrank
