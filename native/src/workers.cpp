#include "workers.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <thread>

#include "error.h"
#include "exit.h"
#include "mlxrank.h"

namespace mlxrank {

class Worker {
 public:
  Worker() {
    std::thread([this] { serve(); }).detach();
    wait();
  }

  // Reports why the worker has no stream; empty if it has one.
  const std::string &fault() const { return fault_; }

  void start(Job job) {
    std::lock_guard<std::mutex> lock(mutex_);
    job_ = std::move(job);
    busy_ = true;
    changed_.notify_all();
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return !busy_; });
  }

 private:
  void serve() {
    make_stream();
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      busy_ = false;
      changed_.notify_all();
      changed_.wait(lock, [this] { return busy_; });
      Job job = std::move(job_);
      job_ = nullptr;
      lock.unlock();
      job(stream_);
      job = nullptr; // freed before the worker counts as idle
      lock.lock();
    }
  }

  void make_stream() {
    const Busy busy;
    mlx_device handle = mlx_device_new_type(MLX_CPU, 0);
    try {
      stream_ = mlx_stream_new_device(handle);
      check(stream_.ctx == nullptr, "new stream");
      check(mlx_set_default_stream(stream_), "set default stream");
    } catch (...) {
      fault_ = current_error().what();
    }
    mlx_device_free(handle);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  Job job_;
  bool busy_ = true;
  std::string fault_;
  mlx_stream stream_{nullptr};
};

namespace {

struct Pool {
  std::mutex mutex;
  std::vector<Worker *> idle;
  std::vector<Worker *> all;
};

// Leaked: workers may still wait on it while the process exits.
Pool &pool() {
  static Pool *instance = new Pool;
  return *instance;
}

// A worker is never freed, even without a stream: its thread still runs.
Worker *start_worker(Pool &p) {
  Worker *worker = new Worker;
  p.all.push_back(worker);
  if (!worker->fault().empty()) {
    throw Error(MLXRANK_MLX, worker->fault());
  }
  return worker;
}

} // namespace

std::vector<Worker *> acquire_workers(int count) {
  Pool &p = pool();
  std::lock_guard<std::mutex> lock(p.mutex);
  std::vector<Worker *> &idle = p.idle;
  while (idle.size() < static_cast<size_t>(count)) {
    idle.push_back(start_worker(p));
  }
  std::vector<Worker *> taken(idle.end() - count, idle.end());
  idle.resize(idle.size() - count);
  return taken;
}

void release_workers(const std::vector<Worker *> &workers) {
  Pool &p = pool();
  std::lock_guard<std::mutex> lock(p.mutex);
  p.idle.insert(p.idle.end(), workers.begin(), workers.end());
}

void start_on(Worker *worker, Job job) { worker->start(std::move(job)); }

void wait_for(Worker *worker) { worker->wait(); }

void run_on_worker(const Job &job) {
  std::vector<Worker *> workers = acquire_workers(1);
  std::exception_ptr thrown;
  workers[0]->start([&](mlx_stream stream) {
    const Busy busy;
    try {
      job(stream);
    } catch (...) {
      thrown = std::current_exception();
    }
  });
  workers[0]->wait();
  release_workers(workers);
  if (thrown) {
    std::rethrow_exception(thrown);
  }
}

int workers_started() {
  Pool &p = pool();
  std::lock_guard<std::mutex> lock(p.mutex);
  return static_cast<int>(p.all.size());
}

} // namespace mlxrank
