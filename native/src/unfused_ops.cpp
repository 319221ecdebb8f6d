#include "../cpu/profile.h"
#include "layer_ops.h"
#include "ops.h"

namespace mlxrank {

namespace {

using cpu::Phase;

class UnfusedOps : public LayerOps {
 public:
  UnfusedOps(const Model &model, const Batch &batch, mlx_stream stream)
      : model_(model), batch_(batch), ops_(stream), mask_(padding_mask()) {}

  Array embed() const override {
    Array ids = array_of(batch_.ids.data(), {rows(), width()}, MLX_INT32);
    Array type_ids = array_of(batch_.type_ids.data(), {rows(), width()}, MLX_INT32);
    Array words = ops_.gather_rows(model_.word_embeddings, ids);
    Array types = ops_.gather_rows(model_.type_embeddings, type_ids);
    Array positions = ops_.slice(model_.position_embeddings, 0, 0, width());
    Array sum = ops_.add(ops_.add(words, types), positions);
    sum = ops_.reshape(sum, {rows() * width(), hidden()});
    return timed(Phase::gather, 0, normalised(model_.embedding_norm, sum));
  }

  Array linear(const Linear &l, const Array &x) const override {
    const int64_t flops = int64_t{2} * x.dim(0) * x.dim(1) * l.weight.dim(0);
    return timed(Phase::matmul, flops, ops_.linear(x, l.weight, l.bias));
  }

  Array attention(const Array &qkv) const override {
    Array attended = ops_.attention(heads(qkv, 0, width()), heads(qkv, hidden(), width()),
                                    heads(qkv, 2 * hidden(), width()), mask_);
    return timed(Phase::attention, attention_flops(width()), merge_heads(attended, width()));
  }

  Array first_tokens(const Array &x) const override {
    Array cls = ops_.slice(ops_.reshape(x, {rows(), width(), hidden()}), 1, 0, 1);
    return timed(Phase::copies, 0, ops_.reshape(cls, {rows(), hidden()}));
  }

  Array attention_first(const Array &query, const Array &key_value) const override {
    Array attended = ops_.attention(heads(query, 0, 1), heads(key_value, 0, width()),
                                    heads(key_value, hidden(), width()), mask_);
    return timed(Phase::attention, attention_flops(1), merge_heads(attended, 1));
  }

  Array attention_output(const Layer &l, const Array &attended, const Array &x) const override {
    return add_norm(l.attention_norm, linear(l.attention_output, attended), x);
  }

  Array feed_forward(const Layer &l, const Array &x) const override {
    Array inner = timed(Phase::activation, 0, activate(linear(l.intermediate, x)));
    return add_norm(l.output_norm, linear(l.output, inner), x);
  }

 private:
  int rows() const { return batch_.pairs(); }
  int width() const { return batch_.width; }
  int hidden() const { return model_.config.hidden_size; }

  // Returns [rows, 1, 1, width], true where there is a token.
  Array padding_mask() const {
    Array lengths = array_of(batch_.lengths.data(), {rows(), 1, 1, 1}, MLX_INT32);
    Array positions = ops_.reshape(ops_.arange(width()), {1, 1, 1, width()});
    return ops_.less(positions, lengths);
  }

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

  // Counts the matmuls with keys and values, for the number of queries per pair.
  int64_t attention_flops(int queries) const {
    return int64_t{4} * rows() * queries * width() * hidden();
  }

  Array add_norm(const Norm &n, const Array &x, const Array &residual) const {
    return timed(Phase::norm, 0, normalised(n, ops_.add(x, residual)));
  }

  Array normalised(const Norm &n, const Array &x) const {
    return ops_.layer_norm(x, n.weight, n.bias, static_cast<float>(model_.config.layer_norm_eps));
  }

  // Returns columns [from, from + hidden) of x [rows * n, ...] as
  // [rows, heads, n, head size].
  Array heads(const Array &x, int from, int n) const {
    Array part = ops_.slice(x, 1, from, from + hidden());
    part = ops_.reshape(part, {rows(), n, model_.config.heads, model_.head_size()});
    return ops_.transpose(part, {0, 2, 1, 3});
  }

  // Returns [rows, heads, n, head size] as [rows * n, hidden].
  Array merge_heads(const Array &x, int n) const {
    return ops_.reshape(ops_.transpose(x, {0, 2, 1, 3}), {rows() * n, hidden()});
  }

  Array activate(const Array &x) const {
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

  const Model &model_;
  const Batch &batch_;
  Ops ops_;
  Array mask_;
};

} // namespace

// There is one variant so far.
std::unique_ptr<LayerOps> unfused_ops(const Model &model, const Variant &, const Batch &batch,
                                      mlx_stream stream) {
  return std::make_unique<UnfusedOps>(model, batch, stream);
}

} // namespace mlxrank
