// The threads of the emulator: fibers, and how they wait for each other.
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "metal.h"
#undef device
#undef constant
#undef threadgroup

// Saves the caller's registers on its stack, stores its stack pointer in *from, and
// continues where to was saved.
extern "C" void emulator_switch(void **from, void *to);
#if defined(__x86_64__)
asm(R"(
.text
.globl emulator_switch
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
constexpr int saved_words = 6, return_word = 6;
#elif defined(__aarch64__)
asm(R"(
.text
.globl emulator_switch
emulator_switch:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
constexpr int saved_words = 20, return_word = 11;
#endif

namespace emulator {

namespace {

constexpr int lanes = 32;
constexpr size_t stack_bytes = 64 << 10;

enum class State { ready, at_barrier, at_simd, finished };
enum class Operation { sum, shuffle, multiply };

struct Fiber {
  std::unique_ptr<char[]> stack;
  void *saved = nullptr;
  State state = State::finished;
  Position position = {};
  size_t arrays = 0; // of threadgroup memory that it asked for
};

// Simdgroup holds what its threads exchange.
struct Simdgroup {
  int waiting = 0;
  Operation operation = Operation::sum;
  bool mixed = false; // threads wait for different operations
  bool arrived[lanes] = {};
  float in[lanes][6], out[lanes][2];
  uint mask[lanes];
};

class Machine {
 public:
  static Machine &machine(); // of this thread

  void run(int threads, const std::function<void(const Position &)> &kernel,
           const std::function<Position(int)> &position) {
    kernel_ = &kernel;
    threads_ = threads;
    at_barrier_ = finished_ = 0;
    arrays_.clear();
    simdgroups_.assign((threads + lanes - 1) / lanes, {});
    ready_.clear();
    while (fibers_.size() < static_cast<size_t>(threads)) {
      fibers_.emplace_back();
      fibers_.back().stack.reset(new char[stack_bytes]);
    }
    for (int i = 0; i < threads; i++) {
      fibers_[i].position = position(i);
      fibers_[i].arrays = 0;
      prepare(fibers_[i]);
      wake(i);
    }
    while (!ready_.empty()) {
      const size_t pick = random_() % ready_.size();
      current_ = ready_[pick];
      ready_[pick] = ready_.back();
      ready_.pop_back();
      emulator_switch(&scheduler_, fibers_[current_].saved);
    }
    if (finished_ != threads_) {
      throw std::logic_error(
          "threads wait for others that never come: " + std::to_string(at_barrier_) +
          " at a barrier, " + std::to_string(finished_) + " finished, of " +
          std::to_string(threads_));
    }
    for (const Simdgroup &s : simdgroups_) {
      if (s.mixed) {
        throw std::logic_error("threads of a simdgroup meet in different operations");
      }
    }
  }

  void seed(uint64_t seed) { random_.seed(static_cast<uint32_t>(seed)); }

  uint32_t random() { return random_(); }

  void *array(size_t bytes) {
    const size_t index = fibers_[current_].arrays++;
    if (index == arrays_.size()) {
      arrays_.emplace_back(bytes, static_cast<char>(0xff)); // NaN in every format
    }
    return arrays_[index].data();
  }

  void barrier() {
    if (++at_barrier_ < threads_) {
      wait(State::at_barrier);
      return;
    }
    at_barrier_ = 0;
    for (int i = 0; i < threads_; i++) {
      if (i != current_) {
        wake(i);
      }
    }
  }

  // Brings a thread's inputs and returns its results once its whole simdgroup has come.
  const float *exchange(Operation operation, const float *in, int count, uint mask) {
    const int group = current_ / lanes, lane = current_ % lanes;
    Simdgroup &s = simdgroups_[group];
    s.mixed |= s.waiting > 0 && s.operation != operation;
    s.operation = operation;
    std::copy(in, in + count, s.in[lane]);
    s.mask[lane] = mask;
    s.arrived[lane] = true;
    s.waiting++;
    if (s.waiting < live(group)) {
      wait(State::at_simd);
    } else {
      complete(group);
    }
    return s.out[lane];
  }

 private:
  static void enter() { machine().body(); }

  void body() {
    (*kernel_)(fibers_[current_].position);
    fibers_[current_].state = State::finished;
    finished_++;
    const int group = current_ / lanes;
    if (simdgroups_[group].waiting > 0 && simdgroups_[group].waiting == live(group)) {
      complete(group);
    }
    emulator_switch(&fibers_[current_].saved, scheduler_);
    std::abort(); // a finished fiber does not continue
  }

  // Makes a fiber that begins in enter.
  static void prepare(Fiber &f) {
    uintptr_t top = reinterpret_cast<uintptr_t>(f.stack.get() + stack_bytes) & ~uintptr_t{15};
    void **words = reinterpret_cast<void **>(top) - saved_words - 4;
    std::fill(words, words + saved_words + 4, nullptr);
    words[return_word] = reinterpret_cast<void *>(&Machine::enter);
    f.saved = words;
  }

  void wake(int i) {
    fibers_[i].state = State::ready;
    ready_.push_back(i);
  }

  void wait(State state) {
    Fiber &f = fibers_[current_];
    f.state = state;
    emulator_switch(&f.saved, scheduler_);
  }

  // Returns how many threads of a simdgroup have not finished.
  int live(int group) const {
    int count = 0;
    for (int i = group * lanes; i < std::min(threads_, (group + 1) * lanes); i++) {
      count += fibers_[i].state != State::finished;
    }
    return count;
  }

  void complete(int group) {
    Simdgroup &s = simdgroups_[group];
    switch (s.operation) {
    case Operation::sum:
      sum(s);
      break;
    case Operation::shuffle:
      for (int i = 0; i < lanes; i++) {
        s.out[i][0] = s.in[(i ^ s.mask[i]) % lanes][0];
      }
      break;
    case Operation::multiply:
      multiply(s);
      break;
    }
    for (int i = 0; i < lanes; i++) {
      if (s.arrived[i] && group * lanes + i != current_) {
        wake(group * lanes + i);
      }
      s.arrived[i] = false;
    }
    s.waiting = 0;
  }

  static void sum(Simdgroup &s) {
    float total = 0;
    for (int i = 0; i < lanes; i++) {
      total += s.arrived[i] ? s.in[i][0] : 0;
    }
    for (auto &out : s.out) {
      out[0] = total;
    }
  }

  // Maps threads to elements as MLX's steel/attn/mma.h does, in its words.
  static void multiply(Simdgroup &s) {
    float a[8][8], b[8][8];
    int rows[lanes], columns[lanes];
    for (int i = 0; i < lanes; i++) {
      const int qid = i / 4;
      rows[i] = (qid & 4) + ((i / 2) % 4);
      columns[i] = (qid & 2) * 2 + (i % 2) * 2;
      for (int e = 0; e < 2; e++) {
        a[rows[i]][columns[i] + e] = s.in[i][e];
        b[rows[i]][columns[i] + e] = s.in[i][2 + e];
      }
    }
    for (int i = 0; i < lanes; i++) {
      for (int e = 0; e < 2; e++) {
        float sum = s.in[i][4 + e];
        for (int k = 0; k < 8; k++) {
          sum += a[rows[i]][k] * b[k][columns[i] + e];
        }
        s.out[i][e] = sum;
      }
    }
  }

  const std::function<void(const Position &)> *kernel_ = nullptr;
  std::vector<Fiber> fibers_;
  std::vector<Simdgroup> simdgroups_;
  std::vector<std::vector<char>> arrays_; // of threadgroup memory
  std::vector<int> ready_;
  std::minstd_rand random_;
  void *scheduler_ = nullptr;
  int threads_ = 0, current_ = 0, at_barrier_ = 0, finished_ = 0;
};

Machine &Machine::machine() {
  thread_local Machine instance;
  return instance;
}

} // namespace

void launch(uint3 grid, uint3 group, uint64_t seed,
            const std::function<void(const Position &)> &kernel) {
  Machine &m = Machine::machine();
  m.seed(seed);
  auto groups = [](uint threads, uint size) { return (threads + size - 1) / size; };
  const uint3 count{groups(grid.x, group.x), groups(grid.y, group.y), groups(grid.z, group.z)};
  std::vector<uint> order(count.x * count.y * count.z);
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i > 1; i--) {
    std::swap(order[i - 1], order[m.random() % i]);
  }
  for (uint index : order) {
    const uint3 at{index % count.x, index / count.x % count.y, index / count.x / count.y};
    // Threadgroups at the grid's edge are smaller.
    const uint3 size{std::min(group.x, grid.x - at.x * group.x),
                     std::min(group.y, grid.y - at.y * group.y),
                     std::min(group.z, grid.z - at.z * group.z)};
    m.run(static_cast<int>(size.x * size.y * size.z), kernel, [&](int i) {
      const uint t = static_cast<uint>(i);
      const uint3 in{t % size.x, t / size.x % size.y, t / size.x / size.y};
      return Position{{at.x * group.x + in.x, at.y * group.y + in.y, at.z * group.z + in.z},
                      at,
                      in,
                      t / lanes,
                      t % lanes};
    });
  }
}

void *shared_bytes(size_t bytes) { return Machine::machine().array(bytes); }

void barrier() { Machine::machine().barrier(); }

float sum_of_lanes(float x) { return *Machine::machine().exchange(Operation::sum, &x, 1, 0); }

float shuffle_xor(float x, uint mask) {
  return *Machine::machine().exchange(Operation::shuffle, &x, 1, mask);
}

void multiply_accumulate(float *d, const float *a, const float *b, const float *c) {
  const float in[6] = {a[0], a[1], b[0], b[1], c[0], c[1]};
  std::copy_n(Machine::machine().exchange(Operation::multiply, in, 6, 0), 2, d);
}

} // namespace emulator
