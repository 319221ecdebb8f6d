// Tests the variants of the unfused graph: all compute what the reference does, on
// pairs of all lengths, for every head size that they support.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "graph.h"
#include "ops.h"
#include "workers.h"

using namespace mlxrank;

namespace {

int failures = 0;

using Activations = std::map<std::string, std::vector<float>>;

struct Tensors {
  std::vector<std::vector<float>> data;
  std::vector<std::string> names;
  std::vector<mlxrank_tensor> list;
};

mlxrank_config config_of(int heads, int head_size, int layers) {
  mlxrank_config c = {};
  c.size = sizeof c;
  c.device = MLXRANK_CPU;
  c.hidden_size = heads * head_size;
  c.heads = heads;
  c.layers = layers;
  c.intermediate_size = 2 * c.hidden_size + 3;
  c.vocab_size = 100;
  c.max_positions = 512;
  c.type_vocab_size = 2;
  c.labels = 2;
  c.layer_norm_eps = 1e-12;
  return c;
}

// Makes a random model with LayerNorm weights around 1 and attention that is far
// from uniform.
std::shared_ptr<const Model> random_model(const mlxrank_config &c, std::mt19937 &random) {
  Tensors t;
  auto add = [&](const std::string &name, std::vector<int64_t> shape, float mean, float deviation) {
    std::normal_distribution<float> normal(mean, deviation);
    int64_t size = 1;
    for (int64_t d : shape) {
      size *= d;
    }
    t.data.emplace_back(size);
    for (float &v : t.data.back()) {
      v = normal(random);
    }
    t.names.push_back(name);
    mlxrank_tensor tensor = {};
    tensor.bytes = size * static_cast<int64_t>(sizeof(float));
    tensor.rank = static_cast<int32_t>(shape.size());
    std::copy(shape.begin(), shape.end(), tensor.shape);
    t.list.push_back(tensor);
  };
  const int64_t h = c.hidden_size, f = c.intermediate_size;
  auto linear = [&](const std::string &name, int64_t out, int64_t in, float gain) {
    add(name + ".weight", {out, in}, 0, gain / std::sqrt(static_cast<float>(in)));
    add(name + ".bias", {out}, 0, 0.1f);
  };
  auto norm = [&](const std::string &name) {
    add(name + ".weight", {h}, 1, 0.1f);
    add(name + ".bias", {h}, 0, 0.1f);
  };
  add("embeddings.word_embeddings.weight", {c.vocab_size, h}, 0, 1);
  add("embeddings.position_embeddings.weight", {c.max_positions, h}, 0, 1);
  add("embeddings.token_type_embeddings.weight", {c.type_vocab_size, h}, 0, 1);
  norm("embeddings.LayerNorm");
  for (int i = 0; i < c.layers; i++) {
    const std::string at = "encoder.layer." + std::to_string(i) + ".";
    linear(at + "attention.self.query", h, h, 2);
    linear(at + "attention.self.key", h, h, 2);
    linear(at + "attention.self.value", h, h, 1);
    linear(at + "attention.output.dense", h, h, 1);
    norm(at + "attention.output.LayerNorm");
    linear(at + "intermediate.dense", f, h, 1);
    linear(at + "output.dense", h, f, 1);
    norm(at + "output.LayerNorm");
  }
  linear("pooler.dense", h, h, 1);
  linear("classifier", c.labels, h, 1);
  for (size_t i = 0; i < t.list.size(); i++) {
    t.list[i].name = t.names[i].c_str();
    t.list[i].data = t.data[i].data();
  }
  return open_model(c, t.list.data(), static_cast<int32_t>(t.list.size()));
}

// Makes a batch of the same random tokens in either layout. change is added to the
// last token of the first pair. Padding is random: it must not matter.
Batch random_batch(const mlxrank_config &c, const Variant &variant, std::vector<int32_t> lengths,
                   int change) {
  std::mt19937 tokens(7), padding(8);
  Batch batch;
  batch.lengths = std::move(lengths);
  batch.width = *std::max_element(batch.lengths.begin(), batch.lengths.end());
  for (int32_t length : batch.lengths) {
    for (int i = 0; i < (variant.unpadded ? length : batch.width); i++) {
      std::mt19937 &random = i < length ? tokens : padding;
      batch.ids.push_back(static_cast<int32_t>(random() % c.vocab_size));
      batch.type_ids.push_back(static_cast<int32_t>(random() % c.type_vocab_size));
    }
    if (batch.ids.size() <= static_cast<size_t>(batch.width)) { // the first pair
      int32_t &last = batch.ids[length - 1];
      last = (last + change) % c.vocab_size;
    }
  }
  return batch;
}

// Returns the activations by name, without the rows of padding.
Activations activations_of(const Model &model, const Variant &variant,
                           const std::vector<int32_t> &lengths, int change) {
  const Batch batch = random_batch(model.config, variant, lengths, change);
  Activations result;
  run_on_device(model.config.device, [&](mlx_stream stream) {
    std::vector<Activation> activations;
    forward(model, variant, batch, stream, &activations);
    for (const Activation &a : activations) {
      eval({&a.values});
      const float *values = mlx_array_data_float32(a.values);
      const int rows = a.values.dim(0), columns = a.values.dim(1);
      std::vector<float> &kept = result[a.name];
      if (rows == batch.pairs()) {
        kept.assign(values, values + size_t(rows) * columns);
        continue;
      }
      int row = 0;
      for (int32_t length : batch.lengths) {
        kept.insert(kept.end(), values + size_t(row) * columns,
                    values + size_t(row + length) * columns);
        row += variant.unpadded ? length : batch.width;
      }
    }
  });
  return result;
}

// Returns the largest difference of any activation, and whose it is. NaN counts as
// infinite.
double difference(const Activations &a, const Activations &b, std::string *where) {
  double worst = a.size() == b.size() ? 0 : INFINITY;
  for (const auto &[name, values] : a) {
    const auto other = b.find(name);
    if (other == b.end() || other->second.size() != values.size()) {
      *where = name + " is missing or has another size";
      return INFINITY;
    }
    for (size_t i = 0; i < values.size(); i++) {
      const double d = std::fabs(double{values[i]} - other->second[i]);
      if (!(d <= worst)) {
        worst = std::isnan(d) ? INFINITY : d;
        *where = name + "[" + std::to_string(i) + "]";
      }
    }
  }
  return worst;
}

// Rounding differs by this where attention is far from uniform, and later layers
// enlarge it.
constexpr double attention_bound = 2e-6, bound = 5e-6;

// Compares every variant of a random model with the reference.
void compare(int heads, int head_size, const std::vector<int32_t> &lengths,
             std::map<std::string, double> *worst) {
  std::mt19937 random(heads * 1000 + head_size);
  const std::shared_ptr<const Model> model = random_model(config_of(heads, head_size, 2), random);
  const std::string attention = "encoder.layer.0.attention.self";
  const auto want = activations_of(*model, find_variant(*model, "reference"), lengths, 0);
  auto check = [&](const std::string &name, double limit, const Activations &a,
                   const Activations &b) {
    std::string where;
    const double d = difference(a, b, &where);
    if (!(d <= limit)) {
      failures++;
      std::fprintf(stderr,
                   "%s, %d heads of %d, %zu pairs: %s differs from the reference by %g, "
                   "want at most %g\n",
                   name.c_str(), heads, head_size, lengths.size(), where.c_str(), d, limit);
    }
    (*worst)[name] = std::max((*worst)[name], d);
  };
  for (const Variant &variant : variants_of(*model)) {
    const auto got = activations_of(*model, variant, lengths, 0);
    check(variant.name, bound, want, got);
    check(std::string(variant.name) + ", attention of the first layer", attention_bound,
          {{attention, want.at(attention)}}, {{attention, got.at(attention)}});
    // Control: another last token of the first pair shows.
    std::string where;
    const double d = difference(want, activations_of(*model, variant, lengths, 1), &where);
    if (!(d > 100 * bound)) {
      failures++;
      std::fprintf(stderr, "%s, %d heads of %d: another token changes no more than %g\n",
                   variant.name, heads, head_size, d);
    }
  }
}

} // namespace

int main() {
  setenv("MLXRANK_UNFUSED_GRAPH", "1", 1);
  install_error_handler();
  std::map<std::string, double> worst;
  for (int head_size = 8; head_size <= 64; head_size++) {
    compare(head_size < 16 ? 7 : 3, head_size, {1, 5, 33, 2, 64, 17}, &worst);
  }
  for (int first = 1; first <= 512; first += 64) {
    std::vector<int32_t> lengths;
    for (int i = 0; i < 64; i += 8) {
      lengths.push_back(first + (i * 37 + 11) % 64);
    }
    compare(3, 32, lengths, &worst);
  }
  for (const auto &[name, d] : worst) {
    std::printf("%s: at most %.2g from the reference\n", name.c_str(), d);
  }
  return failures == 0 ? 0 : 1;
}
