// Tests that numbers that are not finite reach the results of kernels with the instruction set
// that runs: a score that they change must become an error.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "kernels.h"

namespace mlxrank::cpu {

// Two pairs. A number of the second head of the first pair is replaced.
struct Poisoned {
  static constexpr int kHeads = 2, kTokens = 43;
  const int32_t lengths[2] = {40, 3};
  int size, window;
  std::vector<float> qkv, out, cls;

  Poisoned(int size, int window) : size(size), window(window) {
    std::mt19937 random(20261130);
    for (int i = 0; i < kTokens * 3 * hidden(); i++) {
      qkv.push_back(static_cast<float>(random() % 4096) / 1024 - 2);
    }
  }

  int hidden() const { return kHeads * size; }

  // Returns number c of a part of a token: 0 is its query, 1 its key, 2 its value.
  float &number(int token, int part, int c) {
    return qkv[token * 3 * hidden() + part * hidden() + size + c];
  }

  void compute(Factors factors) {
    std::vector<float> query, key_value;
    for (int token = 0; token < kTokens; token++) {
      const auto row = qkv.begin() + token * 3 * hidden();
      key_value.insert(key_value.end(), row + hidden(), row + 3 * hidden());
      if (token == 0 || token == lengths[0]) {
        query.insert(query.end(), row, row + hidden());
      }
    }
    out.resize(static_cast<size_t>(kTokens) * hidden());
    cls.resize(query.size());
    const Heads heads = {kHeads, size, 0, kHeads};
    const Positions positions = {window, nullptr, nullptr};
    attention(qkv.data(), lengths, 2, heads, positions, factors, out.data());
    attention_cls(query.data(), key_value.data(), lengths, 2, heads, positions, factors,
                  cls.data());
  }

  // Reports whether the result of token i depends on a part of a token.
  bool uses(int i, int token, int part) const {
    return part == 0 ? i == token : window == 0 || std::abs(i - token) <= window;
  }

  // Reports whether all numbers of the second head of a row are finite.
  bool is_finite(const std::vector<float> &rows, int row) const {
    const auto from = rows.begin() + row * hidden() + size;
    return std::all_of(from, from + size, [](float x) { return std::isfinite(x); });
  }

  // Reports whether each row of the first pair that depends on the number is not finite.
  bool reaches(int token, int part) const {
    bool all = !uses(0, token, part) || !is_finite(cls, 0);
    for (int i = 0; i < lengths[0]; i++) {
      all &= !uses(i, token, part) || !is_finite(out, i);
    }
    return all;
  }

  // Reports whether the first head and the second pair have the results of the other.
  bool equals_elsewhere(const Poisoned &other) const {
    auto same = [&](const std::vector<float> &a, const std::vector<float> &b, int first_rows) {
      for (int i = 0; i < static_cast<int>(a.size()); i++) {
        const bool here = i / hidden() < first_rows && i % hidden() >= size;
        if (!here && !(a[i] == b[i])) {
          return false;
        }
      }
      return true;
    };
    return same(out, other.out, lengths[0]) && same(cls, other.cls, 1);
  }
};

// Checks attention with each of the numbers in a query, a key and a value. Returns how many
// checks fail.
inline int check_not_finite(Factors factors, const std::vector<float> &numbers) {
  int failures = 0;
  auto expect = [&](bool holds, const Poisoned &p, int token, int part, float x, const char *what) {
    if (!holds) {
      failures++;
      std::fprintf(stderr, "%s: head size %d, window %d: %g in the %s of token %d: %s\n", target(),
                   p.size, p.window, x,
                   part == 0   ? "query"
                   : part == 1 ? "key"
                               : "value",
                   token, what);
    }
  };
  for (const int size : {26, 32}) {
    for (const int window : {0, 5}) {
      Poisoned clean(size, window);
      clean.compute(factors);
      for (const int token : {0, 17, 39}) {
        for (const int part : {0, 1, 2}) {
          for (const int c : {0, size - 1}) {
            for (const float x : numbers) {
              Poisoned p(size, window);
              p.number(token, part, c) = x;
              p.compute(factors);
              expect(p.reaches(token, part), p, token, part, x, "some result is finite");
              expect(p.equals_elsewhere(clean), p, token, part, x, "other results change");
            }
            Poisoned control(size, window);
            control.number(token, part, c) = 1e4f;
            control.compute(factors);
            bool finite = control.is_finite(control.cls, 0);
            for (int i = 0; i < control.lengths[0]; i++) {
              finite &= control.is_finite(control.out, i);
            }
            expect(finite, control, token, part, 1e4f, "control: some result is not finite");
          }
        }
      }
    }
  }
  return failures;
}

// Checks that a row with NaN becomes NaN with ReLU, and a pair with NaN with max pooling, and no
// other. Returns how many checks fail.
inline int check_nan_stays(Factors factors) {
  constexpr int rows = 5, in = 26, out = 61;
  std::vector<float> x(rows * in), weight(out * in), bias(out), y(rows * out), pooled(2 * in);
  std::mt19937 random(20261130);
  for (auto *numbers : {&x, &weight, &bias}) {
    for (float &n : *numbers) {
      n = static_cast<float>(random() % 4096) / 2048 - 1;
    }
  }
  x[2 * in + 7] = NAN;
  std::vector<float> packed(packed_size(out, in, factors));
  pack(weight.data(), bias.data(), out, in, factors, packed.data());
  linear(x.data(), rows, {packed.data(), out, in, factors}, Activation::relu, y.data());
  const int32_t lengths[] = {4, 1};
  pool(x.data(), lengths, 2, in, Pooling::max, pooled.data());
  int wrong = 0;
  for (int i = 0; i < rows * out; i++) {
    wrong += std::isnan(y[i]) != (i / out == 2);
  }
  for (int c = 0; c < 2 * in; c++) {
    wrong += std::isnan(pooled[c]) != (c == 7);
  }
  if (wrong > 0) {
    std::fprintf(stderr, "%s: %d results are NaN or not, against their input\n", target(), wrong);
  }
  return wrong;
}

} // namespace mlxrank::cpu
