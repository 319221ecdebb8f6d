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

#include "hwy/targets.h"
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

double activate(double x, Activation activation) {
  switch (activation) {
  case Activation::gelu:
    return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
  case Activation::gelu_tanh:
    return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  case Activation::relu:
    return std::max(x, 0.0);
  default:
    return x;
  }
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
        y.push_back(activate(sum, activation));
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
    feed_forward(x.data(), rows, up.view(), activation, down.view(), norm.norm(), z.data());
    const auto between = up.reference(x, activation);
    expect("feed_forward", z, norm.reference(down.reference(between, Activation::none), x), after);
  }
  const Numbers residual = random_numbers(x.size());
  Numbers z(x.size());
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

// Attention of one pair: queries, keys and values are rows with a stride.
void attend(const float *q, size_t q_stride, int queries, const float *k, const float *v,
            size_t stride, int length, int heads, int size, std::vector<double> *out) {
  for (int i = 0; i < queries; i++) {
    for (int h = 0; h < heads; h++) {
      std::vector<double> e(length);
      double sum = 0;
      for (int j = 0; j < length; j++) {
        double dot = 0;
        for (int c = 0; c < size; c++) {
          dot += static_cast<double>(q[i * q_stride + h * size + c]) * k[j * stride + h * size + c];
        }
        sum += e[j] = std::exp(dot / std::sqrt(static_cast<double>(size)));
      }
      for (int c = 0; c < size; c++) {
        double mixed = 0;
        for (int j = 0; j < length; j++) {
          mixed += e[j] / sum * v[j * stride + h * size + c];
        }
        out->push_back(mixed);
      }
    }
  }
}

void check_attention(const std::vector<int32_t> &lengths, int heads, int size) {
  const size_t hidden = static_cast<size_t>(heads) * size;
  const int pairs = static_cast<int>(lengths.size());
  size_t tokens = 0;
  for (int32_t length : lengths) {
    tokens += length;
  }
  const Numbers qkv = random_numbers(tokens * 3 * hidden, 2);
  const Numbers query = random_numbers(pairs * hidden, 2),
                kv = random_numbers(tokens * 2 * hidden, 2);
  std::vector<double> want, want_cls;
  size_t at = 0;
  for (int p = 0; p < pairs; p++) {
    const float *q = qkv.data() + at * 3 * hidden, *k = kv.data() + at * 2 * hidden;
    attend(q, 3 * hidden, lengths[p], q + hidden, q + 2 * hidden, 3 * hidden, lengths[p], heads,
           size, &want);
    attend(query.data() + p * hidden, hidden, 1, k, k + hidden, 2 * hidden, lengths[p], heads, size,
           &want_cls);
    at += lengths[p];
  }
  Numbers out(tokens * hidden), cls(pairs * hidden);
  for (int head = 0; head < heads; head++) { // one at a time, as a team does
    const Heads one = {heads, size, head, head + 1};
    attention(qkv.data(), lengths.data(), pairs, one, out.data());
    attention_cls(query.data(), kv.data(), lengths.data(), pairs, one, cls.data());
  }
  expect("attention", out, want);
  expect("attention_cls", cls, want_cls);
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
  embed({words.data(), positions.data(), types.data(), hidden, norm.norm()}, ids.data(),
        type_ids.data(), lengths.data(), static_cast<int>(lengths.size()), y.data());
  expect("embed", y, norm.reference(sums, {}));
}

void check_all() {
  for (int rows : {1, 2, 3, 5, 7, 11, 12, 13, 31, 97, 200}) {
    check_layers(rows, 26, 61, Factors::float32);
    check_layers(rows, 64, 320, Factors::float32);
  }
  for (int size : {1, 8, 26, 32, 64, 80}) {
    check_attention({1, 2, 3, 17, 33, 100}, 2, size);
  }
  check_attention({512}, 1, 32);
  check_embed({1, 5, 512}, 26);
  check_embed({3, 3}, 384);
}

void check_bfloat16() {
  for (int rows : {1, 2, 3, 5, 7, 11, 12, 13, 31, 97, 200}) {
    check_layers(rows, 26, 61, Factors::bfloat16);
    check_layers(rows, 33, 70, Factors::bfloat16);
    check_layers(rows, 64, 320, Factors::bfloat16);
  }
  check_rounding();
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
    std::printf("%s, panels of %d: off by %.2g at most\n", target(), panel_width(), worst);
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
