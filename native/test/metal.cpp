// Tests the Metal kernels in the emulator against double precision, and that the
// emulator shows mistakes: controls are the same kernels with one mistake each.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "metal_controls.h"

using emulator::Type;

namespace {

int failures = 0;
std::mt19937 randomness(1);

const char *name_of(Type type) {
  return type == Type::float32 ? "float32" : type == Type::float16 ? "float16" : "bfloat16";
}

// Half of the distance between 1 and the next number.
double unit_of(Type type) {
  return type == Type::float32 ? 0x1p-24 : type == Type::float16 ? 0x1p-11 : 0x1p-8;
}

size_t bytes_of(Type type) { return type == Type::float32 ? 4 : 2; }

// An array of a type's format, on the heap with its exact size.
struct Array {
  Array(Type type, size_t size) : type(type), bytes(size * bytes_of(type), char(0xff)) {}

  size_t size() const { return bytes.size() / bytes_of(type); }
  void set(size_t i, double value) {
    const float x = static_cast<float>(value);
    if (type == Type::float32) {
      std::memcpy(&bytes[i * 4], &x, 4);
    } else if (type == Type::float16) {
      const emulator::NativeHalf half = static_cast<emulator::NativeHalf>(x);
      std::memcpy(&bytes[i * 2], &half, 2);
    } else {
      const emulator::bfloat rounded(x);
      std::memcpy(&bytes[i * 2], &rounded.bits, 2);
    }
  }
  double operator[](size_t i) const {
    if (type == Type::float32) {
      float x;
      std::memcpy(&x, &bytes[i * 4], 4);
      return x;
    }
    if (type == Type::float16) {
      emulator::NativeHalf x;
      std::memcpy(&x, &bytes[i * 2], 2);
      return static_cast<float>(x);
    }
    emulator::bfloat x;
    std::memcpy(&x.bits, &bytes[i * 2], 2);
    return static_cast<float>(x);
  }
  const void *data() const { return bytes.data(); }
  void *data() { return bytes.data(); }

  Type type;
  std::vector<char> bytes;
};

double normal(double deviation) {
  return std::normal_distribution<double>(0, deviation)(randomness);
}

Array random_array(Type type, size_t size, double deviation, double mean = 0) {
  Array a(type, size);
  for (size_t i = 0; i < size; i++) {
    a.set(i, mean + normal(deviation));
  }
  return a;
}

// The worst error of a comparison, as a share of what is allowed.
struct Worst {
  void add(double got, double want, double allowed) {
    const double share = std::fabs(got - want) / allowed;
    worst = share <= worst ? worst : std::isnan(share) ? INFINITY : share;
  }
  double worst = 0;
};

void require(const std::string &what, const Worst &w) {
  if (!(w.worst <= 1)) {
    failures++;
    std::fprintf(stderr, "%s: the error is %g times what is allowed\n", what.c_str(), w.worst);
  }
}

double exact_activation(int activation, double x) {
  switch (activation) {
  case 1:
    return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  case 2:
    return x < 0 ? 0 : x;
  default:
    return x / 2 * std::erfc(-x / std::sqrt(2.0));
  }
}

// Bounds the distance of a kernel's float32 result, before it is rounded to its type,
// from the exact value.
double activation_error(int activation, double x) {
  switch (activation) {
  case 1:
    return 4e-7 * std::fabs(x);
  case 2:
    return 0;
  default:
    return x > 0 ? 1.6e-7 * x : 8e-8;
  }
}

using Activation = decltype(emulator::activation);

Worst activation_worst(Type type, int activation, const Array &x, int columns, Activation run) {
  Array y(type, x.size());
  run(type, activation, x.data(), y.data(), static_cast<int>(x.size()) / columns, columns,
      randomness());
  const double least = type == Type::float16 ? 0x1p-25 : 0x1p-134; // half a subnormal
  Worst w;
  for (size_t i = 0; i < x.size(); i++) {
    const double in = x[i];
    if (std::isnan(in)) {
      w.add(std::isnan(y[i]) ? 0 : 2, 0, 1);
    } else if (std::isinf(in)) {
      const bool right =
          in > 0 ? y[i] == in : !(std::fabs(y[i]) > 1e-8); // or NaN, as 0 times infinity
      w.add(right ? 0 : 2, 0, 1);
    } else {
      const double want = exact_activation(activation, in);
      w.add(y[i], want,
            std::fabs(want) * unit_of(type) * 1.01 + activation_error(activation, in) + least);
    }
  }
  return w;
}

void test_activation() {
  for (int activation : {0, 1, 2}) {
    for (Type type : {Type::float16, Type::bfloat16}) {
      Array all(type, 1 << 16); // every number of the type
      for (uint32_t i = 0; i < (1 << 16); i++) {
        const uint16_t bits = static_cast<uint16_t>(i);
        std::memcpy(&all.bytes[i * 2], &bits, 2);
      }
      require(
          std::string("activation ") + std::to_string(activation) + " of every " + name_of(type),
          activation_worst(type, activation, all, 256, emulator::activation));
    }
    for (int size : {1, 2, 3, 5, 31, 4 * 256 + 1, 20000}) { // unaligned tails
      require("activation of float32 in " + std::to_string(size),
              activation_worst(Type::float32, activation, random_array(Type::float32, size, 3),
                               size, emulator::activation));
    }
  }
}

int runs_of(int columns) {
  const int least = (columns + 31) / 32;
  for (int runs : {2, 4, 8, 12, 16, 24, 32}) {
    if (runs >= least) {
      return runs;
    }
  }
  return 64;
}

void test_add_layer_norm() {
  for (Type type : {Type::float32, Type::float16, Type::bfloat16}) {
    for (int columns : {8, 31, 32, 33, 63, 384, 385, 768, 1024, 2048}) {
      for (double mean : {0.0, 100.0}) {
        const int rows = 1 + static_cast<int>(randomness() % 19);
        const size_t size = size_t(rows) * columns;
        const Array x = random_array(type, size, 2, mean), residual = random_array(type, size, 1);
        const Array weight = random_array(type, columns, 0.3, 1);
        const Array bias = random_array(type, columns, 0.3);
        const float epsilon = 1e-5f;
        Array y(type, size);
        emulator::add_layer_norm(type, x.data(), residual.data(), weight.data(), bias.data(),
                                 epsilon, y.data(), rows, columns, runs_of(columns), randomness());
        Worst w;
        for (int r = 0; r < rows; r++) {
          std::vector<double> sum(columns);
          for (int c = 0; c < columns; c++) {
            sum[c] = x[size_t(r) * columns + c] + residual[size_t(r) * columns + c];
          }
          const double average = std::accumulate(sum.begin(), sum.end(), 0.0) / columns;
          double squares = 0;
          for (double v : sum) {
            squares += (v - average) * (v - average);
          }
          const double scale = 1 / std::sqrt(squares / columns + epsilon);
          for (int c = 0; c < columns; c++) {
            const double want = (sum[c] - average) * scale * weight[c] + bias[c];
            // float32 rounds the sum, whose size is that of the mean.
            const double rounded = 1e-6 + 4 * 0x1p-24 * mean * scale * std::fabs(weight[c]);
            w.add(y[size_t(r) * columns + c], want,
                  std::fabs(want) * unit_of(type) * 1.01 + rounded * 4);
          }
        }
        require(
            std::string("add and LayerNorm of ") + std::to_string(columns) + " " + name_of(type),
            w);
      }
    }
  }
}

// Pairs end to end. Rows of no pair in front and behind, and with a gap also behind the
// first pair, are NaN: attention must neither read nor write them.
struct Pairs {
  Pairs(Type type, std::vector<int> pair_lengths, int heads, int head, int parts, int gap)
      : lengths(std::move(pair_lengths)), heads(heads), head(head), rows(3), x(type, 0) {
    for (int length : lengths) {
      starts.push_back(rows);
      rows += length + (starts.size() == 1 ? gap : 0);
    }
    rows += 5;
    const int columns = parts * heads * head;
    x = Array(type, size_t(rows) * columns);
    for (size_t p = 0; p < starts.size(); p++) {
      for (int i = 0; i < lengths[p] * columns; i++) {
        x.set(size_t(starts[p]) * columns + i, normal(1.5));
      }
    }
  }

  int hidden() const { return heads * head; }

  std::vector<int> lengths, starts;
  int heads, head, rows;
  Array x; // [rows, parts * hidden]
};

// Returns the exact result of one query: at of pair p attends with row query.
std::vector<double> exact_attention(const Pairs &pairs, size_t p, int head, int at,
                                    const std::function<double(int)> &query, int columns, int keys,
                                    int window) {
  std::vector<double> scores, out(pairs.head, 0);
  const int start = pairs.starts[p], length = pairs.lengths[p];
  double largest = -INFINITY, total = 0;
  for (int k = 0; k < length; k++) {
    double score = -INFINITY;
    if (window == 0 || std::abs(k - at) <= window) {
      score = 0;
      for (int d = 0; d < pairs.head; d++) {
        score += query(d) * pairs.x[size_t(start + k) * columns + keys + head * pairs.head + d];
      }
      score /= std::sqrt(static_cast<double>(pairs.head));
    }
    largest = std::max(largest, score);
    scores.push_back(score);
  }
  for (int k = 0; k < length; k++) {
    const double power = std::exp(scores[k] - largest);
    total += power;
    for (int d = 0; power > 0 && d < pairs.head; d++) {
      out[d] +=
          power *
          pairs.x[size_t(start + k) * columns + keys + pairs.hidden() + head * pairs.head + d];
    }
  }
  for (double &o : out) {
    o /= total;
  }
  return out;
}

double attention_allowed(Type type, double want) {
  return 4e-6 + 1.01 * unit_of(type) * std::fabs(want);
}

using Attention = decltype(emulator::attention);

Worst attention_worst(const Pairs &pairs, int window, Attention run) {
  const int hidden = pairs.hidden(), columns = 3 * hidden;
  std::vector<int32_t> tiles;
  for (size_t p = 0; p < pairs.lengths.size(); p++) {
    const int start = pairs.starts[p], end = start + pairs.lengths[p];
    for (int at = start; at < end; at += 32) {
      tiles.insert(tiles.end(), {at, start, end});
    }
  }
  Array y(pairs.x.type, size_t(pairs.rows) * hidden);
  const Array before = y;
  run(pairs.x.type, pairs.x.data(), tiles.data(), y.data(), columns, pairs.head, window,
      static_cast<int>(tiles.size()) / 3, randomness());
  Worst w;
  std::vector<bool> of_pair(pairs.rows, false);
  for (size_t p = 0; p < pairs.lengths.size(); p++) {
    for (int i = 0; i < pairs.lengths[p]; i++) {
      const size_t row = pairs.starts[p] + i;
      of_pair[row] = true;
      // All rows of short pairs; of long ones a sample with both ends.
      const int length = pairs.lengths[p];
      if (length > 70 && i % 13 != 0 && i < length - 3) {
        continue;
      }
      for (int h = 0; h < pairs.heads; h++) {
        auto query = [&](int d) { return pairs.x[row * columns + h * pairs.head + d]; };
        const auto want = exact_attention(pairs, p, h, i, query, columns, hidden, window);
        for (int d = 0; d < pairs.head; d++) {
          w.add(y[row * hidden + h * pairs.head + d], want[d],
                attention_allowed(pairs.x.type, want[d]));
        }
      }
    }
  }
  for (int r = 0; r < pairs.rows; r++) {
    const size_t at = r * hidden * bytes_of(y.type), size = hidden * bytes_of(y.type);
    if (!of_pair[r] && std::memcmp(&y.bytes[at], &before.bytes[at], size) != 0) {
      w.add(2, 0, 1); // a row of no pair was written
    }
  }
  return w;
}

std::vector<int> random_lengths(int count, int most) {
  std::vector<int> lengths;
  for (int i = 0; i < count; i++) {
    lengths.push_back(1 + static_cast<int>(randomness() % most));
  }
  return lengths;
}

void test_attention(bool long_run) {
  auto check = [](Type type, const std::vector<int> &lengths, int heads, int head, int window) {
    std::string what = std::string("attention, ") + name_of(type) + ", " + std::to_string(heads) +
                       " heads of " + std::to_string(head) + ", window " + std::to_string(window) +
                       ", lengths";
    for (int length : lengths) {
      what += " " + std::to_string(length);
    }
    require(what, attention_worst({type, lengths, heads, head, 3, 2}, window, emulator::attention));
  };
  for (Type type : {Type::float32, Type::float16, Type::bfloat16}) {
    for (int head : {32, 64}) {
      for (int window : {0, 5, 64}) {
        check(type, {1, 2, 7, 8, 9, 31, 32, 33, 40}, 3, head, window);
        check(type, random_lengths(3, 130), 1, head, window);
      }
    }
  }
  check(Type::float16, {512, 1, 65}, 1, 32, 0);
  check(Type::float32, {257, 64}, 1, 64, 64);
  if (long_run) {
    for (int i = 0; i < 300; i++) {
      check(static_cast<Type>(i % 3), random_lengths(1 + i % 5, 512), 1 + i % 5,
            i / 3 % 2 ? 32 : 64, std::vector<int>{0, 5, 64}[i / 6 % 3]);
    }
    for (int length = 1; length <= 512; length++) {
      check(Type::float32, {length}, 1, 32, 0);
    }
  }
}

using First = decltype(emulator::attention_first);

Worst first_worst(const Pairs &pairs, First run) {
  const int hidden = pairs.hidden(), columns = 2 * hidden;
  const int count = static_cast<int>(pairs.lengths.size());
  const Array query = random_array(pairs.x.type, size_t(count) * hidden, 1.5);
  Array y(pairs.x.type, size_t(count) * hidden);
  std::vector<int32_t> starts = pairs.starts;
  starts.push_back(pairs.starts.back() + pairs.lengths.back());
  run(pairs.x.type, query.data(), pairs.x.data(), starts.data(), y.data(), count, hidden,
      pairs.head, randomness());
  Worst w;
  for (int p = 0; p < count; p++) {
    for (int h = 0; h < pairs.heads; h++) {
      auto q = [&](int d) { return query[size_t(p) * hidden + h * pairs.head + d]; };
      const auto want = exact_attention(pairs, p, h, 0, q, columns, 0, 0);
      for (int d = 0; d < pairs.head; d++) {
        w.add(y[size_t(p) * hidden + h * pairs.head + d], want[d],
              attention_allowed(pairs.x.type, want[d]));
      }
    }
  }
  return w;
}

void test_attention_first() {
  for (Type type : {Type::float32, Type::float16, Type::bfloat16}) {
    for (int head : {32, 64}) {
      require(std::string("attention of the first token, ") + name_of(type),
              first_worst({type, {1, 2, 7, 8, 9, 31, 65, 512}, 3, head, 2, 0},
                          emulator::attention_first));
    }
  }
}

// Each mistake must show in at least one of a few runs.
void test_controls() {
  for (const emulator::AttentionControl &control : emulator::attention_controls()) {
    bool shown = false;
    for (int i = 0; i < 8 && !shown; i++) {
      const Pairs pairs(Type::float32, {9, 40, 71}, 2, 32, 3, 2);
      try {
        shown = !(attention_worst(pairs, control.window, control.run).worst <= 1);
      } catch (const std::logic_error &) {
        shown = true;
      }
    }
    if (!shown) {
      failures++;
      std::fprintf(stderr, "control: attention with this mistake passes: %s\n", control.mistake);
    }
  }
  bool shown = false;
  for (int i = 0; i < 8 && !shown; i++) {
    shown =
        !(first_worst({Type::float32, {9, 40}, 2, 32, 2, 0}, emulator::first_control()).worst <= 1);
  }
  if (!shown) {
    failures++;
    std::fprintf(stderr, "control: attention of the first token passes without its barrier\n");
  }
  const Array x = random_array(Type::float32, 1023, 1);
  if (activation_worst(Type::float32, 0, x, 1023, emulator::activation_control()).worst <= 1) {
    failures++;
    std::fprintf(stderr, "control: the activation passes without the last element\n");
  }
}

// The emulator refuses threads that wait for others that never come.
void test_divergence() {
  auto refuses = [](const char *what, const std::function<void(const emulator::Position &)> &f) {
    try {
      emulator::launch({64, 1, 1}, {64, 1, 1}, 1, f);
      failures++;
      std::fprintf(stderr, "the emulator lets pass: %s\n", what);
    } catch (const std::logic_error &) {
    }
  };
  refuses("a barrier that half of the threads skip", [](const emulator::Position &p) {
    if (p.simdgroup_index_in_threadgroup == 0) {
      emulator::barrier();
    }
  });
  refuses("threads of a simdgroup that meet in different operations",
          [](const emulator::Position &p) {
            if (p.thread_index_in_simdgroup == 0) {
              emulator::shuffle_xor(1, 1);
            } else {
              emulator::sum_of_lanes(1);
            }
          });
}

} // namespace

int main() {
  const bool long_run = std::getenv("MLXRANK_TEST_LONG") != nullptr;
  test_divergence();
  test_activation();
  test_add_layer_norm();
  test_attention(long_run);
  test_attention_first();
  test_controls();
  if (failures == 0) {
    std::printf("metal: ok\n");
  }
  return failures == 0 ? 0 : 1;
}
