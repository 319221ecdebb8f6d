// Tests the kernels of small weights with the instruction set that runs: a layer gives the
// same results, to the last bit, as a float32 layer of the weights that its numbers stand for.
#pragma once

#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "kernels.h"
#include "small.h"

namespace mlxrank::cpu {

struct SmallLayer {
  int out, in;
  SmallFormat format;
  std::vector<uint8_t> numbers;
  std::vector<float> scales, biases, bias, weight;

  SmallLayer(int out, int in, SmallFormat format, std::mt19937 &random)
      : out(out),
        in(in),
        format(format),
        numbers(static_cast<size_t>(out) * in * format.bits / 8),
        scales(static_cast<size_t>(out) * in / format.group),
        biases(scales.size()),
        bias(out),
        weight(static_cast<size_t>(out) * in) {
    for (uint8_t &n : numbers) {
      n = static_cast<uint8_t>(random());
    }
    // Eleven bits, as float16 has.
    auto number = [&] { return static_cast<float>(random() % 2048) / 65536 - 1.0f / 64; };
    for (size_t i = 0; i < scales.size(); i++) {
      scales[i] = number();
      biases[i] = number();
    }
    for (float &b : bias) {
      b = number();
    }
    for (int row = 0; row < out; row++) {
      for (int i = 0; i < in; i++) {
        const size_t at = static_cast<size_t>(row) * in + i, group = at / format.group;
        const int q = format.bits == 8 ? numbers[at] : numbers[at / 2] >> (4 * (at % 2)) & 15;
        weight[at] = scales[group] * static_cast<float>(q) + biases[group];
      }
    }
  }

  SmallMatrix matrix() const { return {numbers.data(), scales.data(), biases.data(), format}; }

  std::vector<float> computed(const std::vector<float> &x, int rows, const SmallMatrix &m) const {
    std::vector<float> packed(small_packed_size(out, in, format));
    pack_small(m, bias.data(), out, in, packed.data());
    std::vector<float> y(static_cast<size_t>(rows) * out);
    linear(x.data(), rows, {packed.data(), out, in, small_factors(format)}, Activation::none,
           y.data());
    return y;
  }

  std::vector<float> wanted(const std::vector<float> &x, int rows) const {
    std::vector<float> packed(packed_size(out, in, Factors::float32));
    pack(weight.data(), bias.data(), out, in, Factors::float32, packed.data());
    std::vector<float> y(static_cast<size_t>(rows) * out);
    linear(x.data(), rows, {packed.data(), out, in, Factors::float32}, Activation::none, y.data());
    return y;
  }
};

// Returns how many checks fail.
inline int check_small(std::mt19937 &random) {
  int failures = 0;
  auto expect = [&](bool holds, const char *what, SmallFormat f) {
    if (!holds) {
      failures++;
      std::fprintf(stderr, "%s: %d bits, groups of %d: %s\n", target(), f.bits, f.group, what);
    }
  };
  for (const SmallFormat f : {SmallFormat{8, 32}, {8, 64}, {4, 32}, {4, 64}}) {
    for (const auto &[out, in] : {std::pair{1, 64}, {33, 64}, {70, 192}, {131, 128}}) {
      const SmallLayer layer(out, in, f, random);
      for (const int rows : {1, 5, 100}) {
        std::vector<float> x(static_cast<size_t>(rows) * in);
        for (float &v : x) {
          v = static_cast<float>(random() % 4096) / 2048 - 1;
        }
        const auto want = layer.wanted(x, rows);
        SmallMatrix m = layer.matrix();
        expect(layer.computed(x, rows, m) == want, "another result than in float32", f);
        std::swap(m.scales, m.biases);
        expect(layer.computed(x, rows, m) != want, "control: scales and biases may be swapped", f);
      }
      std::vector<float> row(in);
      expand_row(layer.matrix(), out - 1, in, row.data());
      const auto last = layer.weight.end() - in;
      expect(std::equal(row.begin(), row.end(), last), "a row is expanded wrong", f);
    }
  }
  return failures;
}

} // namespace mlxrank::cpu
