#include "evaluator.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "error.h"
#include "info.h"
#include "workers.h"

namespace mlxrank {

namespace {

// While a stream is free, the evaluator waits so long for more work before it
// waits for the device: a caller that has just got a batch submits the next one
// soon, and the evaluator cannot start it while it waits for the device.
constexpr auto linger = std::chrono::microseconds(500);

struct Evaluators {
  std::mutex mutex;
  Evaluator *of_device[2] = {};
};

// Leaked: the threads may still use it while the process exits.
Evaluators &evaluators() {
  static auto *instance = new Evaluators;
  return *instance;
}

} // namespace

Evaluator &Evaluator::of(int32_t device) {
  Evaluators &all = evaluators();
  std::lock_guard<std::mutex> lock(all.mutex);
  Evaluator *&found = all.of_device[device == MLXRANK_GPU];
  if (found == nullptr) {
    found = new Evaluator(device);
  }
  return *found;
}

int Evaluator::threads_started() {
  Evaluators &all = evaluators();
  std::lock_guard<std::mutex> lock(all.mutex);
  return static_cast<int>(std::count_if(std::begin(all.of_device), std::end(all.of_device),
                                        [](Evaluator *e) { return e; }));
}

Evaluator::Evaluator(int32_t device) : device_(device) {
  std::thread([this] { serve(); }).detach();
}

void Evaluator::run(const Job &job) {
  Task task{job};
  std::unique_lock<std::mutex> lock(mutex_);
  tasks_.push_back(&task);
  work_.notify_all();
  changed_.wait(lock, [&] { return task.done; });
  lock.unlock();
  if (task.thrown) {
    std::rethrow_exception(task.thrown);
  }
}

void Evaluator::add(Session *session, int streams) {
  run([&](mlx_stream) {
    while (streams_.size() < static_cast<size_t>(streams)) {
      Stream stream = {new_stream(), nullptr, {}, 0};
      std::lock_guard<std::mutex> lock(mutex_);
      streams_.push_back(std::move(stream));
    }
  });
  std::lock_guard<std::mutex> lock(mutex_);
  sessions_.push_back(session);
}

void Evaluator::remove(Session *session) {
  std::unique_lock<std::mutex> lock(mutex_);
  std::erase(sessions_, session);
  changed_.wait(lock, [&] {
    return std::none_of(streams_.begin(), streams_.end(),
                        [&](const Stream &s) { return s.session == session; });
  });
}

void Evaluator::wake() {
  std::lock_guard<std::mutex> lock(mutex_);
  woken_ = true;
  work_.notify_all();
}

void Evaluator::serve() {
  const auto has_work = [this] { return woken_ || !tasks_.empty(); };
  bool lingered = false;
  for (;;) {
    // While exit() waits, only what runs already is finished. Without the mark of busy
    // work, the next work blocks for good.
    const bool leaving = busy_ && is_exiting();
    if (!leaving && (run_task() || start_next())) {
      lingered = false;
      continue;
    }
    Stream *running = oldest();
    if (running != nullptr && (lingered || free_stream() == nullptr)) {
      finish(running);
      lingered = false;
      continue;
    }
    if (running == nullptr) {
      busy_.reset();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    if (running == nullptr) {
      work_.wait(lock, has_work);
    } else {
      lingered = !work_.wait_for(lock, linger, has_work);
    }
    woken_ = false;
  }
}

// Runs a job if one waits.
bool Evaluator::run_task() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (tasks_.empty()) {
      return false;
    }
  }
  if (!busy_) {
    busy_.emplace();
  }
  Task *task;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    task = tasks_.front();
    tasks_.pop_front();
  }
  try {
    if (!own_stream_) {
      own_stream_ = new_stream();
      check(mlx_set_default_stream(*own_stream_), "set default stream");
      if (device_ == MLXRANK_GPU) {
        keep_float32_exact(*own_stream_);
      }
    }
    task->job(*own_stream_);
  } catch (...) {
    task->thrown = std::current_exception();
  }
  std::lock_guard<std::mutex> lock(mutex_);
  task->done = true;
  changed_.notify_all();
  return true;
}

// Starts a microbatch if a stream is free and one waits.
bool Evaluator::start_next() {
  Stream *stream = free_stream();
  if (stream == nullptr) {
    return false;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto taken = std::find_if(sessions_.begin(), sessions_.end(),
                                    [&](Session *s) { return s->take(&stream->running); });
    if (taken == sessions_.end()) {
      return false;
    }
    stream->session = *taken;
    std::rotate(sessions_.begin(), taken + 1, sessions_.end());
  }
  if (!busy_) {
    busy_.emplace();
  }
  stream->order = ++started_;
  if (!stream->session->start(stream->running, stream->handle)) {
    release(stream);
  }
  return true;
}

void Evaluator::finish(Stream *stream) {
  stream->session->finish(stream->running, stream->handle);
  release(stream);
}

void Evaluator::release(Stream *stream) {
  stream->running = {};
  std::lock_guard<std::mutex> lock(mutex_);
  stream->session = nullptr;
  changed_.notify_all();
}

Evaluator::Stream *Evaluator::free_stream() {
  const auto found = std::find_if(streams_.begin(), streams_.end(),
                                  [](const Stream &s) { return s.session == nullptr; });
  return found == streams_.end() ? nullptr : &*found;
}

Evaluator::Stream *Evaluator::oldest() {
  Stream *oldest = nullptr;
  for (Stream &s : streams_) {
    if (s.session != nullptr && (oldest == nullptr || s.order < oldest->order)) {
      oldest = &s;
    }
  }
  return oldest;
}

mlx_stream Evaluator::new_stream() const {
  mlx_device handle = mlx_device_new_type(device_ == MLXRANK_GPU ? MLX_GPU : MLX_CPU, 0);
  const mlx_stream stream = mlx_stream_new_device(handle);
  mlx_device_free(handle);
  check(stream.ctx == nullptr, "new stream");
  return stream;
}

void run_for(const Model &model, const Job &job) {
  if (model.fused) {
    run_on_worker(job);
  } else {
    Evaluator::of(model.config.device).run(job);
  }
}

} // namespace mlxrank
