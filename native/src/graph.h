// The forward pass as an MLX graph.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "variant.h"

namespace mlxrank {

// The pairs of a microbatch. The fused graph and some variants of the unfused graph
// have the unpadded layout. Padded layout: rows of width tokens, padded behind
// each pair's length. Unpadded layout: the pairs' tokens end to end.
struct Batch {
  std::vector<int32_t> ids; // padded [pairs, width], unpadded [tokens]
  std::vector<int32_t> type_ids; // likewise
  std::vector<int32_t> lengths; // [pairs]
  int width = 0; // padded layout only
  int parts = 1; // threads that share each kernel; fused graph only

  int pairs() const { return static_cast<int>(lengths.size()); }
};

// An intermediate result, under the name of the PyTorch module that computes it.
struct Activation {
  std::string name;
  Array values; // [rows, columns] float32
};

// Width from which the unfused graph's intermediate results are large: it is then
// evaluated in parts on the CPU, and scores of all its queries are never in memory
// together.
constexpr int long_width = 512;

// Returns the logits, [pairs, labels] float32. The batch must have the variant's
// layout. The unfused graph comes back whole and unevaluated, unless it is longer than
// long_width on the CPU. Then it, as the fused graph always, is evaluated layer by layer
// as it is built, because MLX's CPU backend allocates every output of a graph before it
// runs it. If activations is not null, the pass appends its intermediate results to it.
Array forward(const Model &model, const Variant &variant, const Batch &batch, mlx_stream stream,
              std::vector<Activation> *activations = nullptr);

// Returns how many rows the unfused graph computes for a number of tokens in the
// unpadded layout. MLX reuses a buffer only for nearly the same size, and tokens
// are as varied as the pairs, so rows come in few sizes: 16 between a power of two
// and the next. At most a sixteenth of the rows is for nothing; from 16,384 on
// rows are multiples of 1,024.
int computed_rows(int tokens);

// Counts the matmuls of a pass over one short pair. The unfused graph is built and not
// computed: its arrays have their types from the start.
void count_matmuls(const Model &model, const Variant &variant, mlxrank_matmuls *out);

// Computes the batch and writes its activations to a safetensors file.
void write_activations(const Model &model, const Variant &variant, const Batch &batch,
                       const std::string &file);

} // namespace mlxrank
