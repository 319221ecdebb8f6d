#include "session.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>

#include "exit.h"
#include "graph.h"
#include "info.h"
#ifdef MLXRANK_CPU_KERNELS
#include "../cpu/team.h"
#endif

namespace mlxrank {

namespace {

constexpr size_t max_tickets = 2;

// On the CPU more tokens than this in a shard cost memory and gain no speed; a
// GPU wants as much work at once as its memory allows.
constexpr int32_t cpu_shard_tokens = 512;
constexpr int32_t gpu_shard_tokens = 16384;

// Widths on a GPU come in steps, so that MLX finds its cached buffers fitting.
constexpr int32_t gpu_grid = 16;

void check_ids(const char *name, const int32_t *values, int64_t count, int32_t bound) {
  for (int64_t i = 0; i < count; i++) {
    if (values[i] < 0 || values[i] >= bound) {
      invalid("batch: " + std::string(name) + "[" + std::to_string(i) + "] is " +
              std::to_string(values[i]) + ", want 0 to " + std::to_string(bound - 1));
    }
  }
}

void check_shards(const mlxrank_batch &b) {
  if (b.shards == nullptr) {
    return;
  }
  int64_t sum = 0;
  for (int32_t i = 0; i < b.shard_count; i++) {
    if (b.shards[i] < 1) {
      invalid("batch: shard " + std::to_string(i) + " has " + std::to_string(b.shards[i]) +
              " pairs, want at least 1");
    }
    sum += b.shards[i];
  }
  if (sum != b.pairs) {
    invalid("batch: shards add up to " + std::to_string(sum) + " pairs, not " +
            std::to_string(b.pairs));
  }
}

void check_batch(const mlxrank_batch &b, const mlxrank_config &c) {
  if (b.pairs < 1 || b.ids == nullptr || b.type_ids == nullptr || b.lengths == nullptr) {
    invalid("batch: no pairs, or an array is missing");
  }
  int64_t sum = 0;
  for (int32_t i = 0; i < b.pairs; i++) {
    if (b.lengths[i] < 1 || b.lengths[i] > c.max_positions) {
      invalid("batch: pair " + std::to_string(i) + " has " + std::to_string(b.lengths[i]) +
              " tokens, want 1 to " + std::to_string(c.max_positions));
    }
    sum += b.lengths[i];
  }
  if (sum != b.tokens) {
    invalid("batch: lengths add up to " + std::to_string(sum) + " tokens, not " +
            std::to_string(b.tokens));
  }
  check_ids("ids", b.ids, sum, c.vocab_size);
  check_ids("type_ids", b.type_ids, sum, c.type_vocab_size);
  check_shards(b);
}

// Adds n values, and zeros up to room.
void append(std::vector<int32_t> &to, const int32_t *values, int32_t n, size_t room) {
  const size_t before = to.size();
  to.insert(to.end(), values, values + n);
  to.resize(before + room);
}

int64_t nanoseconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(d).count();
}

} // namespace

Session::Session(std::shared_ptr<const Model> model, const mlxrank_options &options)
    : model_(std::move(model)), owner_(std::this_thread::get_id()) {
  const bool gpu = model_->config.device == MLXRANK_GPU;
  if (options.threads < 0 || options.threads > 1024 || options.shard_tokens < 0) {
    invalid("options: threads and shard_tokens must not be negative, nor threads over 1024");
  }
  int threads = gpu ? 1 : options.threads > 0 ? options.threads : processors();
  int32_t tokens = gpu ? gpu_shard_tokens : cpu_shard_tokens;
  limits_ = {threads, options.shard_tokens > 0 ? options.shard_tokens : tokens,
             gpu ? gpu_grid : 1, model_->config.max_positions, model_->packed};
  depth_ = gpu ? 2 : 1;
#ifdef MLXRANK_CPU_KERNELS
  if (model_->packed && threads > 1) {
    cpu::start_team(threads); // now, and not in the midst of the first small batch
  }
#endif
  lanes_ = acquire_lanes(model_->config.device, threads);
  for (size_t i = 0; i < lanes_.size(); i++) {
    start_on(lanes_[i], [this, i](mlx_stream stream) { serve(static_cast<int32_t>(i), stream); });
  }
}

Session::~Session() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closing_ = true;
    waiting_.clear();
  }
  work_.notify_all();
  for (Lane *lane : lanes_) {
    wait_for(lane);
  }
  release_lanes(lanes_);
}

void Session::fill_layout(mlxrank_layout *out) const {
  out->packed = limits_.packed;
  out->grid = limits_.grid;
  out->lanes = limits_.lanes;
  out->shard_tokens = limits_.tokens;
  std::snprintf(out->kernels, sizeof out->kernels, "%s", kernels_of(*model_));
}

void Session::check_thread() const {
  if (std::this_thread::get_id() != owner_) {
    throw Error(MLXRANK_WRONG_THREAD, "the session belongs to the thread that opened it");
  }
}

int64_t Session::submit(const mlxrank_batch &batch) {
  check_batch(batch, model_->config);
  std::shared_ptr<Ticket> ticket = make_ticket(batch);
  std::lock_guard<std::mutex> lock(mutex_);
  if (tickets_.size() >= max_tickets) {
    throw Error(MLXRANK_BUSY, "two tickets are in flight; collect one first");
  }
  int64_t id = next_ticket_++;
  tickets_[id] = ticket;
  for (size_t i = 0; i < ticket->shards.size(); i++) {
    waiting_.push_back({ticket, i, Array(), nullptr});
  }
  work_.notify_all();
  return id;
}

std::shared_ptr<Session::Ticket> Session::make_ticket(const mlxrank_batch &batch) const {
  auto ticket = std::make_shared<Ticket>();
  ticket->submitted = Clock::now();
  ticket->ids.assign(batch.ids, batch.ids + batch.tokens);
  ticket->type_ids.assign(batch.type_ids, batch.type_ids + batch.tokens);
  ticket->lengths.assign(batch.lengths, batch.lengths + batch.pairs);
  int64_t offset = 0;
  for (int32_t length : ticket->lengths) {
    ticket->offsets.push_back(offset);
    offset += length;
  }
  ticket->shards = batch.shards == nullptr
                       ? plan_shards(ticket->lengths, limits_)
                       : cut_shards(ticket->lengths, batch.shards, batch.shard_count, limits_);
  for (const Shard &shard : ticket->shards) {
    mlxrank_shard figures = {};
    figures.pairs = static_cast<int32_t>(shard.pairs.size());
    for (int32_t pair : shard.pairs) {
      figures.tokens += ticket->lengths[pair];
    }
    figures.computed_tokens =
        model_->packed ? figures.tokens : static_cast<int64_t>(shard.pairs.size()) * shard.width;
    ticket->figures.push_back(figures);
  }
  ticket->unfinished = ticket->shards.size();
  ticket->logits.resize(static_cast<size_t>(batch.pairs) * model_->config.labels);
  return ticket;
}

void Session::collect(int64_t id, float *out, int64_t out_len, mlxrank_stats *stats) {
  std::unique_lock<std::mutex> lock(mutex_);
  auto found = tickets_.find(id);
  if (found == tickets_.end()) {
    invalid("ticket " + std::to_string(id) + " is not in flight");
  }
  std::shared_ptr<Ticket> ticket = found->second;
  if (out == nullptr || out_len != static_cast<int64_t>(ticket->logits.size())) {
    invalid("collect: room for " + std::to_string(out_len) + " logits, want " +
            std::to_string(ticket->logits.size()));
  }
  done_.wait(lock, [&] { return ticket->unfinished == 0; });
  tickets_.erase(id);
  lock.unlock();

  if (!ticket->fault.empty()) {
    throw Error(MLXRANK_MLX, ticket->fault);
  }
  std::copy(ticket->logits.begin(), ticket->logits.end(), out);
  if (stats != nullptr) {
    stats->shards = static_cast<int32_t>(ticket->shards.size());
    stats->tokens = static_cast<int64_t>(ticket->ids.size());
    stats->computed_tokens = 0;
    for (const mlxrank_shard &shard : ticket->figures) {
      stats->computed_tokens += shard.computed_tokens;
    }
    stats->execute_ns = nanoseconds(ticket->finished - ticket->submitted);
    if (stats->shard != nullptr) {
      size_t room = static_cast<size_t>(std::max(stats->shard_room, 0));
      std::copy_n(ticket->figures.begin(), std::min(room, ticket->figures.size()), stats->shard);
    }
  }
}

// A lane's work for as long as the session lives. With a depth of two the next
// graph is built and queued while the device still runs the one before.
void Session::serve(int32_t lane, mlx_stream stream) {
  std::deque<Running> in_flight;
  std::optional<Busy> busy; // while there is one in flight
  for (;;) {
    Running next;
    if (in_flight.size() < depth_ && take(&next, in_flight.empty())) {
      if (!busy) {
        busy.emplace();
      }
      mlxrank_shard &figures = next.ticket->figures[next.shard];
      figures.lane = lane;
      figures.start_ns = nanoseconds(Clock::now() - next.ticket->submitted);
      try {
        start(next, stream);
        in_flight.push_back(std::move(next));
      } catch (const std::exception &e) {
        settle(next, e.what());
      }
      next = Running();
    } else if (!in_flight.empty()) {
      Running &oldest = in_flight.front();
      try {
        finish(oldest);
        settle(oldest, nullptr);
      } catch (const std::exception &e) {
        settle(oldest, e.what());
      }
      in_flight.pop_front();
    } else {
      return; // closing
    }
    if (in_flight.empty()) {
      busy.reset();
    }
  }
}

// Takes the next shard; false if there is none, or none ever again.
bool Session::take(Running *next, bool may_wait) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (may_wait) {
    work_.wait(lock, [this] { return closing_ || !waiting_.empty(); });
  }
  if (waiting_.empty()) {
    return false;
  }
  *next = std::move(waiting_.front());
  waiting_.pop_front();
  next->recorder = recorder_;
  if (recorder_ != nullptr && recorded_++ == 0) {
    busy_since_ = Clock::now();
  }
  return true;
}

Batch Session::batch_of(const Running &running) const {
  const cpu::Timed timed(cpu::Phase::copies);
  const Ticket &ticket = *running.ticket;
  const Shard &shard = ticket.shards[running.shard];
  const bool packed = model_->packed;
  Batch batch;
  batch.width = packed ? 0 : shard.width;
  // Where there are fewer shards than lanes, the lanes left over help.
  batch.parts = std::max(1, limits_.lanes / static_cast<int>(ticket.shards.size()));
  for (int32_t pair : shard.pairs) {
    const int32_t length = ticket.lengths[pair];
    const size_t room = packed ? length : shard.width;
    append(batch.ids, ticket.ids.data() + ticket.offsets[pair], length, room);
    append(batch.type_ids, ticket.type_ids.data() + ticket.offsets[pair], length, room);
    batch.lengths.push_back(length);
  }
  return batch;
}

void Session::start(Running &running, mlx_stream stream) const {
  const cpu::Recording here(running.recorder.get());
  const Batch batch = batch_of(running);
  {
    const cpu::Timed timed(cpu::Phase::building);
    running.logits = forward(*model_, batch, stream);
  }
  async_eval(running.logits);
}

// Waits for a shard and scatters its logits to the pairs' places. Shards of a
// ticket write to different places, so no lock is held.
void Session::finish(Running &running) const {
  check(mlx_array_eval(running.logits), "eval");
  const float *logits = mlx_array_data_float32(running.logits);
  check(logits == nullptr, "read logits");
  const cpu::Recording here(running.recorder.get());
  const cpu::Timed timed(cpu::Phase::copies);
  const size_t labels = model_->config.labels;
  const Shard &shard = running.ticket->shards[running.shard];
  for (size_t row = 0; row < shard.pairs.size(); row++) {
    size_t pair = shard.pairs[row];
    std::copy_n(logits + row * labels, labels, running.ticket->logits.begin() + pair * labels);
  }
  running.logits = Array(); // given back before the caller hears of it
}

void Session::settle(const Running &running, const char *fault) {
  std::lock_guard<std::mutex> lock(mutex_);
  Ticket &ticket = *running.ticket;
  if (fault != nullptr && ticket.fault.empty()) {
    ticket.fault = fault;
  }
  ticket.figures[running.shard].finish_ns = nanoseconds(Clock::now() - ticket.submitted);
  if (running.recorder != nullptr && running.recorder == recorder_) {
    count(running);
  }
  if (--ticket.unfinished == 0) {
    ticket.finished = Clock::now();
    done_.notify_all();
  }
}

void Session::profile(bool on) {
  if (on && model_->config.device == MLXRANK_GPU) {
    invalid("profile: it is of the CPU's work; for a GPU's, capture MLX's Metal commands in Xcode");
  }
  std::lock_guard<std::mutex> lock(mutex_);
  figures_ = {};
  recorded_ = 0;
  recorder_ = on ? std::make_shared<cpu::Recorder>() : nullptr;
}

// At least one recorded shard was at work.
int64_t Session::busy_ns() const {
  return figures_.busy_ns + (recorded_ > 0 ? nanoseconds(Clock::now() - busy_since_) : 0);
}

// Adds a shard's time, and what its real tokens need.
void Session::count(const Running &running) {
  const int64_t busy = busy_ns();
  if (--recorded_ == 0) {
    figures_.busy_ns = busy;
  }
  const Ticket &ticket = *running.ticket;
  const mlxrank_shard &shard = ticket.figures[running.shard];
  const mlxrank_config &c = model_->config;
  const int64_t h = c.hidden_size, f = c.intermediate_size, full = c.layers - 1;
  const int64_t tokens = shard.tokens, pairs = shard.pairs;
  int64_t squares = 0;
  for (int32_t pair : ticket.shards[running.shard].pairs) {
    squares += int64_t{ticket.lengths[pair]} * ticket.lengths[pair];
  }
  figures_.pairs += pairs;
  figures_.tokens += tokens;
  figures_.pass_ns += shard.finish_ns - shard.start_ns;
  figures_.product_flops_needed += full * 2 * tokens * h * (4 * h + 2 * f) + 2 * tokens * h * 2 * h +
                                   2 * pairs * h * (2 * h + 2 * f + h + c.labels);
  figures_.attention_flops_needed += full * 4 * squares * h + 4 * tokens * h;
}

void Session::read_profile(mlxrank_profile *out) {
  std::lock_guard<std::mutex> lock(mutex_);
  const int32_t size = out->size;
  *out = figures_;
  out->size = size;
  out->lanes = limits_.lanes;
  out->busy_ns = busy_ns();
  out->helped_ns = recorder_ != nullptr ? recorder_->helped_ns.load() : 0;
  for (int i = 0; recorder_ != nullptr && i < cpu::Recorder::phases; i++) {
    out->ns[i] = recorder_->ns[i];
    out->calls[i] = recorder_->calls[i];
    out->flops[i] = recorder_->flops[i];
  }
}

} // namespace mlxrank
