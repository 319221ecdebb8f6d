#include "config.h"

#include <cmath>
#include <cstring>
#include <set>
#include <string>

#include "error.h"
#include "model.h"
#ifdef MLXRANK_CPU_KERNELS
#include "../cpu/int8.h"
#endif

namespace mlxrank {

namespace {

void check_range(const char *name, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most) {
    invalid("config: " + std::string(name) + " is " + std::to_string(value) + ", want " +
            std::to_string(least) + " to " + std::to_string(most));
  }
}

void check_positive(const std::string &name, double value) {
  if (!(value > 0) || !std::isfinite(value)) {
    invalid("config: " + name + " is " + std::to_string(value) + ", want a positive number");
  }
}

constexpr int64_t most_size = 1 << 24; // the product of two sizes fits into int64

// Positions by embeddings or by rotation, and the window of local layers.
void check_positions(const mlxrank_config &c) {
  check_range("first_position", c.first_position, 0, most_size);
  check_range("window", c.window, 0, most_size);
  if (c.window > 0) {
    check_range("global_every", c.global_every, 1, most_size);
  }
  if (c.rope_base == 0) {
    return;
  }
  check_positive("rope_base", c.rope_base);
  if (c.window > 0) {
    check_positive("local_rope_base", c.local_rope_base);
  }
  check_range("max_positions with rotary positions", c.max_positions, 1, 1 << 20);
  if (c.hidden_size / c.heads % 2 != 0) {
    invalid("config: heads of size " + std::to_string(c.hidden_size / c.heads) +
            " cannot have rotary positions, want an even size");
  }
}

void check_step(const mlxrank_head_step &s, const std::string &at, int32_t in) {
  check_range((at + ".kind").c_str(), s.kind, MLXRANK_DENSE, MLXRANK_LAYER_NORM);
  check_range((at + ".out").c_str(), s.out, 1, most_size);
  if (s.kind == MLXRANK_DENSE) {
    check_range((at + ".activation").c_str(), s.activation, MLXRANK_GELU, MLXRANK_IDENTITY);
    check_range((at + ".residual").c_str(), s.residual, 0, 1);
  } else {
    check_positive(at + ".epsilon", s.epsilon);
  }
  if ((s.kind == MLXRANK_LAYER_NORM || s.residual) && s.out != in) {
    invalid("config: " + at + ".out is " + std::to_string(s.out) + ", want its input's " +
            std::to_string(in));
  }
}

void check_head(const mlxrank_config &c) {
  check_range("pooling", c.pooling, 1, 2 * MLXRANK_POOL_LAST - 1);
  check_range("head_steps", c.head_steps, 1, MLXRANK_HEAD_STEPS);
  std::set<std::string> names;
  int32_t size = pooled_size(c);
  for (int32_t i = 0; i < c.head_steps; i++) {
    const mlxrank_head_step &s = c.head[i];
    const std::string at = "head[" + std::to_string(i) + "]";
    const size_t length = strnlen(s.name, sizeof s.name);
    if (length == 0 || length == sizeof s.name) {
      invalid("config: " + at + ".name has no end or no letters");
    }
    if (!names.insert(s.name).second) {
      invalid("config: " + at + ".name " + s.name + " is another step's too");
    }
    check_step(s, at, size);
    size = s.out;
  }
  if (size != c.labels) {
    invalid("config: the head's last step has " + std::to_string(size) + " outputs, want labels " +
            std::to_string(c.labels));
  }
}

// Small weights have 8 or 4 bits, and 32 or 64 of them share a scale.
void check_small_weights(const mlxrank_config &c) {
  if (c.weight_bits == 0 && c.weight_group == 0) {
    return;
  }
  if (c.weight_bits != 8 && c.weight_bits != 4) {
    invalid("config: weight_bits is " + std::to_string(c.weight_bits) + ", want 8 or 4");
  }
  if (c.weight_group != 32 && c.weight_group != 64) {
    invalid("config: weight_group is " + std::to_string(c.weight_group) + ", want 32 or 64");
  }
}

void check_model_dtype(const mlxrank_config &c) {
  if (c.dtype != MLXRANK_INT8) {
    check_dtype(c.dtype, "config");
  } else if (!uses_kernels(c)) {
    invalid(
        "int8 needs the CPU's kernels: use device cpu without MLXRANK_UNFUSED_GRAPH, or "
        "another dtype");
  } else if (c.weight_bits != 0) {
    invalid("int8 quantises weights of float32, float16 or bfloat16: the model's have " +
            std::to_string(c.weight_bits) + " bits already; use another dtype");
  }
#ifdef MLXRANK_CPU_KERNELS
  if (c.dtype == MLXRANK_INT8 && !cpu::int8::is_exact()) {
    invalid(
        "int8: this processor's products of 8 bit integers fail a self-test; use another "
        "dtype, and report the processor");
  }
#endif
}

} // namespace

void check_dtype(int32_t dtype, const std::string &what) {
  if (dtype < MLXRANK_FLOAT32 || dtype > MLXRANK_BFLOAT16) {
    invalid(what + ": dtype " + std::to_string(dtype) + " is unknown");
  }
}

void check_config(const mlxrank_config &c) {
  check_range("vocab_size", c.vocab_size, 1, most_size);
  check_range("hidden_size", c.hidden_size, 1, most_size);
  check_range("embedding_size", c.embedding_size, 1, most_size);
  check_range("layers", c.layers, 1, 1024);
  check_range("heads", c.heads, 1, c.hidden_size);
  check_range("intermediate_size", c.intermediate_size, 1, most_size);
  check_range("max_positions", c.max_positions, 1, most_size);
  check_range("type_vocab_size", c.type_vocab_size, 1, most_size);
  check_range("labels", c.labels, 1, most_size);
  check_range("activation", c.activation, MLXRANK_GELU, MLXRANK_RELU);
  check_range("pre_norm", c.pre_norm, 0, 1);
  check_range("gated", c.gated, 0, 1);
  check_model_dtype(c);
  if (c.hidden_size % c.heads != 0) {
    invalid("config: hidden_size " + std::to_string(c.hidden_size) +
            " is not a multiple of heads " + std::to_string(c.heads));
  }
  check_positive("layer_norm_eps", c.layer_norm_eps);
  check_positions(c);
  check_head(c);
  check_small_weights(c);
}

} // namespace mlxrank
