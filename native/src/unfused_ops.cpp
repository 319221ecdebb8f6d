#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "../cpu/profile.h"
#include "activation.h"
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
    if (!l.small.empty()) {
      const Array y = ops_.quantized_matmul(x, l.weight, l.small.scales, l.small.biases,
                                            model_.config.weight_group, model_.config.weight_bits);
      return timed(Phase::matmul, flops, ops_.add(y, l.bias));
    }
    return timed(Phase::matmul, flops, ops_.linear(x, l.weight, l.bias));
  }

  Array norm(const Norm &n, const Array &x) const override {
    return timed(Phase::norm, 0, normalised(n, x));
  }

  Array attention_output(const Layer &l, const Array &attended, const Array &x) const override {
    const Array y = linear(l.attention_output, attended);
    return model_.config.pre_norm ? timed(Phase::norm, 0, ops_.add(y, x))
                                  : add_norm(l.attention_norm, y, x);
  }

  Array feed_forward(const Layer &l, const Array &x) const override {
    if (model_.config.pre_norm) {
      return timed(Phase::norm, 0, ops_.add(inner_and_outer(l, norm(l.output_norm, x)), x));
    }
    return add_norm(l.output_norm, inner_and_outer(l, x), x);
  }

  Array pool(int32_t way, const Array &x) const override {
    const Array rows = rows_by_pair(x);
    if (way == MLXRANK_POOL_MAX) {
      const int n = rows.dim(1);
      const Array tokens =
          ops_.less(ops_.reshape(ops_.arange(n), {1, n, 1}), ints(batch_.lengths, {pairs(), 1, 1}));
      return timed(Phase::copies, 0, ops_.max(ops_.where(tokens, rows, scalar(-INFINITY)), 1));
    }
    const Array weights = pool_weights(way, rows.dim(1));
    return timed(Phase::copies, 0, ops_.reshape(ops_.matmul(weights, rows), {pairs(), hidden()}));
  }

 protected:
  int pairs() const { return batch_.pairs(); }
  int hidden() const { return model_.config.hidden_size; }
  int heads() const { return model_.config.heads; }
  int head_size() const { return model_.head_size(); }

  // Evaluates x now if time is recorded, so that the time counts for this phase
  // alone: the inputs of x have already been evaluated the same way.
  static Array timed(Phase phase, int64_t flops, Array x) {
    if (cpu::is_timed()) {
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
    return ops_.layer_norm(x, n.weight, n.bias, n.epsilon);
  }

  // Returns the word embeddings of ids: the shape of ids, then the embedding size.
  Array words(const Array &ids) const {
    const Small &small = model_.small_words;
    Array rows = ops_.gather_rows(model_.word_embeddings, ids);
    if (small.empty()) {
      return rows;
    }
    return ops_.dequantize(rows, ops_.gather_rows(small.scales, ids),
                           ops_.gather_rows(small.biases, ids), model_.config.weight_group,
                           model_.config.weight_bits);
  }

  // Returns x [n, hidden] as [pairs, rows, hidden], with any finite rows behind each
  // pair's length.
  virtual Array rows_by_pair(const Array &x) const = 0;

  const Model &model_;
  const Variant &variant_;
  const Batch &batch_;
  const Ops ops_;
  const mlx_stream stream_;

 private:
  float epsilon() const { return static_cast<float>(model_.config.layer_norm_eps); }

  static Array scalar(float value) { return array_of(&value, {}, MLX_FLOAT32); }

  Array inner_and_outer(const Layer &l, const Array &x) const {
    const Array wide = linear(l.intermediate, x);
    Array inner =
        timed(Phase::activation, 0, model_.config.gated ? gated(l, wide) : activated(wide));
    return linear(l.output, inner);
  }

  Array gated(const Layer &l, const Array &x) const {
    const int half = l.intermediate.out / 2;
    return ops_.multiply(activated(ops_.slice(x, 1, 0, half)),
                         ops_.slice(x, 1, half, l.intermediate.out));
  }

  Array activated(const Array &x) const {
    const int32_t activation = model_.config.activation;
    return variant_.kernels ? metal_kernels::activation(x, activation, stream_)
                            : activate(ops_, model_.constants, activation, x);
  }

  // Returns the weights of each pair's n rows, [pairs, 1, n].
  Array pool_weights(int32_t way, int n) const {
    std::vector<float> weights;
    for (const int32_t length : batch_.lengths) {
      for (int32_t i = 0; i < n; i++) {
        weights.push_back(i < length ? static_cast<float>(pool_weight(way, i, length)) : 0);
      }
    }
    return array_of(weights.data(), {pairs(), 1, n}, MLX_FLOAT32);
  }

  static double pool_weight(int32_t way, int32_t i, double length) {
    switch (way) {
    case MLXRANK_POOL_MEAN:
      return 1 / length;
    case MLXRANK_POOL_MEAN_SQRT:
      return 1 / std::sqrt(length);
    case MLXRANK_POOL_WEIGHTED_MEAN:
      return (i + 1) / (length * (length + 1) / 2);
    case MLXRANK_POOL_LAST:
      return i + 1 == length;
    default:
      return i == 0;
    }
  }

  const Array epsilon_;
};

// Appends the rows of the position embeddings of a pair's ids; see first_position of
// mlxrank_config.
void append_positions(const mlxrank_config &c, const int32_t *ids, int count,
                      std::vector<int32_t> &rows) {
  const int32_t padding = c.first_position - 1;
  int32_t next = c.first_position;
  for (int i = 0; i < count; i++) {
    rows.push_back(ids[i] == padding ? padding : next++);
  }
}

// The padded layout, with MLX's attention.
class PaddedOps : public UnfusedOps {
 public:
  PaddedOps(const Model &model, const Variant &variant, const Batch &batch, mlx_stream stream)
      : UnfusedOps(model, variant, batch, stream),
        mask_(padding_mask()),
        local_mask_(is_local(model.config.window) ? local_mask(model.config.window) : Array()) {}

  Array embed() const override {
    const mlxrank_config &c = model_.config;
    const Array words = this->words(ints(batch_.ids, {pairs(), width()}));
    Array types =
        ops_.gather_rows(model_.type_embeddings, ints(batch_.type_ids, {pairs(), width()}));
    Array sum = ops_.add(words, types);
    if (!model_.position_embeddings.empty()) {
      sum = ops_.add(sum, spells_padding()
                              ? position_embeddings()
                              : ops_.slice(model_.position_embeddings, 0, c.first_position,
                                           c.first_position + width()));
    }
    sum = ops_.reshape(sum, {pairs() * width(), c.embedding_size});
    return timed(Phase::gather, 0, normalised(model_.embedding_norm, sum));
  }

  Array attention(const Layer &l, const Array &qkv) const override {
    const int64_t flops = attention_flops(width());
    if (variant_.attention == Variant::Attention::padded_query) {
      return timed(Phase::attention, flops,
                   attend_padded(split_heads(qkv, 0, width()), qkv, hidden()));
    }
    const Array turned = rotated(l, qkv, 2 * heads()); // empty without rotary positions
    const Array &queries_keys = turned.empty() ? qkv : turned;
    if (is_local(l.window)) {
      return timed(Phase::attention, 3 * flops * l.window / width(),
                   attend_locally(l.window, queries_keys, qkv));
    }
    return timed(
        Phase::attention, flops,
        attend(split_heads(queries_keys, 0, width()), split_heads(queries_keys, hidden(), width()),
               split_heads(qkv, 2 * hidden(), width()), mask_));
  }

  Array first_tokens(const Array &x) const override {
    Array cls = ops_.slice(ops_.reshape(x, {pairs(), width(), hidden()}), 1, 0, 1);
    return timed(Phase::copies, 0, ops_.reshape(cls, {pairs(), hidden()}));
  }

  // The rotation of the query, which has position 0, is the identity.
  Array attention_first(const Layer &l, const Array &query, const Array &key_value) const override {
    const int64_t flops = attention_flops(1);
    const Array queries = split_heads(query, 0, 1);
    if (variant_.attention == Variant::Attention::padded_query) {
      return timed(Phase::attention, flops, attend_padded(queries, key_value, 0));
    }
    const Array turned = rotated(l, key_value, heads());
    Array keys = split_heads(turned.empty() ? key_value : turned, 0, width());
    Array values = split_heads(key_value, hidden(), width());
    if (!is_local(l.window)) {
      return timed(Phase::attention, flops, attend(queries, keys, values, mask_));
    }
    const int reach = l.window + 1;
    keys = ops_.slice(keys, 2, 0, reach);
    values = ops_.slice(values, 2, 0, reach);
    return timed(Phase::attention, flops * reach / width(),
                 attend(queries, keys, values, ops_.slice(mask_, 3, 0, reach)));
  }

 private:
  int width() const { return batch_.width; }

  // Reports whether a window leaves out a token of the longest pair.
  bool is_local(int window) const { return window > 0 && window + 1 < width(); }

  // Reports whether a text spells the padding token.
  bool spells_padding() const {
    for (int pair = 0; pair < pairs(); pair++) {
      const auto begin = batch_.ids.begin() + int64_t{pair} * width(),
                 end = begin + batch_.lengths[pair];
      if (std::find(begin, end, model_.config.first_position - 1) != end) {
        return true;
      }
    }
    return false;
  }

  // Returns the position embeddings of every token, [pairs, width, embedding_size].
  Array position_embeddings() const {
    std::vector<int32_t> positions;
    for (int pair = 0; pair < pairs(); pair++) {
      append_positions(model_.config, &batch_.ids[int64_t{pair} * width()], width(), positions);
    }
    return ops_.gather_rows(model_.position_embeddings, ints(positions, {pairs(), width()}));
  }

  // Returns [pairs, 1, 1, width], true where there is a token.
  Array padding_mask() const {
    Array lengths = ints(batch_.lengths, {pairs(), 1, 1, 1});
    Array positions = ops_.reshape(ops_.arange(width()), {1, 1, 1, width()});
    return ops_.less(positions, lengths);
  }

  Array rows_by_pair(const Array &x) const override {
    return ops_.reshape(x, {pairs(), width(), hidden()});
  }

  // Counts the matmuls with keys and values, for the number of queries per pair.
  int64_t attention_flops(int queries) const {
    return int64_t{4} * pairs() * queries * width() * hidden();
  }

  // Returns the first columns of x [pairs * width, ...], count heads, rotated by the
  // layer's positions; nothing if it has no rotary positions. cos and sin are tables
  // and not MLX's rope, because MLX computes angles in x's dtype on the CPU, and on
  // Metal with fast functions that are inexact for large angles.
  Array rotated(const Layer &l, const Array &x, int count) const {
    const Rope &rope = model_.rope_of(l);
    if (rope.cos.empty()) {
      return Array();
    }
    const int size = head_size(), half = size / 2;
    auto table = [&](const Array &t) {
      return ops_.reshape(ops_.slice(t, 0, 0, width()), {1, width(), 1, size});
    };
    const Array part =
        ops_.reshape(ops_.slice(x, 1, 0, count * size), {pairs(), width(), count, size});
    const Array high = ops_.slice(part, 3, half, size), low = ops_.slice(part, 3, 0, half);
    const Array swapped = ops_.concatenate({&high, &low}, 3);
    Array sum =
        ops_.add(ops_.multiply(part, table(rope.cos)), ops_.multiply(swapped, table(rope.sin)));
    return ops_.reshape(sum, {pairs() * width(), count * size});
  }

  float scale() const { return 1.0f / std::sqrt(static_cast<float>(head_size())); }

  // Attends with queries [pairs, heads, n, head size] to keys and values
  // [pairs, heads, width, head size]. It returns [pairs * n, hidden].
  Array attend(const Array &queries, const Array &keys, const Array &values,
               const Array &mask) const {
    const int n = queries.dim(2);
    if (n <= long_width || has_fused_attention()) {
      return merge_heads(ops_.attention(queries, keys, values, scale(), mask), n);
    }
    // Here MLX stores the scores of all queries that it computes at once.
    std::vector<Array> parts;
    std::vector<const Array *> all;
    for (int from = 0; from < n; from += long_width) {
      const Array part = ops_.slice(queries, 2, from, std::min(n, from + long_width));
      parts.push_back(
          timed(Phase::attention, 0, ops_.attention(part, keys, values, scale(), mask)));
      if (model_.config.device == MLXRANK_CPU) {
        eval({&parts.back()});
      }
    }
    for (const Array &part : parts) {
      all.push_back(&part);
    }
    return merge_heads(ops_.concatenate(all, 2), n);
  }

  // Reports whether MLX has a kernel that stores no scores.
  bool has_fused_attention() const {
    return model_.config.device == MLXRANK_GPU && (head_size() == 64 || head_size() == 128);
  }

  // Attends within a window, in work that is proportional to it: blocks of window queries
  // attend to their own and the neighbouring blocks of keys, which are an overlapping
  // view. The pairs lie end to end, each of whole blocks, so that blocks have equal
  // distances. queries_keys has queries, then keys in its columns, qkv values
  // in the last ones.
  Array attend_locally(int window, const Array &queries_keys, const Array &qkv) const {
    const int count = pairs() * blocks(window), h = hidden();
    const Array queries = whole_blocks(window, queries_keys, 0);
    const Array keys = ops_.pad_rows(whole_blocks(window, queries_keys, h), window, zero());
    const Array values = ops_.pad_rows(whole_blocks(window, qkv, 2 * h), window, zero());
    auto view = [&](const Array &rows, int n) {
      return ops_.view(rows, {count, heads(), n, head_size()},
                       {int64_t{window} * h, head_size(), h, 1}, 0);
    };
    Array attended = ops_.attention(view(queries, window), view(keys, 3 * window),
                                    view(values, 3 * window), scale(), local_mask_);
    attended =
        ops_.reshape(ops_.transpose(attended, {0, 2, 1, 3}), {pairs(), blocks(window) * window, h});
    return ops_.reshape(ops_.slice(attended, 1, 0, width()), {pairs() * width(), h});
  }

  int blocks(int window) const { return (width() + window - 1) / window; }

  const Array &zero() const { return model_.constants.zero; }

  // Returns columns [from, from + hidden) of x [pairs * width, ...], contiguous, with rows
  // of zeros that make each pair whole blocks.
  Array whole_blocks(int window, const Array &x, int from) const {
    const int rows = blocks(window) * window;
    Array part = ops_.slice(x, 1, from, from + hidden());
    if (rows == width()) {
      return ops_.contiguous(part);
    }
    part = ops_.reshape(part, {pairs(), width(), hidden()});
    part = ops_.pad(part, {1}, {rows - width()}, zero());
    return ops_.reshape(part, {pairs() * rows, hidden()});
  }

  // Returns which keys each query of a block attends to, [pairs * blocks, 1, window,
  // 3 window]. A query behind the pair's length attends to itself, so that its result
  // is finite: it is a value of the next layer, with weight 0.
  Array local_mask(int window) const {
    const int columns = 3 * window, count = blocks(window);
    std::vector<uint8_t> near, self, tokens;
    for (int query = window; query < 2 * window; query++) {
      for (int key = 0; key < columns; key++) {
        near.push_back(std::abs(query - key) <= window);
        self.push_back(query == key);
      }
    }
    for (const int32_t length : batch_.lengths) {
      for (int block = 0; block < count; block++) {
        for (int column = 0; column < columns; column++) {
          const int key = (block - 1) * window + column;
          tokens.push_back(key >= 0 && key < length);
        }
      }
    }
    auto flags = [&](const std::vector<uint8_t> &values, int blocks, int rows) {
      return array_of(values.data(), {blocks, 1, rows, columns}, MLX_BOOL);
    };
    return ops_.either(ops_.both(flags(near, 1, window), flags(tokens, pairs() * count, 1)),
                       flags(self, 1, window));
  }

  // MLX has fused kernels for head size 64 and none for smaller ones. So this
  // lengthens the queries by zeros, and takes for each head's keys and values a
  // window of 64 columns of x, without a copy: windows overlap. The keys' window
  // begins with the head's keys, in the columns of x from from on, and the zeros cancel
  // the neighbours behind them, whose values must be finite. The values' window ends
  // with the head's values, which become the last columns of the result. Neither window
  // leaves x [pairs * width, ...].
  Array attend_padded(const Array &queries, const Array &x, int from) const {
    const int size = head_size(), extra = padded_head_size - size, n = queries.dim(2);
    const int64_t columns = x.dim(1);
    auto window = [&](int first) {
      return ops_.view(x, {pairs(), heads(), width(), padded_head_size},
                       {width() * columns, size, columns, 1}, first);
    };
    // For at most 8 queries MLX has another kernel, which copies such keys and values.
    const int rows = n < least_queries ? least_queries : n;
    Array padded = ops_.pad(queries, {2, 3}, {rows - n, extra}, zero());
    Array attended =
        ops_.attention(padded, window(from), window(from + hidden() - extra), scale(), mask_);
    return merge_heads(ops_.slice(ops_.slice(attended, 3, extra, padded_head_size), 2, 0, n), n);
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

  const Array mask_, local_mask_;
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
      append_positions(model.config, &batch.ids[start], length, positions_);
      squares_ += int64_t{length} * length;
      starts.push_back(end);
    }
    const int pairs = batch.pairs();
    first_ = ints(starts, {pairs}); // without the end
    starts_ = ints(starts, {pairs + 1});
    tiles_ = ints(tiles, {static_cast<int>(tiles.size()) / 3, 3});
  }

  Array embed() const override {
    const Array words = this->words(rows(batch_.ids));
    Array types = ops_.gather_rows(model_.type_embeddings, rows(batch_.type_ids));
    Array positions = ops_.gather_rows(model_.position_embeddings, rows(positions_));
    return add_norm(model_.embedding_norm, ops_.add(words, types), positions);
  }

  Array attention(const Layer &, const Array &qkv) const override {
    return timed(Phase::attention, 4 * squares_ * hidden(),
                 Ops::counted_attention(qkv, qkv, qkv,
                                        metal_kernels::attention(qkv, tiles_, heads(), stream_)));
  }

  Array first_tokens(const Array &x) const override {
    return timed(Phase::copies, 0, ops_.gather_rows(x, first_));
  }

  Array attention_first(const Layer &, const Array &query, const Array &key_value) const override {
    return timed(Phase::attention, int64_t{4} * static_cast<int64_t>(batch_.ids.size()) * hidden(),
                 Ops::counted_attention(
                     query, key_value, key_value,
                     metal_kernels::attention_first(query, key_value, starts_, heads(), stream_)));
  }

 private:
  // Returns the tokens' values, and zeros for the rows behind them.
  static Array rows(std::vector<int32_t> values) {
    values.resize(computed_rows(static_cast<int>(values.size())));
    return ints(values, {static_cast<int>(values.size())});
  }

  // Behind a pair's length its last row comes again.
  Array rows_by_pair(const Array &x) const override {
    const int32_t longest = *std::max_element(batch_.lengths.begin(), batch_.lengths.end());
    std::vector<int32_t> indexes;
    int32_t start = 0;
    for (const int32_t length : batch_.lengths) {
      for (int32_t i = 0; i < longest; i++) {
        indexes.push_back(start + std::min(i, length - 1));
      }
      start += length;
    }
    return ops_.gather_rows(x, ints(indexes, {pairs(), longest}));
  }

  std::vector<int32_t> positions_; // [tokens], rows of the position embeddings
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
