// A session: batches of one caller, cut into microbatches. The session's workers
// compute a fused graph, the evaluator of the device an unfused one.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "../cpu/profile.h"
#include "graph.h"
#include "model.h"
#include "variant.h"
#include "workers.h"

namespace mlxrank {

class Evaluator;

class Session {
 public:
  Session(std::shared_ptr<const Model> model, const mlxrank_options &options);
  // Finishes running microbatches and drops waiting ones.
  ~Session();

  Session(const Session &) = delete;
  Session &operator=(const Session &) = delete;

  int64_t submit(const mlxrank_batch &batch);
  void collect(int64_t ticket, float *out, int64_t out_len, mlxrank_stats *stats);

  // Fills every field except size.
  void fill_layout(mlxrank_layout *out) const;

  // Fills every field except size.
  void fill_matmuls(mlxrank_matmuls *out) const { count_matmuls(*model_, variant_, out); }

  // Starts a profile at zero, or stops it and clears the figures.
  void profile(bool on);
  void read_profile(mlxrank_profile *out);

  void write_activations(const int32_t *ids, const int32_t *type_ids, int32_t length,
                         const std::string &file) const;

  // Throws MLXRANK_WRONG_THREAD unless called on the thread that opened the session.
  void check_thread() const;

 private:
  friend class Evaluator;

  using Clock = std::chrono::steady_clock;

  // Consecutive pairs of a batch that one graph computes.
  struct Microbatch {
    int32_t first_pair;
    int64_t first_token;
    int32_t width; // of the longest pair, rounded up to the grid
    mlxrank_microbatch figures; // written by the thread that evaluates it
  };

  struct Ticket {
    std::vector<int32_t> ids, type_ids, lengths;
    std::vector<Microbatch> microbatches;
    std::vector<float> logits; // [pairs, labels]
    size_t unfinished; // microbatches
    std::optional<Error> fault; // of the first microbatch that failed
    Clock::time_point submitted, finished;
  };

  // A microbatch that waits or runs, and its logits while MLX computes them.
  struct Running {
    std::shared_ptr<Ticket> ticket;
    size_t index;
    size_t slot; // of the session
    Array logits;
    std::shared_ptr<cpu::Recorder> recorder; // null if it is not profiled

    Microbatch &microbatch() const { return ticket->microbatches[index]; }
    const int32_t *lengths() const { return &ticket->lengths[microbatch().first_pair]; }
  };

  std::shared_ptr<Ticket> make_ticket(const mlxrank_batch &batch) const;
  void serve(mlx_stream stream);
  bool take(Running *next);
  bool take_or_wait(Running *next);
  void take_first(Running *next);
  bool start(Running &running, mlx_stream stream);
  void finish(Running &running, mlx_stream stream);
  void abandon(Running &running, mlx_stream stream, const Error &fault);
  void read_logits(Running &running) const;
  Batch to_batch(const Running &running) const;
  void count(const Running &running);
  int64_t busy_ns() const;
  void settle(const Running &running, const std::optional<Error> &fault);

  const std::shared_ptr<const Model> model_;
  const Variant variant_;
  const std::thread::id owner_;
  const bool gpu_;
  std::vector<Worker *> workers_; // of a fused graph
  Evaluator *evaluator_ = nullptr; // of an unfused one

  std::mutex mutex_;
  std::vector<bool> slots_; // for the microbatches that run at once, true if taken
  std::condition_variable work_, done_;
  std::deque<Running> waiting_;
  std::map<int64_t, std::shared_ptr<Ticket>> tickets_;
  int64_t next_ticket_ = 1;
  bool closing_ = false;

  // The profile, if one runs. A microbatch taken before it started has no recorder
  // or another one.
  std::shared_ptr<cpu::Recorder> recorder_;
  mlxrank_profile figures_ = {};
  int recorded_ = 0; // running microbatches with this recorder
  Clock::time_point busy_since_;
};

} // namespace mlxrank
