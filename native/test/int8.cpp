// Compares the kernels of int8, with every instruction set that this processor has, with plain
// C++ that does the same operations in the same order: all bits must be equal. Plain C++
// in turn is compared with double precision.
#include "int8.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "hwy/targets.h"
#include "int8_reference.h"
#include "not_finite.h"

using namespace mlxrank::cpu;

namespace {

void expect_same(const char *what, const Numbers &got, const Numbers &want) {
  for (size_t i = 0; i < want.size(); i++) {
    if (std::memcmp(&got[i], &want[i], sizeof got[i]) != 0) {
      failures++;
      std::fprintf(stderr, "%s: %s: number %zu is %.9g, want %.9g\n", target(), what, i, got[i],
                   want[i]);
      return;
    }
  }
}

void expect_near(const char *what, const Numbers &got, const std::vector<double> &want,
                 double most) {
  double off = 0, size = 0;
  for (size_t i = 0; i < want.size(); i++) {
    off = std::max(off, std::abs(got[i] - want[i]));
    size = std::max(size, std::abs(want[i]));
  }
  if (!(off <= most * size)) {
    failures++;
    std::fprintf(stderr, "reference of %s: off by %g of %g, want at most %g of it\n", what, off,
                 size, most);
  }
}

void check_gated(const Numbers &x, int rows, int hidden, int inner, const Normed &norm) {
  const int lanes = panel_width(Factors::int8) / 2, turns = (inner + lanes - 1) / lanes;
  const Layer a(inner, hidden), b(inner, hidden), down(hidden, inner);
  Layer up(2 * turns * lanes, hidden); // the rows of a and b, alternating
  for (int row = 0; row < up.out; row++) {
    const Layer &from = row / lanes % 2 == 0 ? a : b;
    const int at = row / (2 * lanes) * lanes + row % lanes;
    up.bias[row] = at < inner ? from.bias[at] : 0;
    for (int i = 0; i < hidden; i++) {
      up.weight[row * hidden + i] = at < inner ? from.weight[at * hidden + i] : 0;
    }
  }
  up.repack();
  const Numbers normed = norm.reference(x, {});
  Numbers between = a.reference(normed, Activation::gelu);
  const Numbers factor = b.reference(normed, Activation::none);
  for (size_t i = 0; i < between.size(); i++) {
    between[i] = between[i] * factor[i];
  }
  Numbers y(x.size());
  feed_forward(x.data(), rows, {up.view(), true, Activation::gelu, down.view(), norm.norm(), true},
               y.data());
  expect_same("gated feed_forward", y, sum(down.reference(between, Activation::none), x));
}

// A layer of the head, in float32.
void check_head(const Numbers &x, int rows, int in) {
  const int out = 5;
  const Numbers weight = random_numbers(static_cast<size_t>(out) * in), bias = random_numbers(out);
  Numbers packed(packed_size(out, in, Factors::ordered_float32)), want;
  pack(weight.data(), bias.data(), out, in, Factors::ordered_float32, packed.data());
  for (int r = 0; r < rows; r++) {
    for (int o = 0; o < out; o++) {
      Numbers products;
      for (int i = 0; i < in; i++) {
        products.push_back(x[static_cast<size_t>(r) * in + i] * weight[o * in + i]);
      }
      want.push_back(sum_of_columns(products) + bias[o]);
    }
  }
  Numbers y(want.size());
  linear(x.data(), rows, {packed.data(), out, in, Factors::ordered_float32}, Activation::none,
         y.data());
  expect_same("linear of the head", y, want);
}

void check_layers(int rows, int hidden, int inner) {
  Numbers x = random_numbers(static_cast<size_t>(rows) * hidden, 2);
  std::fill_n(x.begin() + static_cast<std::ptrdiff_t>(rows / 2) * hidden, hidden, 0.0f);
  Layer up(inner, hidden);
  const Layer down(hidden, inner), same(hidden, hidden);
  std::fill_n(up.weight.begin(), hidden, 0.0f); // an output that is always its bias
  std::fill_n(up.weight.begin() + hidden, hidden, 0.25f);
  up.repack();
  const Normed norm(hidden);
  for (Activation activation :
       {Activation::none, Activation::gelu, Activation::gelu_tanh, Activation::relu}) {
    const Numbers between = up.reference(x, activation);
    expect_near("linear", between, up.exactly(x, activation), 0.02);
    Numbers y(between.size());
    linear(x.data(), rows, up.view(), activation, y.data());
    expect_same("linear", y, between);
    Numbers z(x.size());
    feed_forward(x.data(), rows, {up.view(), false, activation, down.view(), norm.norm(), false},
                 z.data());
    expect_same("feed_forward", z, norm.reference(down.reference(between, Activation::none), x));
  }
  check_gated(x, rows, hidden, inner, norm);
  const Numbers residual = random_numbers(x.size());
  const Numbers mixed = same.reference(x, Activation::none);
  Numbers z(x.size());
  linear_add_norm(x.data(), rows, same.view(), residual.data(), Norm{}, z.data());
  expect_same("linear_add_norm without norm", z, sum(mixed, residual));
  linear_add_norm(x.data(), rows, same.view(), residual.data(), norm.norm(), z.data());
  expect_same("linear_add_norm", z, norm.reference(mixed, residual));
  layer_norm(x.data(), rows, hidden, norm.norm(), z.data());
  expect_same("layer_norm", z, norm.reference(x, {}));
  check_head(x, rows, hidden);
}

void check_attention(const std::vector<int32_t> &lengths, int heads, int size, int window = 0,
                     bool rotated = false) {
  const int hidden = heads * size, pairs = static_cast<int>(lengths.size());
  size_t tokens = 0;
  for (int32_t length : lengths) {
    tokens += length;
  }
  const Numbers qkv = random_numbers(tokens * 3 * hidden, 2);
  const Numbers query = random_numbers(static_cast<size_t>(pairs) * hidden, 2);
  Numbers key_value, cos, sin;
  const int most = *std::max_element(lengths.begin(), lengths.end());
  for (int i = 0; i < most * size; i++) {
    const double angle =
        i / size / std::pow(100.0, 2.0 * (i % size % std::max(1, size / 2)) / size);
    cos.push_back(static_cast<float>(std::cos(angle)));
    sin.push_back(static_cast<float>(i % size < size / 2 ? -std::sin(angle) : std::sin(angle)));
  }
  Numbers want(tokens * hidden), want_cls(query.size());
  std::vector<double> exact(want.size());
  size_t first = 0;
  for (int p = 0; p < pairs; p++) {
    for (int i = 0; i < lengths[p]; i++) {
      const float *row = &qkv[(first + i) * 3 * hidden];
      key_value.insert(key_value.end(), row + hidden, row + 3 * hidden);
    }
    for (int h = 0; h < heads; h++) {
      std::vector<Numbers> q, k, v;
      for (int i = 0; i < lengths[p]; i++) {
        const float *row = &qkv[(first + i) * 3 * hidden + h * size];
        q.emplace_back(row, row + size);
        k.emplace_back(row + hidden, row + hidden + size);
        v.emplace_back(row + 2 * hidden, row + 2 * hidden + size);
      }
      std::vector<Numbers> cls = {
          {&query[p * hidden + h * size], &query[p * hidden + h * size] + size}};
      for (int i = 0; i < lengths[p] && rotated; i++) {
        rotate_heads(q[i].data(), i, 1, size, cos, sin);
        rotate_heads(k[i].data(), i, 1, size, cos, sin);
      }
      if (rotated) {
        rotate_heads(cls[0].data(), 0, 1, size, cos, sin);
      }
      Attended all, one;
      attend(q, k, v, size, window, &all);
      // Keys that [CLS] does not attend to have no part in the scales of the values.
      const int reached = window > 0 ? std::min(lengths[p], window + 1) : lengths[p];
      k.resize(reached);
      v.resize(reached);
      attend(cls, k, v, size, window, &one);
      for (int i = 0; i < lengths[p]; i++) {
        std::copy_n(&all.values[i * size], size, &want[(first + i) * hidden + h * size]);
        std::copy_n(&all.exact[i * size], size, &exact[(first + i) * hidden + h * size]);
      }
      std::copy_n(one.values.begin(), size, &want_cls[p * hidden + h * size]);
    }
    first += lengths[p];
  }
  expect_near("attention", want, exact, 4e-3);
  const Positions positions = {window, rotated ? cos.data() : nullptr,
                               rotated ? sin.data() : nullptr};
  Numbers out(want.size()), cls(want_cls.size());
  for (int head = 0; head < heads; head++) { // one at a time, as a team does
    const Heads one = {heads, size, head, head + 1};
    attention(qkv.data(), lengths.data(), pairs, one, positions, Factors::int8, out.data());
    attention_cls(query.data(), key_value.data(), lengths.data(), pairs, one, positions,
                  Factors::int8, cls.data());
  }
  expect_same("attention", out, want);
  expect_same("attention_cls", cls, want_cls);
}

void check_embed(int tokens, int hidden) {
  const Numbers words = random_numbers(50 * static_cast<size_t>(hidden)),
                positions = random_numbers(600 * static_cast<size_t>(hidden)),
                types = random_numbers(2 * static_cast<size_t>(hidden));
  const Normed norm(hidden);
  std::vector<int32_t> ids, type_ids;
  Numbers sums;
  for (int i = 0; i < tokens; i++) {
    ids.push_back(static_cast<int32_t>(generator() % 50));
    type_ids.push_back(static_cast<int32_t>(generator() % 2));
    for (int c = 0; c < hidden; c++) {
      sums.push_back(words[ids.back() * hidden + c] + types[type_ids.back() * hidden + c] +
                     positions[i * hidden + c]);
    }
  }
  Numbers y(sums.size());
  Embeddings e = {};
  e.words = words.data(), e.types = types.data(), e.positions = positions.data();
  e.size = hidden, e.norm = norm.norm();
  embed(e, ids.data(), type_ids.data(), &tokens, 1, y.data());
  expect_same("embed", y, norm.reference(sums, {}));
}

void check_all() {
  for (int rows : {1, 2, 3, 5, 7, 11, 13, 31, 97}) {
    check_layers(rows, 26, 61);
    check_layers(rows, 64, 320);
    check_layers(rows, 33, 70);
    check_layers(rows, 160, 136);
  }
  check_layers(4, 384, 1536);
  for (int size : {1, 8, 26, 32, 64, 80}) {
    check_attention({1, 2, 3, 17, 33, 100}, 2, size);
  }
  check_attention({512, 700}, 1, 32);
  for (int size : {2, 26, 32, 64}) {
    for (int window : {0, 1, 5, 16, 33, 64}) {
      check_attention({1, 2, 3, 17, 34, 100, 150}, 2, size, window, true);
    }
  }
  check_attention({300, 600}, 1, 8, 20, true);
  check_embed(512, 26);
  check_embed(3, 384);
  failures += check_not_finite(Factors::int8, {NAN, INFINITY, -INFINITY});
  failures += check_nan_stays(Factors::int8);
}

} // namespace

int main() {
  int ran = 0;
  for (int64_t one : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(one);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    generator.seed(20261130); // so that every instruction set computes the same
    if (!int8::is_exact()) {
      failures++;
      std::fprintf(stderr, "%s: products of bytes are wrong\n", target());
    }
    check_all();
    std::printf("%s, panels of %d\n", target(), panel_width(Factors::int8));
    ran++;
  }
  if (ran < 2) {
    std::fprintf(stderr, "only %d instruction sets ran\n", ran);
    return 1;
  }
  return failures > 0;
}
