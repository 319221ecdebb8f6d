#include "lanes.h"

#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "error.h"
#include "exit.h"
#include "info.h"
#include "mlxrank.h"

namespace mlxrank {

class Lane {
 public:
  explicit Lane(int32_t device) : device(device) {
    std::thread([this] { serve(); }).detach();
    wait();
  }

  // Why the lane has no stream; empty if it has one.
  const std::string &fault() const { return fault_; }

  void start(LaneJob job) {
    std::lock_guard<std::mutex> lock(mutex_);
    job_ = std::move(job);
    busy_ = true;
    changed_.notify_all();
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return !busy_; });
  }

  const int32_t device;

 private:
  void serve() {
    make_stream();
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      busy_ = false;
      changed_.notify_all();
      changed_.wait(lock, [this] { return busy_; });
      LaneJob job = std::move(job_);
      job_ = nullptr;
      lock.unlock();
      job(stream_);
      job = nullptr; // what it holds goes before the lane counts as idle
      lock.lock();
    }
  }

  void make_stream() {
    const Busy busy;
    mlx_device handle = mlx_device_new_type(device == MLXRANK_GPU ? MLX_GPU : MLX_CPU, 0);
    try {
      stream_ = mlx_stream_new_device(handle);
      check(stream_.ctx == nullptr, "new stream");
      check(mlx_set_default_stream(stream_), "set default stream");
      if (device == MLXRANK_GPU) {
        static std::once_flag once;
        std::call_once(once, [this] { keep_float32_exact(stream_); });
      }
    } catch (const std::exception &e) {
      fault_ = e.what();
    }
    mlx_device_free(handle);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  LaneJob job_;
  bool busy_ = true;
  std::string fault_;
  mlx_stream stream_{nullptr};
};

namespace {

struct Pool {
  std::mutex mutex;
  std::map<int32_t, std::vector<Lane *>> idle;
  std::vector<Lane *> all;
};

// Leaked, so that lanes may still wait on it while the process exits.
Pool &pool() {
  static Pool *instance = new Pool;
  return *instance;
}

// A lane is never freed, even one without a stream: its thread lives on.
Lane *make_lane(Pool &p, int32_t device) {
  Lane *lane = new Lane(device);
  p.all.push_back(lane);
  if (!lane->fault().empty()) {
    throw Error(MLXRANK_MLX, lane->fault());
  }
  return lane;
}

} // namespace

std::vector<Lane *> acquire_lanes(int32_t device, int count) {
  Pool &p = pool();
  std::lock_guard<std::mutex> lock(p.mutex);
  std::vector<Lane *> &idle = p.idle[device];
  while (idle.size() < static_cast<size_t>(count)) {
    idle.push_back(make_lane(p, device));
  }
  std::vector<Lane *> taken(idle.end() - count, idle.end());
  idle.resize(idle.size() - count);
  return taken;
}

void release_lanes(const std::vector<Lane *> &lanes) {
  Pool &p = pool();
  std::lock_guard<std::mutex> lock(p.mutex);
  for (Lane *lane : lanes) {
    p.idle[lane->device].push_back(lane);
  }
}

void start_on(Lane *lane, LaneJob job) { lane->start(std::move(job)); }

void wait_for(Lane *lane) { lane->wait(); }

void run_on_device(int32_t device, const LaneJob &job) {
  std::vector<Lane *> lanes = acquire_lanes(device, 1);
  std::exception_ptr thrown;
  lanes[0]->start([&](mlx_stream stream) {
    const Busy busy;
    try {
      job(stream);
    } catch (...) {
      thrown = std::current_exception();
    }
  });
  lanes[0]->wait();
  release_lanes(lanes);
  if (thrown) {
    std::rethrow_exception(thrown);
  }
}

int lanes_made() {
  Pool &p = pool();
  std::lock_guard<std::mutex> lock(p.mutex);
  return static_cast<int>(p.all.size());
}

} // namespace mlxrank
