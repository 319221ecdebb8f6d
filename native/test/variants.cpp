// Tests the variants of the unfused graph: all compute what the reference does, on
// pairs of all lengths, for every head size that they support.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "evaluator.h"
#include "ops.h"
#include "random_model.h"

using namespace mlxrank;

namespace {

int failures = 0;

using Activations = std::map<std::string, std::vector<float>>;

// Returns the activations by name, without the rows of padding.
Activations activations_of(const Model &model, const Variant &variant,
                           const std::vector<int32_t> &lengths, int change) {
  const Batch batch = random_batch(model.config, variant, lengths, change);
  Activations result;
  run_for(model, [&](mlx_stream stream) {
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

// Attention is far from uniform here: scores reach 60, where a float32 is rounded by up
// to half an ulp, 2^-19. The variants round a score at other points than the reference,
// and a softmax passes the difference on to the probabilities. The bounds are 2, 5 and
// 10 such roundings: one in each of two graphs; what the next layer makes of it; and the
// most for our kernel, which rounds scores more often than MLX's operations. OpenBLAS's
// kernels decide how much occurs: .95e-6, 3.9e-6 and 1.0e-5 with its kernels for AVX-512,
// 2.6e-6, 5.5e-6 and 8.8e-6 with its kernels for AVX2.
constexpr double rounding = 0x1p-19;
constexpr double attention_bound = 2 * rounding, bound = 5 * rounding,
                 kernels_bound = 10 * rounding;

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
    check(variant.name, variant.kernels ? kernels_bound : bound, want, got);
    check(std::string(variant.name) + ", attention of the first layer",
          variant.unpadded ? kernels_bound : attention_bound, {{attention, want.at(attention)}},
          {{attention, got.at(attention)}});
    // Control: another last token of the first pair shows.
    std::string where;
    const double d = difference(want, activations_of(*model, variant, lengths, 1), &where);
    if (!(d > 100 * kernels_bound)) {
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
