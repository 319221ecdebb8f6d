// Compares every kernel, with every instruction set that this processor has, with
// double precision, on sizes that are not multiples of any panel. Also tests the
// team of threads that share kernels.
#include "kernels.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "exact_activation.h"
#include "hwy/targets.h"
#include "not_finite.h"
#include "small_kernels.h"
#include "team.h"

using namespace mlxrank::cpu;

namespace {

std::atomic<int> failures{0};
double worst = 0;
std::mt19937 generator(20261125);

using Numbers = std::vector<float>;

Numbers random_numbers(size_t n, float scale = 1, float offset = 0) {
  std::uniform_real_distribution<float> uniform(-1, 1);
  Numbers out(n);
  for (float &x : out) {
    x = offset + scale * uniform(generator);
  }
  return out;
}

double difference(const Numbers &got, const std::vector<double> &want) {
  double off = 0;
  for (size_t i = 0; i < want.size(); i++) {
    off = std::max(off, std::abs(got[i] - want[i]));
  }
  return off;
}

void expect(const char *what, const Numbers &got, const std::vector<double> &want,
            double most = 4e-6) {
  const double off = difference(got, want);
  worst = std::max(worst, off);
  if (!(off <= most) || got.size() != want.size()) {
    failures++;
    std::fprintf(stderr, "%s: %s is off by %g, want at most %g\n", target(), what, off, most);
  }
}

// Rounds to the nearest bfloat16, ties to even.
float rounded(double x) {
  const auto single = static_cast<float>(x);
  uint32_t bits;
  std::memcpy(&bits, &single, sizeof bits);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

struct Layer {
  int out, in;
  Factors factors;
  Numbers weight, bias, packed;

  Layer(int out, int in, Factors factors)
      : out(out),
        in(in),
        factors(factors),
        weight(random_numbers(static_cast<size_t>(out) * in, std::sqrt(3.0f / in))),
        bias(random_numbers(out, 0.5f)),
        packed(packed_size(out, in, factors), NAN) {
    pack(weight.data(), bias.data(), out, in, factors, packed.data());
  }
  PackedLinear view() const { return {packed.data(), out, in, factors}; }
  double factor(double x) const { return factors == Factors::bfloat16 ? rounded(x) : x; }

  template <class T>
  std::vector<double> reference(const std::vector<T> &x, Activation activation) const {
    std::vector<double> y;
    for (size_t row = 0; row < x.size() / in; row++) {
      for (int o = 0; o < out; o++) {
        double sum = bias[o];
        for (int i = 0; i < in; i++) {
          sum += factor(x[row * in + i]) * factor(weight[static_cast<size_t>(o) * in + i]);
        }
        y.push_back(exact_activation(sum, activation));
      }
    }
    return y;
  }
};

struct Normed {
  Numbers weight, bias;
  explicit Normed(int n) : weight(random_numbers(n, 0.5f, 1)), bias(random_numbers(n, 0.5f)) {}
  Norm norm() const { return {weight.data(), bias.data(), 1e-5f}; }

  std::vector<double> reference(std::vector<double> x, const Numbers &residual) const {
    const size_t n = weight.size();
    for (size_t at = 0; at < x.size(); at += n) {
      double mean = 0, variance = 0;
      for (size_t i = 0; i < n; i++) {
        x[at + i] += residual.empty() ? 0 : residual[at + i];
        mean += x[at + i] / n;
      }
      for (size_t i = 0; i < n; i++) {
        variance += (x[at + i] - mean) * (x[at + i] - mean) / n;
      }
      for (size_t i = 0; i < n; i++) {
        x[at + i] = (x[at + i] - mean) / std::sqrt(variance + 1e-5) * weight[i] + bias[i];
      }
    }
    return x;
  }
};

// A gated feed-forward block with LayerNorm in front.
void check_gated(const Numbers &x, int rows, int hidden, int inner, Factors factors,
                 const Normed &norm, double after) {
  const int lanes = panel_width(factors) / 2, turns = (inner + lanes - 1) / lanes;
  const Layer a(inner, hidden, factors), b(inner, hidden, factors), down(hidden, inner, factors);
  Layer up(2 * turns * lanes, hidden, factors); // the rows of a and b, alternating
  for (int row = 0; row < up.out; row++) {
    const Layer &from = row / lanes % 2 == 0 ? a : b;
    const int at = row / (2 * lanes) * lanes + row % lanes;
    up.bias[row] = at < inner ? from.bias[at] : 0;
    for (int i = 0; i < hidden; i++) {
      up.weight[row * hidden + i] = at < inner ? from.weight[at * hidden + i] : 0;
    }
  }
  pack(up.weight.data(), up.bias.data(), up.out, hidden, factors, up.packed.data());
  const auto normed = norm.reference({x.begin(), x.end()}, {});
  std::vector<double> between = a.reference(normed, Activation::gelu);
  const auto factor = b.reference(normed, Activation::none);
  for (size_t i = 0; i < between.size(); i++) {
    between[i] *= factor[i];
  }
  std::vector<double> want = down.reference(between, Activation::none);
  for (size_t i = 0; i < want.size(); i++) {
    want[i] += x[i];
  }
  Numbers y(x.size());
  feed_forward(x.data(), rows, {up.view(), true, Activation::gelu, down.view(), norm.norm(), true},
               y.data());
  expect("gated feed_forward", y, want, 4 * after);
}

void check_layers(int rows, int hidden, int inner, Factors factors) {
  const Numbers x = random_numbers(static_cast<size_t>(rows) * hidden, 2);
  const Layer up(inner, hidden, factors), down(hidden, inner, factors),
      same(hidden, hidden, factors);
  // A sum that differs in its last bits may be rounded to another bfloat16 before
  // the second GEMM.
  const double after = factors == Factors::bfloat16 ? 4e-3 : 4e-6;
  const Normed norm(hidden);
  for (Activation activation :
       {Activation::none, Activation::gelu, Activation::gelu_tanh, Activation::relu}) {
    Numbers y(static_cast<size_t>(rows) * inner);
    linear(x.data(), rows, up.view(), activation, y.data());
    expect("linear", y, up.reference(x, activation));
    Numbers z(x.size());
    feed_forward(x.data(), rows, {up.view(), false, activation, down.view(), norm.norm(), false},
                 z.data());
    const auto between = up.reference(x, activation);
    expect("feed_forward", z, norm.reference(down.reference(between, Activation::none), x), after);
  }
  check_gated(x, rows, hidden, inner, factors, norm, after);
  const Numbers residual = random_numbers(x.size());
  Numbers z(x.size());
  linear_add_norm(x.data(), rows, same.view(), residual.data(), Norm{}, z.data());
  std::vector<double> sums = same.reference(x, Activation::none);
  for (size_t i = 0; i < sums.size(); i++) {
    sums[i] += residual[i];
  }
  expect("linear_add_norm without norm", z, sums);
  layer_norm(x.data(), rows, hidden, norm.norm(), z.data());
  expect("layer_norm", z, norm.reference({x.begin(), x.end()}, {}));
  linear_add_norm(x.data(), rows, same.view(), residual.data(), norm.norm(), z.data());
  expect("linear_add_norm", z, norm.reference(same.reference(x, Activation::none), residual));
}

// bfloat16 factors give other results than float32 factors: otherwise the tests
// above could not distinguish them.
void check_rounding() {
  const Numbers x = random_numbers(7 * 64);
  Layer exact(48, 64, Factors::float32);
  const Layer half(48, 64, Factors::bfloat16);
  Numbers y(7 * 48);
  linear(x.data(), 7, half.view(), Activation::none, y.data());
  exact.weight = half.weight;
  exact.bias = half.bias;
  const double off = difference(y, exact.reference(x, Activation::none));
  if (off < 1e-3 || off > 3e-2) {
    failures++;
    std::fprintf(stderr, "%s: bfloat16 is off from float32 by %g\n", target(), off);
  }
}

// Rotates each head of a row by its position, in double precision.
void rotate(std::vector<double> *row, int position, int heads, int size) {
  for (int h = 0; h < heads; h++) {
    for (int i = 0; i < size / 2; i++) {
      double &a = (*row)[h * size + i], &b = (*row)[h * size + i + size / 2];
      const double angle = position / std::pow(100.0, 2.0 * i / size), real = a;
      a = real * std::cos(angle) - b * std::sin(angle);
      b = real * std::sin(angle) + b * std::cos(angle);
    }
  }
}

struct Tables {
  Numbers cos, sin;
  Tables(int positions, int size) {
    for (int p = 0; p < positions; p++) {
      for (int i = 0; i < size; i++) {
        const double angle = p / std::pow(100.0, 2.0 * (i % (size / 2)) / size);
        cos.push_back(static_cast<float>(std::cos(angle)));
        sin.push_back(static_cast<float>(i < size / 2 ? -std::sin(angle) : std::sin(angle)));
      }
    }
  }
};

// Attention of one pair: queries, keys and values are rows with a stride. With bfloat16,
// these and the probabilities before they are divided by their sum are rounded.
void attend(const float *q, size_t q_stride, int queries, const float *k, const float *v,
            size_t stride, int length, int heads, int size, int window, bool rotated,
            Factors factors, std::vector<double> *out) {
  auto factor = [&](double x) { return factors == Factors::bfloat16 ? rounded(x) : x; };
  auto rows = [&](const float *x, size_t x_stride, int n) {
    std::vector<std::vector<double>> all;
    for (int i = 0; i < n; i++) {
      all.emplace_back(x + i * x_stride, x + i * x_stride + heads * size);
      if (rotated) {
        rotate(&all.back(), i, heads, size);
      }
      for (double &number : all.back()) {
        number = factor(number);
      }
    }
    return all;
  };
  const auto query = rows(q, q_stride, queries), key = rows(k, stride, length);
  for (int i = 0; i < queries; i++) {
    for (int h = 0; h < heads; h++) {
      std::vector<double> e(length, -INFINITY);
      for (int j = 0; j < length; j++) {
        if (window > 0 && std::abs(i - j) > window) {
          continue;
        }
        e[j] = 0;
        for (int c = 0; c < size; c++) {
          e[j] += query[i][h * size + c] * key[j][h * size + c];
        }
      }
      const double most = *std::max_element(e.begin(), e.end());
      double sum = 0;
      for (double &score : e) {
        score = std::exp((score - most) / std::sqrt(static_cast<double>(size)));
        sum += score;
      }
      for (int c = 0; c < size; c++) {
        double mixed = 0;
        for (int j = 0; j < length; j++) {
          mixed += factor(e[j]) / sum * factor(v[j * stride + h * size + c]);
        }
        out->push_back(mixed);
      }
    }
  }
}

void check_attention(Factors factors, const std::vector<int32_t> &lengths, int heads, int size,
                     int window = 0, bool rotated = false) {
  const size_t hidden = static_cast<size_t>(heads) * size;
  const int pairs = static_cast<int>(lengths.size());
  size_t tokens = 0;
  for (int32_t length : lengths) {
    tokens += length;
  }
  const Numbers qkv = random_numbers(tokens * 3 * hidden, 2);
  const Numbers query = random_numbers(pairs * hidden, 2),
                kv = random_numbers(tokens * 2 * hidden, 2);
  const Tables tables(rotated ? *std::max_element(lengths.begin(), lengths.end()) : 0, size);
  std::vector<double> want, want_cls;
  size_t at = 0;
  for (int p = 0; p < pairs; p++) {
    const float *q = qkv.data() + at * 3 * hidden, *k = kv.data() + at * 2 * hidden;
    attend(q, 3 * hidden, lengths[p], q + hidden, q + 2 * hidden, 3 * hidden, lengths[p], heads,
           size, window, rotated, factors, &want);
    attend(query.data() + p * hidden, hidden, 1, k, k + hidden, 2 * hidden, lengths[p], heads, size,
           window, rotated, factors, &want_cls);
    at += lengths[p];
  }
  const Positions positions = {window, rotated ? tables.cos.data() : nullptr,
                               rotated ? tables.sin.data() : nullptr};
  Numbers out(tokens * hidden), cls(pairs * hidden);
  for (int head = 0; head < heads; head++) { // one at a time, as a team does
    const Heads one = {heads, size, head, head + 1};
    attention(qkv.data(), lengths.data(), pairs, one, positions, factors, out.data());
    attention_cls(query.data(), kv.data(), lengths.data(), pairs, one, positions, factors,
                  cls.data());
  }
  // A number that differs in its last bits may be rounded to another bfloat16.
  const double most = factors != Factors::bfloat16 ? 4e-6 : rotated ? 4e-2 : 1e-2;
  expect("attention", out, want, most);
  expect("attention_cls", cls, want_cls, most);
}

// Attention's factors are rounded too.
void check_rounded_attention() {
  const int32_t length = 40;
  const int size = 32;
  const Numbers qkv = random_numbers(static_cast<size_t>(length) * 3 * size, 2);
  std::vector<double> exact;
  attend(qkv.data(), 3 * size, length, qkv.data() + size, qkv.data() + 2 * size, 3 * size, length,
         1, size, 0, false, Factors::float32, &exact);
  Numbers out(static_cast<size_t>(length) * size);
  attention(qkv.data(), &length, 1, {1, size, 0, 1}, {0, nullptr, nullptr}, Factors::bfloat16,
            out.data());
  const double off = difference(out, exact);
  if (off < 1e-3 || off > 5e-2) {
    failures++;
    std::fprintf(stderr, "%s: attention in bfloat16 is off from float32 by %g\n", target(), off);
  }
}

// The sum in float32 loses a little.
void check_pool(const std::vector<int32_t> &lengths, int hidden) {
  size_t tokens = 0;
  for (int32_t length : lengths) {
    tokens += length;
  }
  const Numbers x = random_numbers(tokens * hidden, 2);
  for (Pooling way : {Pooling::cls, Pooling::max, Pooling::mean, Pooling::mean_sqrt,
                      Pooling::weighted_mean, Pooling::last}) {
    std::vector<double> want;
    size_t at = 0;
    for (int32_t n : lengths) {
      for (int c = 0; c < hidden; c++) {
        double sum = 0, weighted = 0, most = -INFINITY;
        for (int i = 0; i < n; i++) {
          const double v = x[(at + i) * hidden + c];
          sum += v, weighted += v * (i + 1), most = std::max(most, v);
        }
        want.push_back(way == Pooling::max             ? most
                       : way == Pooling::mean          ? sum / n
                       : way == Pooling::mean_sqrt     ? sum / std::sqrt(static_cast<double>(n))
                       : way == Pooling::weighted_mean ? weighted / (n * (n + 1.0) / 2)
                       : way == Pooling::last          ? x[(at + n - 1) * hidden + c]
                                                       : x[at * hidden + c]);
      }
      at += n;
    }
    Numbers y(want.size());
    pool(x.data(), lengths.data(), static_cast<int>(lengths.size()), hidden, way, y.data());
    expect("pool", y, want);
  }
}

void check_embed(const std::vector<int32_t> &lengths, int hidden) {
  const Numbers words = random_numbers(50 * hidden), positions = random_numbers(600 * hidden),
                types = random_numbers(2 * hidden);
  const Normed norm(hidden);
  std::vector<int32_t> ids, type_ids;
  std::vector<double> sums;
  for (int32_t length : lengths) {
    for (int32_t i = 0; i < length; i++) {
      ids.push_back(static_cast<int32_t>(generator() % 50));
      type_ids.push_back(static_cast<int32_t>(generator() % 2));
      for (int c = 0; c < hidden; c++) {
        sums.push_back(static_cast<double>(words[ids.back() * hidden + c]) +
                       positions[i * hidden + c] + types[type_ids.back() * hidden + c]);
      }
    }
  }
  Numbers y(sums.size());
  Embeddings e = {};
  e.words = words.data(), e.types = types.data(), e.positions = positions.data();
  e.size = hidden, e.norm = norm.norm();
  embed(e, ids.data(), type_ids.data(), lengths.data(), static_cast<int>(lengths.size()), y.data());
  expect("embed", y, norm.reference(sums, {}));
}

void check_all_attention(Factors factors) {
  for (int size : {1, 8, 26, 32, 64, 80}) {
    check_attention(factors, {1, 2, 3, 17, 33, 100}, 2, size);
  }
  check_attention(factors, {512}, 1, 32);
  for (int size : {2, 26, 32, 64}) {
    for (int window : {0, 1, 5, 16, 33, 64}) {
      check_attention(factors, {1, 2, 3, 17, 34, 100, 150}, 2, size, window, true);
    }
  }
  check_attention(factors, {300}, 1, 8, 20);
  failures += check_not_finite(factors, {NAN});
  failures += check_nan_stays(factors);
}

void check_all() {
  for (int rows : {1, 2, 3, 5, 7, 11, 12, 13, 31, 97, 200}) {
    check_layers(rows, 26, 61, Factors::float32);
    check_layers(rows, 64, 320, Factors::float32);
  }
  check_all_attention(Factors::float32);
  check_pool({1, 2, 17, 200}, 26);
  check_embed({1, 5, 512}, 26);
  check_embed({3, 3}, 384);
}

void check_bfloat16() {
  for (int rows : {1, 2, 3, 5, 7, 11, 12, 13, 31, 97, 200}) {
    check_layers(rows, 26, 61, Factors::bfloat16);
    check_layers(rows, 33, 70, Factors::bfloat16);
    check_layers(rows, 64, 320, Factors::bfloat16);
  }
  check_all_attention(Factors::bfloat16);
  check_rounding();
  check_rounded_attention();
}

// Two threads share the team. Every part of every round must run exactly once,
// before the round ends.
void check_team() {
  start_team(2);
  start_team(4); // a second session with more threads
  start_team(1);
  auto rounds = [] {
    for (int round = 0; round < 20000; round++) {
      std::atomic<int> done[5] = {};
      const int parts = 1 + round % 5;
      run_in_parts(parts, [&](int part) { done[part]++; });
      for (int part = 0; part < 5; part++) {
        if (done[part] != (part < parts)) {
          failures++;
          std::fprintf(stderr, "team: part %d of %d ran %d times, want %d\n", part, parts,
                       +done[part], part < parts);
        }
      }
      if (round % 1000 == 0) { // long enough for the helpers to fall asleep
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
    }
  };
  std::thread other(rounds);
  rounds();
  other.join();
}

} // namespace

int main() {
  check_team();
  int ran = 0;
  for (int64_t one : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(one);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    worst = 0;
    check_all();
    failures += check_small(generator);
    std::printf("%s, panels of %d: off by %.2g at most\n", target(), panel_width(Factors::float32),
                worst);
    if (has_bfloat16()) {
      worst = 0;
      check_bfloat16();
      std::printf("%s, bfloat16: off by %.2g at most\n", target(), worst);
    }
    ran++;
  }
  if (ran < 2) {
    std::fprintf(stderr, "only %d instruction sets ran\n", ran);
    return 1;
  }
  return failures > 0;
}
