#include "session.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <optional>
#include <string>

#include "capacity.h"
#include "evaluator.h"
#include "exit.h"
#include "faults.h"
#include "graph.h"
#include "info.h"
#ifdef MLXRANK_CPU_KERNELS
#include "../cpu/team.h"
#endif

namespace mlxrank {

namespace {

constexpr size_t max_tickets = 2;

// On the CPU more tokens in a microbatch cost memory and gain no speed.
constexpr int32_t cpu_microbatch_tokens = 512;

// A GPU computes one microbatch while the next one's graph is built and queued.
constexpr int gpu_streams = 2;

// Widths on a GPU are multiples of this, so that MLX can reuse its cached buffers.
constexpr int32_t gpu_grid = 16;

void check_ids(const char *name, const int32_t *values, int64_t count, int32_t bound) {
  for (int64_t i = 0; i < count; i++) {
    if (values[i] < 0 || values[i] >= bound) {
      invalid("batch: " + std::string(name) + "[" + std::to_string(i) + "] is " +
              std::to_string(values[i]) + ", want 0 to " + std::to_string(bound - 1));
    }
  }
}

void check_microbatches(const mlxrank_batch &b) {
  if (b.microbatches == nullptr) {
    invalid("batch: microbatches are missing");
  }
  int64_t sum = 0;
  for (int32_t i = 0; i < b.microbatch_count; i++) {
    if (b.microbatches[i] < 1) {
      invalid("batch: microbatch " + std::to_string(i) + " has " +
              std::to_string(b.microbatches[i]) + " pairs, want at least 1");
    }
    sum += b.microbatches[i];
  }
  if (sum != b.pairs) {
    invalid("batch: microbatches add up to " + std::to_string(sum) + " pairs, want " +
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
    invalid("batch: lengths add up to " + std::to_string(sum) + " tokens, want " +
            std::to_string(b.tokens));
  }
  check_ids("ids", b.ids, sum, c.vocab_size);
  check_ids("type_ids", b.type_ids, sum, c.type_vocab_size);
  check_microbatches(b);
}

// Appends n values, and zeros up to room.
void append(std::vector<int32_t> &to, const int32_t *values, int32_t n, size_t room) {
  const size_t before = to.size();
  to.insert(to.end(), values, values + n);
  to.resize(before + room);
}

// Adds to an error of memory what can be done.
Error with_advice(const Error &fault, int32_t pairs, int32_t width) {
  if (!is_out_of_memory(fault.what())) {
    return fault;
  }
  return Error(fault.status, "no memory for a microbatch of " + std::to_string(pairs) +
                                 " pairs of up to " + std::to_string(width) +
                                 " tokens; lower the maximum of tokens in a batch or the length "
                                 "of pairs, or close other programs: " +
                                 fault.what());
}

// Returns the FLOPs of a microbatch's matmuls. The last layer may compute one row of each
// pair.
int64_t matmul_flops(const Model &m, int64_t pairs, int64_t tokens) {
  const mlxrank_config &c = m.config;
  const int64_t h = c.hidden_size, inner = (c.gated ? 3 : 2) * int64_t{c.intermediate_size};
  int64_t flops = m.embeddings_project.weight.empty() ? 0 : 2 * tokens * c.embedding_size * h;
  flops += (c.layers - 1) * 2 * tokens * h * (4 * h + inner);
  const int64_t rows = m.first_rows() ? pairs : tokens;
  flops += 2 * tokens * h * 2 * h + 2 * rows * h * (2 * h + inner);
  int64_t in = pooled_size(c);
  for (const HeadStep &step : m.head) {
    if (step.norm.empty()) {
      flops += 2 * pairs * in * step.dense.out;
      in = step.dense.out;
    }
  }
  return flops;
}

// Returns the FLOPs of attention in all layers.
int64_t attention_flops(const Model &m, const int32_t *lengths, int pairs) {
  int64_t flops = 0;
  for (size_t i = 0; i < m.layers.size(); i++) {
    const int64_t window = m.layers[i].window;
    const bool first = i + 1 == m.layers.size() && m.first_rows();
    for (int pair = 0; pair < pairs; pair++) {
      const int64_t n = lengths[pair], reach = window > 0 ? std::min(window, n - 1) : n - 1;
      // Of n tokens, those at a distance d of at most reach are 2 (n - d) pairs.
      flops += 4 * m.config.hidden_size *
               (first ? reach + 1 : n * (2 * reach + 1) - reach * (reach + 1));
    }
  }
  return flops;
}

int64_t nanoseconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(d).count();
}

} // namespace

Session::Session(std::shared_ptr<const Model> model, const mlxrank_options &options)
    : model_(std::move(model)),
      variant_(find_variant(*model_, options.variant != nullptr ? options.variant : "")),
      owner_(std::this_thread::get_id()),
      gpu_(model_->config.device == MLXRANK_GPU) {
  if (options.threads < 0 || options.threads > 1024) {
    invalid("options: threads is " + std::to_string(options.threads) + ", want 0 to 1024");
  }
  const int threads = options.threads > 0 ? options.threads : processors();
#ifdef MLXRANK_CPU_KERNELS
  if (model_->fused && threads > 1) {
    cpu::start_team(threads); // now, so that the first small batch need not wait for it
  }
#endif
  slots_.resize(gpu_ ? gpu_streams : threads);
  if (!model_->fused) {
    evaluator_ = &Evaluator::of(model_->config.device);
    evaluator_->add(this, static_cast<int>(slots_.size()));
    return;
  }
  workers_ = acquire_workers(threads);
  for (Worker *worker : workers_) {
    start_on(worker, [this](mlx_stream stream) { serve(stream); });
  }
}

Session::~Session() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closing_ = true;
    waiting_.clear();
  }
  work_.notify_all();
  if (evaluator_ != nullptr) {
    evaluator_->remove(this);
  }
  for (Worker *worker : workers_) {
    wait_for(worker);
  }
  release_workers(workers_);
}

void Session::fill_layout(mlxrank_layout *out) const {
  out->unpadded = variant_.unpadded;
  out->grid = gpu_ ? gpu_grid : 1;
  out->workers = gpu_ ? 1 : static_cast<int32_t>(slots_.size());
  out->microbatch_tokens =
      gpu_ ? gpu_microbatch_tokens(model_->config, gpu_working_set()) : cpu_microbatch_tokens;
  std::snprintf(out->kernels, sizeof out->kernels, "%s", kernels_of(*model_));
  std::snprintf(out->variant, sizeof out->variant, "%s", variant_.name);
}

void Session::write_activations(const int32_t *ids, const int32_t *type_ids, int32_t length,
                                const std::string &file) const {
  const int32_t one = 1;
  check_batch({sizeof(mlxrank_batch), 1, length, ids, type_ids, &length, &one, 1, 0},
              model_->config);
  if (!file.ends_with(".safetensors")) {
    invalid("file " + file + " does not end in .safetensors");
  }
  Batch batch;
  batch.ids.assign(ids, ids + length);
  batch.type_ids.assign(type_ids, type_ids + length);
  batch.lengths = {length};
  batch.width = length;
  mlxrank::write_activations(*model_, variant_, batch, file);
}

void Session::check_thread() const {
  if (std::this_thread::get_id() != owner_) {
    throw Error(MLXRANK_WRONG_THREAD, "the session belongs to the thread that opened it");
  }
}

int64_t Session::submit(const mlxrank_batch &batch) {
  check_batch(batch, model_->config);
  std::shared_ptr<Ticket> ticket = make_ticket(batch);
  std::unique_lock<std::mutex> lock(mutex_);
  if (tickets_.size() >= max_tickets) {
    throw Error(MLXRANK_BUSY, "two tickets are in flight; collect one first");
  }
  int64_t id = next_ticket_++;
  tickets_[id] = ticket;
  for (size_t i = 0; i < ticket->microbatches.size(); i++) {
    waiting_.push_back({ticket, i, 0, Array(), nullptr});
  }
  lock.unlock();
  work_.notify_all();
  if (evaluator_ != nullptr) {
    evaluator_->wake();
  }
  return id;
}

std::shared_ptr<Session::Ticket> Session::make_ticket(const mlxrank_batch &batch) const {
  auto ticket = std::make_shared<Ticket>();
  ticket->submitted = Clock::now();
  ticket->ids.assign(batch.ids, batch.ids + batch.tokens);
  ticket->type_ids.assign(batch.type_ids, batch.type_ids + batch.tokens);
  ticket->lengths.assign(batch.lengths, batch.lengths + batch.pairs);
  Microbatch m = {};
  for (int32_t i = 0; i < batch.microbatch_count; i++) {
    const auto first = ticket->lengths.begin() + m.first_pair;
    const auto last = first + batch.microbatches[i];
    m.width = *std::max_element(first, last);
    if (gpu_) {
      m.width =
          std::min((m.width + gpu_grid - 1) / gpu_grid * gpu_grid, model_->config.max_positions);
    }
    m.figures.pairs = batch.microbatches[i];
    m.figures.tokens = std::accumulate(first, last, int64_t{0});
    m.figures.computed_tokens = model_->fused ? m.figures.tokens
                                : variant_.unpadded
                                    ? computed_rows(static_cast<int>(m.figures.tokens))
                                    : int64_t{m.figures.pairs} * m.width;
    ticket->microbatches.push_back(m);
    m.first_pair += m.figures.pairs;
    m.first_token += m.figures.tokens;
  }
  ticket->unfinished = ticket->microbatches.size();
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

  if (ticket->fault) {
    throw *ticket->fault;
  }
  std::copy(ticket->logits.begin(), ticket->logits.end(), out);
  if (stats != nullptr) {
    stats->tokens = static_cast<int64_t>(ticket->ids.size());
    stats->computed_tokens = 0;
    stats->execute_ns = nanoseconds(ticket->finished - ticket->submitted);
    for (size_t i = 0; i < ticket->microbatches.size(); i++) {
      const mlxrank_microbatch &figures = ticket->microbatches[i].figures;
      stats->computed_tokens += figures.computed_tokens;
      if (stats->microbatches != nullptr && static_cast<int64_t>(i) < stats->microbatch_room) {
        stats->microbatches[i] = figures;
      }
    }
  }
}

// Computes microbatches on a worker until the session closes.
void Session::serve(mlx_stream stream) {
  for (Running next; take_or_wait(&next); next = {}) {
    const Busy busy;
    if (start(next, stream)) {
      finish(next, stream);
    }
  }
}

// Takes the next microbatch. It returns false if none waits or as many run as may.
bool Session::take(Running *next) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (waiting_.empty() || std::find(slots_.begin(), slots_.end(), false) == slots_.end()) {
    return false;
  }
  take_first(next);
  return true;
}

// Waits for a microbatch and takes it. It returns false if the session closes.
bool Session::take_or_wait(Running *next) {
  std::unique_lock<std::mutex> lock(mutex_);
  work_.wait(lock, [this] { return closing_ || !waiting_.empty(); });
  if (waiting_.empty()) {
    return false;
  }
  take_first(next);
  return true;
}

void Session::take_first(Running *next) {
  *next = std::move(waiting_.front());
  waiting_.pop_front();
  next->slot = std::find(slots_.begin(), slots_.end(), false) - slots_.begin();
  slots_[next->slot] = true;
  next->recorder = recorder_;
  if (recorder_ != nullptr && recorded_++ == 0) {
    busy_since_ = Clock::now();
  }
  mlxrank_microbatch &figures = next->microbatch().figures;
  figures.worker = gpu_ ? 0 : static_cast<int32_t>(next->slot);
  figures.start_ns = nanoseconds(Clock::now() - next->ticket->submitted);
}

Batch Session::to_batch(const Running &running) const {
  const cpu::Timed timed(cpu::Phase::copies);
  const Ticket &ticket = *running.ticket;
  const Microbatch &m = running.microbatch();
  Batch batch;
  batch.width = variant_.unpadded ? 0 : m.width;
  // If there are fewer microbatches than workers, the cores of idle workers help.
  batch.parts = static_cast<int>(std::max<size_t>(1, slots_.size() / ticket.microbatches.size()));
  batch.lengths.assign(running.lengths(), running.lengths() + m.figures.pairs);
  int64_t at = m.first_token;
  for (int32_t length : batch.lengths) {
    const size_t room = variant_.unpadded ? length : m.width;
    append(batch.ids, &ticket.ids[at], length, room);
    append(batch.type_ids, &ticket.type_ids[at], length, room);
    at += length;
  }
  return batch;
}

// Builds the graph and starts its evaluation. It returns false if that failed.
bool Session::start(Running &running, mlx_stream stream) {
  std::optional<Error> fault = attempt([&] {
    const cpu::Recording here(running.recorder.get());
    const Batch batch = to_batch(running);
    {
      const cpu::Timed timed(cpu::Phase::building);
      running.logits = forward(*model_, variant_, batch, stream);
    }
    if (fault_hook != nullptr) {
      running.logits = fault_hook(std::move(running.logits), stream);
    }
    async_eval(running.logits);
  });
  if (fault) {
    abandon(running, stream, *fault);
  }
  return !fault;
}

// Waits for a microbatch and gives its logits, or its failure, to its ticket. An
// evaluated array may be there although MLX knows of an error on its stream, which
// only synchronizing reports.
void Session::finish(Running &running, mlx_stream stream) {
  std::optional<Error> fault = attempt([&] {
    check(mlx_array_eval(running.logits), "eval");
    check(mlx_synchronize(stream), "synchronize");
    read_logits(running);
  });
  if (fault) {
    abandon(running, stream, *fault);
    return;
  }
  settle(running, std::nullopt);
}

// Settles a microbatch that failed. What is left of its work, errors included, must
// not reach the next one on the stream.
void Session::abandon(Running &running, mlx_stream stream, const Error &fault) {
  running.logits = Array();
  attempt([&] { check(mlx_synchronize(stream), "synchronize"); });
  const mlxrank_microbatch &figures = running.microbatch().figures;
  settle(running, with_advice(fault, figures.pairs, running.microbatch().width));
}

// Copies the logits to the ticket. The microbatches of a ticket write to different
// ranges, so no lock is held.
void Session::read_logits(Running &running) const {
  const float *logits = mlx_array_data_float32(running.logits);
  check(logits == nullptr, "read logits");
  const cpu::Recording here(running.recorder.get());
  const cpu::Timed timed(cpu::Phase::copies);
  const size_t labels = model_->config.labels;
  const Microbatch &m = running.microbatch();
  for (size_t i = 0; i < m.figures.pairs * labels; i++) {
    if (!std::isfinite(logits[i])) {
      throw Error(MLXRANK_NOT_FINITE, "logit " + std::to_string(i % labels) + " of pair " +
                                          std::to_string(m.first_pair + i / labels) + " is " +
                                          std::to_string(logits[i]));
    }
  }
  std::copy_n(logits, m.figures.pairs * labels,
              running.ticket->logits.begin() + m.first_pair * labels);
  running.logits = Array(); // freed before the caller can collect the batch
}

void Session::settle(const Running &running, const std::optional<Error> &fault) {
  std::lock_guard<std::mutex> lock(mutex_);
  Ticket &ticket = *running.ticket;
  if (fault && !ticket.fault) {
    ticket.fault = fault;
  }
  slots_[running.slot] = false;
  running.microbatch().figures.finish_ns = nanoseconds(Clock::now() - ticket.submitted);
  if (running.recorder != nullptr && running.recorder == recorder_) {
    count(running);
  }
  if (--ticket.unfinished == 0) {
    ticket.finished = Clock::now();
    done_.notify_all();
  }
}

void Session::profile(bool on) {
  if (on && gpu_) {
    invalid(
        "profile: only CPU sessions can be profiled; for a GPU, capture Metal commands in Xcode");
  }
  std::lock_guard<std::mutex> lock(mutex_);
  figures_ = {};
  recorded_ = 0;
  recorder_ = on ? std::make_shared<cpu::Recorder>() : nullptr;
}

// Returns the time during which a worker computed a recorded microbatch.
int64_t Session::busy_ns() const {
  return figures_.busy_ns + (recorded_ > 0 ? nanoseconds(Clock::now() - busy_since_) : 0);
}

// Adds a microbatch's time, and the FLOPs that its tokens need without padding.
void Session::count(const Running &running) {
  const int64_t busy = busy_ns();
  if (--recorded_ == 0) {
    figures_.busy_ns = busy;
  }
  const mlxrank_microbatch &figures = running.microbatch().figures;
  figures_.pairs += figures.pairs;
  figures_.tokens += figures.tokens;
  figures_.pass_ns += figures.finish_ns - figures.start_ns;
  figures_.matmul_flops_needed += matmul_flops(*model_, figures.pairs, figures.tokens);
  figures_.attention_flops_needed +=
      attention_flops(*model_, running.lengths(), static_cast<int>(figures.pairs));
}

void Session::read_profile(mlxrank_profile *out) {
  std::lock_guard<std::mutex> lock(mutex_);
  const int32_t size = out->size;
  *out = figures_;
  out->size = size;
  out->workers = static_cast<int32_t>(slots_.size());
  out->busy_ns = busy_ns();
  out->helped_ns = recorder_ != nullptr ? recorder_->helped_ns.load() : 0;
  for (int i = 0; recorder_ != nullptr && i < cpu::Recorder::phases; i++) {
    out->ns[i] = recorder_->ns[i];
    out->calls[i] = recorder_->calls[i];
    out->flops[i] = recorder_->flops[i];
  }
}

} // namespace mlxrank
