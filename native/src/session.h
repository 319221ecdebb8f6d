// A session: batches of one caller, cut into shards, run on the lanes it holds.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "../cpu/profile.h"
#include "graph.h"
#include "lanes.h"
#include "model.h"
#include "shards.h"

namespace mlxrank {

class Session {
 public:
  Session(std::shared_ptr<const Model> model, const mlxrank_options &options);
  // Finishes what is running, drops what is waiting, gives the lanes back.
  ~Session();

  Session(const Session &) = delete;
  Session &operator=(const Session &) = delete;

  int64_t submit(const mlxrank_batch &batch);
  void collect(int64_t ticket, float *out, int64_t out_len, mlxrank_stats *stats);

  // Fills all but size.
  void fill_layout(mlxrank_layout *out) const;

  // Figures from zero, of shards taken from now on; or no more of them.
  void profile(bool on);
  void read_profile(mlxrank_profile *out);

  // Throws MLXRANK_WRONG_THREAD unless called on the thread that opened it.
  void check_thread() const;

 private:
  using Clock = std::chrono::steady_clock;

  struct Ticket {
    std::vector<int32_t> ids, type_ids, lengths;
    std::vector<int64_t> offsets; // of each pair in ids
    std::vector<Shard> shards;
    std::vector<mlxrank_shard> figures; // of the shards, each written by its lane alone
    std::vector<float> logits; // [pairs, labels]
    size_t unfinished; // shards
    std::string fault; // of the first shard that failed
    Clock::time_point submitted, finished;
  };

  // A shard taken by a lane, and its logits while MLX works on them.
  struct Running {
    std::shared_ptr<Ticket> ticket;
    size_t shard;
    Array logits;
    std::shared_ptr<cpu::Recorder> recorder; // of its work, if it is profiled
  };

  std::shared_ptr<Ticket> make_ticket(const mlxrank_batch &batch) const;
  void serve(int32_t lane, mlx_stream stream);
  bool take(Running *next, bool may_wait);
  void start(Running &running, mlx_stream stream) const;
  void finish(Running &running) const;
  Batch batch_of(const Running &running) const;
  void count(const Running &running);
  int64_t busy_ns() const;
  void settle(const Running &running, const char *fault);

  const std::shared_ptr<const Model> model_;
  const std::thread::id owner_;
  ShardLimits limits_;
  size_t depth_; // shards a lane keeps in flight
  std::vector<Lane *> lanes_;

  std::mutex mutex_;
  std::condition_variable work_, done_;
  std::deque<Running> waiting_;
  std::map<int64_t, std::shared_ptr<Ticket>> tickets_;
  int64_t next_ticket_ = 1;
  bool closing_ = false;

  // While there is a profile. A shard taken before has no recorder, or another.
  std::shared_ptr<cpu::Recorder> recorder_;
  mlxrank_profile figures_ = {};
  int recorded_ = 0; // shards at work with this recorder
  Clock::time_point busy_since_;
};

} // namespace mlxrank
