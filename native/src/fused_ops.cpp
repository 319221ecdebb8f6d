#include "layer_ops.h"

#include "../cpu/primitives.h"
#include "ops.h"

namespace mlxrank {

namespace {

class FusedOps : public LayerOps {
 public:
  FusedOps(const Model &model, const Batch &batch, mlx_stream stream)
      : model_(model), batch_(batch), stream_(stream), lengths_(ints(batch.lengths)) {}

  Array embed() const override {
    Array ids = ints(batch_.ids), type_ids = ints(batch_.type_ids);
    return call("embed", cpu::op_embed, arg(ids), arg(type_ids), arg(lengths_),
                arg(model_.word_embeddings), arg(model_.position_embeddings),
                arg(model_.type_embeddings), arg(model_.embedding_norm.weight),
                arg(model_.embedding_norm.bias), epsilon());
  }

  Array linear(const Linear &l, const Array &x) const override {
    return call("linear", cpu::op_linear, arg(x), arg(l.weight), l.out,
                l.float32 ? cpu::Factors::float32 : factors(), cpu::Activation::none, batch_.parts);
  }

  Array attention(const Array &qkv) const override {
    return call("attention", cpu::op_attention, arg(qkv), arg(lengths_), model_.config.heads,
                batch_.parts);
  }

  Array first_tokens(const Array &x) const override {
    std::vector<int32_t> starts;
    int32_t start = 0;
    for (int32_t length : batch_.lengths) {
      starts.push_back(start);
      start += length;
    }
    return Ops(stream_).gather_rows(x, ints(starts));
  }

  Array attention_first(const Array &query, const Array &key_value) const override {
    return call("attention_cls", cpu::op_attention_cls, arg(query), arg(key_value), arg(lengths_),
                model_.config.heads, batch_.parts);
  }

  Array attention_output(const Layer &l, const Array &attended, const Array &x) const override {
    return call("linear_add_norm", cpu::op_linear_add_norm, arg(attended),
                arg(l.attention_output.weight), arg(x), arg(l.attention_norm.weight),
                arg(l.attention_norm.bias), epsilon(), factors(), batch_.parts);
  }

  Array feed_forward(const Layer &l, const Array &x) const override {
    return call("feed_forward", cpu::op_feed_forward, arg(x), arg(l.intermediate.weight),
                l.intermediate.out, activation(), arg(l.output.weight), arg(l.output_norm.weight),
                arg(l.output_norm.bias), epsilon(), factors(), batch_.parts);
  }

 private:
  static Array ints(const std::vector<int32_t> &values) {
    return array_of(values.data(), {static_cast<int>(values.size())}, MLX_INT32);
  }

  float epsilon() const { return static_cast<float>(model_.config.layer_norm_eps); }

  cpu::Factors factors() const {
    return model_.config.dtype == MLXRANK_BFLOAT16 ? cpu::Factors::bfloat16 : cpu::Factors::float32;
  }

  cpu::Activation activation() const {
    switch (model_.config.activation) {
    case MLXRANK_GELU_TANH:
      return cpu::Activation::gelu_tanh;
    case MLXRANK_RELU:
      return cpu::Activation::relu;
    default:
      return cpu::Activation::gelu;
    }
  }

  static mlx_array arg(const Array &a) { return a; }

  template <class Function, class... Arguments>
  Array call(const char *name, Function function, Arguments... arguments) const {
    return checked_call(name, function, arguments..., stream_);
  }

  const Model &model_;
  const Batch &batch_;
  mlx_stream stream_;
  Array lengths_;
};

} // namespace

std::unique_ptr<LayerOps> fused_ops(const Model &model, const Batch &batch, mlx_stream stream) {
  return std::make_unique<FusedOps>(model, batch, stream);
}

} // namespace mlxrank
