#include "layer_ops.h"

#include "factors.h"
#include "ops.h"

namespace mlxrank {

namespace {

class FusedOps : public LayerOps {
 public:
  FusedOps(const Model &model, const Batch &batch, mlx_stream stream)
      : model_(model), batch_(batch), stream_(stream), lengths_(ints(batch.lengths)) {}

  Array embed() const override {
    const Array ids = ints(batch_.ids), type_ids = ints(batch_.type_ids);
    const cpu::EmbeddingArrays embeddings = {words(),
                                             model_.small_words.empty() ? nullptr : &small_words_,
                                             model_.config.embedding_size,
                                             model_.type_embeddings,
                                             model_.position_embeddings,
                                             model_.config.first_position,
                                             arrays(model_.embedding_norm)};
    return call("embed", cpu::op_embed, arg(ids), arg(type_ids), arg(lengths_), embeddings);
  }

  Array linear(const Linear &l, const Array &x) const override {
    return call("linear", cpu::op_linear, arg(x), arg(l.weight), l.out, factors(l),
                cpu::Activation::none, batch_.parts);
  }

  Array norm(const Norm &n, const Array &x) const override {
    return call("layer_norm", cpu::op_layer_norm, arg(x), arrays(n), batch_.parts);
  }

  Array attention(const Layer &l, const Array &qkv) const override {
    return call("attention", cpu::op_attention, arg(qkv), arg(lengths_), model_.config.heads,
                positions(l), factors(l.output), batch_.parts);
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

  Array attention_first(const Layer &l, const Array &query, const Array &key_value) const override {
    return call("attention_cls", cpu::op_attention_cls, arg(query), arg(key_value), arg(lengths_),
                model_.config.heads, positions(l), factors(l.output), batch_.parts);
  }

  Array attention_output(const Layer &l, const Array &attended, const Array &x) const override {
    const cpu::NormArrays norm =
        model_.config.pre_norm ? cpu::NormArrays{} : arrays(l.attention_norm);
    return call("linear_add_norm", cpu::op_linear_add_norm, arg(attended),
                arg(l.attention_output.weight), arg(x), norm, factors(l.attention_output),
                batch_.parts);
  }

  Array feed_forward(const Layer &l, const Array &x) const override {
    const mlxrank_config &c = model_.config;
    const cpu::FeedForwardArrays block = {
        l.intermediate.weight, l.intermediate.out,  c.gated != 0,          activation(),
        l.output.weight,       c.intermediate_size, arrays(l.output_norm), c.pre_norm != 0};
    return call("feed_forward", cpu::op_feed_forward, arg(x), block, factors(l.output),
                batch_.parts);
  }

  Array pool(int32_t way, const Array &x) const override {
    return call("pool", cpu::op_pool, arg(x), arg(lengths_), pooling(way));
  }

 private:
  static Array ints(const std::vector<int32_t> &values) {
    return array_of(values.data(), {static_cast<int>(values.size())}, MLX_INT32);
  }

  // Returns null for small words.
  const float *words() const {
    if (!model_.small_words.empty()) {
      return nullptr;
    }
    return model_.mapped_words != nullptr ? model_.mapped_words->floats()
                                          : mlx_array_data_float32(model_.word_embeddings);
  }

  cpu::SmallMatrix small_words() const {
    if (model_.small_words.empty()) {
      return {};
    }
    const void *numbers = model_.mapped_words != nullptr
                              ? static_cast<const void *>(model_.mapped_words->floats())
                              : mlx_array_data_uint32(model_.word_embeddings);
    return {static_cast<const uint8_t *>(numbers),
            mlx_array_data_float32(model_.small_words.scales),
            mlx_array_data_float32(model_.small_words.biases),
            {model_.config.weight_bits, model_.config.weight_group}};
  }

  static cpu::NormArrays arrays(const Norm &n) { return {n.weight, n.bias, n.epsilon}; }

  cpu::PositionArrays positions(const Layer &l) const {
    const Rope &rope = model_.rope_of(l);
    return {l.window, rope.cos, rope.sin};
  }

  cpu::Factors factors(const Linear &l) const { return factors_of(model_.config, l); }

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

  static cpu::Pooling pooling(int32_t way) {
    switch (way) {
    case MLXRANK_POOL_MAX:
      return cpu::Pooling::max;
    case MLXRANK_POOL_MEAN:
      return cpu::Pooling::mean;
    case MLXRANK_POOL_MEAN_SQRT:
      return cpu::Pooling::mean_sqrt;
    case MLXRANK_POOL_WEIGHTED_MEAN:
      return cpu::Pooling::weighted_mean;
    case MLXRANK_POOL_LAST:
      return cpu::Pooling::last;
    default:
      return cpu::Pooling::cls;
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
  const cpu::SmallMatrix small_words_ = small_words(); // without numbers if there are none
};

} // namespace

std::unique_ptr<LayerOps> fused_ops(const Model &model, const Batch &batch, mlx_stream stream) {
  return std::make_unique<FusedOps>(model, batch, stream);
}

} // namespace mlxrank
