#include <cmath>
#include <numeric>

#include "../cpu/profile.h"
#include "layer_ops.h"
#include "metal_kernels.h"
#include "ops.h"

namespace mlxrank {

namespace {

using cpu::Phase;

// What both layouts have in common: everything but embeddings and attention.
class UnfusedOps : public LayerOps {
 public:
  UnfusedOps(const Model &model, const Variant &variant, const Batch &batch, mlx_stream stream)
      : model_(model),
        variant_(variant),
        batch_(batch),
        ops_(stream),
        stream_(stream),
        epsilon_(scalar(epsilon())) {}

  Array linear(const Linear &l, const Array &x) const override {
    const int64_t flops = int64_t{2} * x.dim(0) * x.dim(1) * l.weight.dim(0);
    return timed(Phase::matmul, flops, ops_.linear(x, l.weight, l.bias));
  }

  Array attention_output(const Layer &l, const Array &attended, const Array &x) const override {
    return add_norm(l.attention_norm, linear(l.attention_output, attended), x);
  }

  Array feed_forward(const Layer &l, const Array &x) const override {
    Array inner = timed(Phase::activation, 0, activate(linear(l.intermediate, x)));
    return add_norm(l.output_norm, linear(l.output, inner), x);
  }

 protected:
  int pairs() const { return batch_.pairs(); }
  int hidden() const { return model_.config.hidden_size; }
  int heads() const { return model_.config.heads; }
  int head_size() const { return model_.head_size(); }

  // Evaluates x now if time is recorded, so that the time counts for this phase
  // alone: the inputs of x have already been evaluated the same way.
  static Array timed(Phase phase, int64_t flops, Array x) {
    if (cpu::recording) {
      const int64_t before = cpu::clock_ns();
      eval({&x});
      const int64_t took = cpu::clock_ns() - before;
      cpu::recording->add(phase, took, flops);
      cpu::recording->interrupted(took);
    }
    return x;
  }

  static Array ints(const std::vector<int32_t> &values, std::initializer_list<int> shape) {
    return array_of(values.data(), shape, MLX_INT32);
  }

  Array add_norm(const Norm &n, const Array &x, const Array &residual) const {
    if (variant_.kernels) {
      return timed(Phase::norm, 0,
                   metal_kernels::add_layer_norm(x, residual, n.weight, n.bias, epsilon_, stream_));
    }
    return timed(Phase::norm, 0, normalised(n, ops_.add(x, residual)));
  }

  Array normalised(const Norm &n, const Array &x) const {
    return ops_.layer_norm(x, n.weight, n.bias, epsilon());
  }

  const Model &model_;
  const Variant &variant_;
  const Batch &batch_;
  const Ops ops_;
  const mlx_stream stream_;

 private:
  float epsilon() const { return static_cast<float>(model_.config.layer_norm_eps); }

  static Array scalar(float value) { return array_of(&value, {}, MLX_FLOAT32); }

  Array activate(const Array &x) const {
    if (variant_.kernels) {
      return metal_kernels::activation(x, model_.config.activation, stream_);
    }
    const Constants &c = model_.constants;
    switch (model_.config.activation) {
    case MLXRANK_GELU_TANH: { // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
      Array cubic = ops_.multiply(ops_.multiply(x, ops_.multiply(x, x)), c.gelu_cubic);
      Array inner = ops_.multiply(ops_.add(x, cubic), c.gelu_scale);
      return gate(x, ops_.tanh(inner));
    }
    case MLXRANK_RELU:
      return ops_.maximum(x, c.zero);
    default: // x/2 (1 + erf(x / sqrt 2))
      return gate(x, ops_.erf(ops_.multiply(x, c.rsqrt2)));
    }
  }

  // x/2 (1 + y)
  Array gate(const Array &x, const Array &y) const {
    const Constants &c = model_.constants;
    return ops_.multiply(ops_.multiply(x, c.half), ops_.add(y, c.one));
  }

  const Array epsilon_;
};

// The padded layout, with MLX's attention.
class PaddedOps : public UnfusedOps {
 public:
  PaddedOps(const Model &model, const Variant &variant, const Batch &batch, mlx_stream stream)
      : UnfusedOps(model, variant, batch, stream), mask_(padding_mask()) {}

  Array embed() const override {
    Array words = ops_.gather_rows(model_.word_embeddings, ints(batch_.ids, {pairs(), width()}));
    Array types =
        ops_.gather_rows(model_.type_embeddings, ints(batch_.type_ids, {pairs(), width()}));
    Array positions = ops_.slice(model_.position_embeddings, 0, 0, width());
    Array sum = ops_.add(ops_.add(words, types), positions);
    sum = ops_.reshape(sum, {pairs() * width(), hidden()});
    return timed(Phase::gather, 0, normalised(model_.embedding_norm, sum));
  }

  Array attention(const Array &qkv) const override {
    return timed(Phase::attention, attention_flops(width()),
                 attend(split_heads(qkv, 0, width()), qkv, hidden()));
  }

  Array first_tokens(const Array &x) const override {
    Array cls = ops_.slice(ops_.reshape(x, {pairs(), width(), hidden()}), 1, 0, 1);
    return timed(Phase::copies, 0, ops_.reshape(cls, {pairs(), hidden()}));
  }

  Array attention_first(const Array &query, const Array &key_value) const override {
    return timed(Phase::attention, attention_flops(1),
                 attend(split_heads(query, 0, 1), key_value, 0));
  }

 private:
  int width() const { return batch_.width; }

  // Returns [pairs, 1, 1, width], true where there is a token.
  Array padding_mask() const {
    Array lengths = ints(batch_.lengths, {pairs(), 1, 1, 1});
    Array positions = ops_.reshape(ops_.arange(width()), {1, 1, 1, width()});
    return ops_.less(positions, lengths);
  }

  // Counts the matmuls with keys and values, for the number of queries per pair.
  int64_t attention_flops(int queries) const {
    return int64_t{4} * pairs() * queries * width() * hidden();
  }

  // Attends with queries [pairs, heads, n, head size] to the keys in the columns of x
  // [pairs * width, columns] that begin at from, and to the values behind them. It
  // returns [pairs * n, hidden].
  Array attend(const Array &queries, const Array &x, int from) const {
    const int n = queries.dim(2);
    const float scale = 1.0f / std::sqrt(static_cast<float>(head_size()));
    if (variant_.attention == Variant::Attention::padded_query) {
      return merge_heads(attend_padded(queries, x, from, scale), n);
    }
    Array keys = split_heads(x, from, width()), values = split_heads(x, from + hidden(), width());
    return merge_heads(ops_.attention(queries, keys, values, scale, mask_), n);
  }

  // MLX has fused kernels for head size 64 and none for smaller ones. So this
  // lengthens the queries by zeros, and takes for each head's keys and values a
  // window of 64 columns of x, without a copy: windows overlap. The keys' window
  // begins with the head's keys, and the zeros cancel the neighbours behind them,
  // whose values must be finite. The values' window ends with the head's values,
  // which become the last columns of the result. Neither window leaves x.
  Array attend_padded(const Array &queries, const Array &x, int from, float scale) const {
    const int size = head_size(), extra = padded_head_size - size, n = queries.dim(2);
    const int64_t columns = x.dim(1);
    auto window = [&](int first) {
      return ops_.view(x, {pairs(), heads(), width(), padded_head_size},
                       {width() * columns, size, columns, 1}, first);
    };
    // For at most 8 queries MLX has another kernel, which copies such keys and values.
    const int rows = n < least_queries ? least_queries : n;
    Array padded = ops_.pad(queries, {2, 3}, {rows - n, extra}, model_.constants.zero);
    Array attended =
        ops_.attention(padded, window(from), window(from + hidden() - extra), scale, mask_);
    return ops_.slice(ops_.slice(attended, 3, extra, padded_head_size), 2, 0, n);
  }

  static constexpr int least_queries = 9;

  // Returns columns [from, from + hidden) of x [pairs * n, ...] as
  // [pairs, heads, n, head size].
  Array split_heads(const Array &x, int from, int n) const {
    Array part = ops_.slice(x, 1, from, from + hidden());
    part = ops_.reshape(part, {pairs(), n, heads(), head_size()});
    return ops_.transpose(part, {0, 2, 1, 3});
  }

  // Returns [pairs, heads, n, head size] as [pairs * n, hidden].
  Array merge_heads(const Array &x, int n) const {
    return ops_.reshape(ops_.transpose(x, {0, 2, 1, 3}), {pairs() * n, hidden()});
  }

  const Array mask_;
};

// The unpadded layout, with our attention. Rows behind the last token belong to no
// pair: no operation lets one row influence another but attention, which reads the
// rows of pairs only.
class UnpaddedOps : public UnfusedOps {
 public:
  UnpaddedOps(const Model &model, const Variant &variant, const Batch &batch, mlx_stream stream)
      : UnfusedOps(model, variant, batch, stream) {
    std::vector<int32_t> starts{0}, tiles;
    for (int32_t length : batch.lengths) {
      const int32_t start = starts.back(), end = start + length;
      for (int32_t at = start; at < end; at += metal_kernels::tile_rows) {
        tiles.insert(tiles.end(), {at, start, end});
      }
      for (int32_t i = 0; i < length; i++) {
        positions_.push_back(i);
      }
      squares_ += int64_t{length} * length;
      starts.push_back(end);
    }
    const int pairs = batch.pairs();
    first_ = ints(starts, {pairs}); // without the end
    starts_ = ints(starts, {pairs + 1});
    tiles_ = ints(tiles, {static_cast<int>(tiles.size()) / 3, 3});
  }

  Array embed() const override {
    Array words = ops_.gather_rows(model_.word_embeddings, rows(batch_.ids));
    Array types = ops_.gather_rows(model_.type_embeddings, rows(batch_.type_ids));
    Array positions = ops_.gather_rows(model_.position_embeddings, rows(positions_));
    return add_norm(model_.embedding_norm, ops_.add(words, types), positions);
  }

  Array attention(const Array &qkv) const override {
    return timed(Phase::attention, 4 * squares_ * hidden(),
                 metal_kernels::attention(qkv, tiles_, heads(), stream_));
  }

  Array first_tokens(const Array &x) const override {
    return timed(Phase::copies, 0, ops_.gather_rows(x, first_));
  }

  Array attention_first(const Array &query, const Array &key_value) const override {
    return timed(Phase::attention, int64_t{4} * static_cast<int64_t>(batch_.ids.size()) * hidden(),
                 metal_kernels::attention_first(query, key_value, starts_, heads(), stream_));
  }

 private:
  // Returns the tokens' values, and zeros for the rows behind them.
  static Array rows(std::vector<int32_t> values) {
    values.resize(computed_rows(static_cast<int>(values.size())));
    return ints(values, {static_cast<int>(values.size())});
  }

  std::vector<int32_t> positions_; // [tokens], within the pair
  int64_t squares_ = 0; // of the lengths
  Array first_, starts_, tiles_;
};

} // namespace

int computed_rows(int tokens) {
  int step = 32; // less gains nothing: it is the height of a GEMM's tile
  while (step < 1024 && step * 32 <= tokens) {
    step *= 2;
  }
  return (tokens + step - 1) / step * step;
}

std::unique_ptr<LayerOps> unfused_ops(const Model &model, const Variant &variant,
                                      const Batch &batch, mlx_stream stream) {
  if (variant.unpadded) {
    return std::make_unique<UnpaddedOps>(model, variant, batch, stream);
  }
  return std::make_unique<PaddedOps>(model, variant, batch, stream);
}

} // namespace mlxrank
