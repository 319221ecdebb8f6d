// The operations of int8's kernels in plain C++, in the same order.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "exact_activation.h"
#include "kernels.h"

using mlxrank::cpu::Activation;
using mlxrank::cpu::exact_activation;
using mlxrank::cpu::Factors;
using mlxrank::cpu::Norm;
using mlxrank::cpu::PackedLinear;

inline int failures = 0;
inline std::mt19937 generator(20261130);

using Numbers = std::vector<float>;

inline Numbers random_numbers(size_t n, float scale = 1, float offset = 0) {
  std::normal_distribution<float> normal(0, 0.5f);
  Numbers out(n);
  for (float &x : out) {
    x = offset + scale * normal(generator);
  }
  return out;
}

// Integers of a row and their scale.
struct Quantized {
  std::vector<int> numbers;
  float scale;

  Quantized(const float *x, size_t n, float steps) {
    float most = 0;
    for (size_t i = 0; i < n; i++) {
      most = std::max(most, std::abs(x[i]));
    }
    const float inverse = most < 1e-30f ? 0 : steps / most;
    scale = most < 1e-30f ? 0 : most * (1 / steps);
    for (size_t i = 0; i < n; i++) {
      numbers.push_back(static_cast<int>(std::nearbyint(x[i] * inverse)));
    }
  }
};

inline int block_of(int n) {
  int block = 1;
  while (n % (2 * block) == 0 && block < 128) {
    block *= 2;
  }
  return block;
}

// Returns row [n] times Hadamard matrices, by halves.
inline Numbers rotated(const float *row, int n) {
  Numbers x(row, row + n);
  for (int stride = block_of(n) / 2; stride > 0; stride /= 2) {
    Numbers y = x;
    for (int i = 0; i < n; i++) {
      y[i] = i / stride % 2 == 0 ? x[i] + x[i + stride] : x[i - stride] - x[i];
    }
    x = y;
  }
  return x;
}

inline float gelu(float x) {
  const float c[] = {0.398508724f, -0.0655993727f,   0.00933746237f,  -0.000960762171f,
                     6.82664e-05f, -3.13988629e-06f, 8.32984354e-08f, -9.61314496e-10f};
  const float near = std::min(std::max(x, -4.2f), 4.2f), t = near * near;
  float sum = c[7];
  for (int i = 6; i >= 0; i--) {
    sum = sum * t + c[i];
  }
  return x * (near * sum + 0.5f);
}

inline float exp_of(float x) {
  const float c[] = {1.00000007f,   0.693146967f,   0.240221196f,
                     0.0555071328f, 0.00967554668f, 0.00132764872f};
  if (x < -87) {
    return 0;
  }
  const float y = x * 1.44269504f, whole = std::nearbyint(y), f = y - whole;
  float sum = c[5];
  for (int i = 4; i >= 0; i--) {
    sum = sum * f + c[i];
  }
  return std::ldexp(sum, static_cast<int>(whole));
}

inline float activate(float x, Activation activation) {
  switch (activation) {
  case Activation::gelu:
    return gelu(x);
  case Activation::gelu_tanh: {
    const float twice = (x * x * x * 0.044715f + x) * 1.59576912f;
    return x - x / (exp_of(std::min(twice, 80.0f)) + 1);
  }
  case Activation::relu:
    return std::max(x, 0.0f);
  default:
    return x;
  }
}

struct Layer {
  int out, in;
  Numbers weight, bias, packed;

  Layer(int out, int in, float scale = 1)
      : out(out),
        in(in),
        weight(random_numbers(static_cast<size_t>(out) * in, scale * std::sqrt(3.0f / in))),
        bias(random_numbers(out)) {
    repack();
  }

  void repack() {
    packed.assign(mlxrank::cpu::packed_size(out, in, Factors::int8), NAN);
    mlxrank::cpu::pack(weight.data(), bias.data(), out, in, Factors::int8, packed.data());
  }

  PackedLinear view() const { return {packed.data(), out, in, Factors::int8}; }

  Numbers reference(const Numbers &x, Activation activation) const {
    const float block = static_cast<float>(block_of(in));
    std::vector<std::vector<Quantized>> weights;
    for (int o = 0; o < out; o++) {
      weights.push_back(groups(rotated(&weight[static_cast<size_t>(o) * in], in),
                               [](const Numbers &n) { return quantized_weights(n); }));
    }
    Numbers y;
    for (size_t row = 0; row < x.size() / in; row++) {
      const auto a = groups(rotated(&x[row * in], in),
                            [](const Numbers &n) { return Quantized(n.data(), n.size(), 112); });
      for (int o = 0; o < out; o++) {
        float total = bias[o];
        for (size_t g = 0; g < a.size(); g++) {
          const Quantized &w = weights[o][g];
          int sum = 0;
          for (size_t i = 0; i < w.numbers.size(); i++) {
            sum += a[g].numbers[i] * w.numbers[i];
          }
          total = total + static_cast<float>(sum) * a[g].scale * (w.scale / block);
        }
        y.push_back(activate(total, activation));
      }
    }
    return y;
  }

  std::vector<double> exactly(const Numbers &x, Activation activation) const {
    std::vector<double> y;
    for (size_t row = 0; row < x.size() / in; row++) {
      for (int o = 0; o < out; o++) {
        double sum = bias[o];
        for (int i = 0; i < in; i++) {
          sum += double{x[row * in + i]} * weight[static_cast<size_t>(o) * in + i];
        }
        y.push_back(exact_activation(sum, activation));
      }
    }
    return y;
  }

 private:
  // Quantises a row in groups of 128.
  template <class F>
  static std::vector<Quantized> groups(const Numbers &row, const F &quantized) {
    std::vector<Quantized> all;
    for (size_t from = 0; from < row.size(); from += 128) {
      const auto begin = row.begin() + static_cast<std::ptrdiff_t>(from);
      all.push_back(quantized(
          {begin, begin + static_cast<std::ptrdiff_t>(std::min<size_t>(128, row.size() - from))}));
    }
    return all;
  }

  // Weights have at most 127 steps, and neighbours of one sign at most 146 together.
  static Quantized quantized_weights(const Numbers &row) {
    float most = 0;
    for (size_t i = 0; i < row.size(); i++) {
      most = std::max(most, std::abs(row[i]));
      if (i % 2 == 1 && (row[i] > 0) == (row[i - 1] > 0)) {
        most = std::max(most, std::abs(row[i] + row[i - 1]) * (127.0f / 145));
      }
    }
    Numbers longer = row; // with the number that sets the scale
    longer.push_back(most);
    Quantized q(longer.data(), longer.size(), 127);
    q.scale = most < 1e-30f ? 0 : most / 127;
    q.numbers.pop_back();
    for (size_t i = 1; i < q.numbers.size(); i += 2) {
      const int a = q.numbers[i - 1], b = q.numbers[i];
      if ((a > 0) == (b > 0) && std::abs(a + b) > 146) {
        failures++;
        std::fprintf(stderr, "weights %d and %d do not fit into 16 bits\n", a, b);
      }
    }
    return q;
  }
};

inline float sum_of_columns(const Numbers &terms) {
  float columns[16] = {};
  for (size_t i = 0; i < terms.size(); i++) {
    columns[i % 16] = columns[i % 16] + terms[i];
  }
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) {
      columns[i] = columns[i] + columns[i + half];
    }
  }
  return columns[0];
}

struct Normed {
  Numbers weight, bias;
  explicit Normed(int n) : weight(random_numbers(n, 0.5f, 1)), bias(random_numbers(n, 0.5f)) {}
  Norm norm() const { return {weight.data(), bias.data(), 1e-5f}; }

  Numbers reference(Numbers x, const Numbers &residual) const {
    const size_t n = weight.size();
    for (size_t at = 0; at < x.size(); at += n) {
      Numbers squares;
      for (size_t i = 0; i < n && !residual.empty(); i++) {
        x[at + i] = x[at + i] + residual[at + i];
      }
      const auto begin = x.begin() + static_cast<std::ptrdiff_t>(at);
      const float mean = sum_of_columns({begin, begin + static_cast<std::ptrdiff_t>(n)}) / n;
      for (size_t i = 0; i < n; i++) {
        squares.push_back((x[at + i] - mean) * (x[at + i] - mean));
      }
      const float scale = 1 / std::sqrt(sum_of_columns(squares) / n + 1e-5f);
      for (size_t i = 0; i < n; i++) {
        x[at + i] = (x[at + i] - mean) * scale * weight[i] + bias[i];
      }
    }
    return x;
  }
};

inline Numbers sum(Numbers x, const Numbers &y) {
  for (size_t i = 0; i < x.size(); i++) {
    x[i] = x[i] + y[i];
  }
  return x;
}

// Rotates each head of a row by its position.
inline void rotate_heads(float *row, int position, int heads, int size, const Numbers &cos,
                         const Numbers &sin) {
  for (int h = 0; h < heads; h++) {
    const Numbers x(row + h * size, row + (h + 1) * size);
    for (int i = 0; i < size; i++) {
      const float other = x[(i + size / 2) % size];
      row[h * size + i] = x[i] * cos[position * size + i] + other * sin[position * size + i];
    }
  }
}

inline int exp_steps(float x) {
  const float c[] = {4095 * 0.999999261f, 4095 * 0.693121808f, 4095 * 0.24024745f,
                     4095 * 0.0559179157f, 4095 * 0.00957011894f};
  const float y = std::max(x, -20.0f), whole = std::nearbyint(y), f = y - whole;
  float sum = c[4];
  for (int i = 3; i >= 0; i--) {
    sum = sum * f + c[i];
  }
  return static_cast<int>(std::nearbyint(std::ldexp(sum, static_cast<int>(whole))));
}

struct Attended {
  Numbers values;
  std::vector<double> exact;
};

// Attention of a head of one pair: rows of queries, keys and values.
inline void attend(const std::vector<Numbers> &query, const std::vector<Numbers> &key,
                   const std::vector<Numbers> &value, int size, int window, Attended *out) {
  const auto length = static_cast<int>(key.size());
  const float scale = 1 / std::sqrt(static_cast<float>(size)) * 1.44269504f;
  std::vector<Quantized> keys, columns;
  for (const Numbers &k : key) {
    keys.emplace_back(k.data(), size, 2047);
  }
  for (int c = 0; c < size; c++) {
    Numbers column;
    for (const Numbers &v : value) {
      column.push_back(v[c]);
    }
    columns.emplace_back(column.data(), column.size(), 2047);
  }
  for (int i = 0; i < static_cast<int>(query.size()); i++) {
    const int from = window > 0 ? std::max(0, i - window) : 0;
    const int to = window > 0 ? std::min(length, i + window + 1) : length;
    const Quantized q(query[i].data(), size, 2047);
    Numbers scores;
    std::vector<double> exact_exps;
    float most = -INFINITY;
    double exact_total = 0;
    for (int j = from; j < to; j++) {
      int dot = 0;
      double exact_dot = 0;
      for (int c = 0; c < size; c++) {
        dot += q.numbers[c] * keys[j].numbers[c];
        exact_dot += double{query[i][c]} * key[j][c];
      }
      scores.push_back(static_cast<float>(dot) * (scale * q.scale) * keys[j].scale);
      most = std::max(most, scores.back());
      exact_exps.push_back(std::exp(exact_dot / std::sqrt(size)));
      exact_total += exact_exps.back();
    }
    std::vector<int> exps;
    int total = 0;
    for (float x : scores) {
      exps.push_back(exp_steps(x - most));
      total += exps.back();
    }
    for (int c = 0; c < size; c++) {
      float sum = 0;
      double exact_sum = 0;
      int part = 0;
      for (int j = from; j < to; j++) {
        part += exps[j - from] * columns[c].numbers[j];
        exact_sum += exact_exps[j - from] * value[j][c];
        if ((j + 1) % 256 == 0 || j + 1 == to) {
          sum = sum + static_cast<float>(part);
          part = 0;
        }
      }
      out->values.push_back(sum * (1 / static_cast<float>(total)) * columns[c].scale);
      out->exact.push_back(exact_sum / exact_total);
    }
  }
}
