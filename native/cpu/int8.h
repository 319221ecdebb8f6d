// The kernels of --dtype int8, which kernels.h calls for Factors::int8 and
// Factors::ordered_float32. Their results have the same bits on every instruction set: sums of
// integers are exact, and each sum of float32 numbers has one order.
#pragma once

#include "kernels.h"

namespace mlxrank::cpu::int8 {

// Rows are rotated before they are quantised: blocks of rotation_block(n) numbers are multiplied
// by a Hadamard matrix, which spreads the few large numbers of a row over the block.
// Weights are rotated too, so that products stay the same. The block is the largest power of
// 2 that divides n, at most 128.
int rotation_block(int n);

// Multiplies each block of row [n] by the Hadamard matrix, whose numbers are 1 and -1. A second
// time gives the row times rotation_block(n).
void rotate(float *row, int n);

// Activations and weights become integers in groups of inputs. Each group has a scale, of a
// token or of an output. Activations have at most kSteps; adding kSteps makes unsigned
// bytes of them. Weights have at most 127, and two neighbours of one sign, at 2 n and
// 2 n + 1, at most kPairSteps together: times two such bytes they fit into 16 bits.
constexpr int kGroup = 128, kSteps = 112, kPairSteps = 146;
static_assert(2 * kSteps * kPairSteps <= INT16_MAX && 2 * kSteps <= UINT8_MAX);

// Quantises the weights [n] of a group to integers times the scale that it returns.
float quantize_weights(const float *weight, int n, int8_t *quantized);

// Reports whether the processor multiplies bytes as plain arithmetic does: a self-test of the
// instructions that are chosen.
bool is_exact();

int panel_width();
size_t packed_size(int out, int in, Factors factors); // floats
void pack(const float *weight, const float *bias, int out, int in, Factors factors, float *packed);

void linear(const float *x, int rows, const PackedLinear &layer, Activation activation, float *y);
void linear_add_norm(const float *x, int rows, const PackedLinear &layer, const float *residual,
                     const Norm &norm, float *y);
void feed_forward(const float *x, int rows, const FeedForward &block, float *y);
void attention(const float *qkv, const int32_t *lengths, int pairs, const Heads &heads,
               const Positions &positions, float *out);
void attention_cls(const float *query, const float *key_value, const int32_t *lengths, int pairs,
                   const Heads &heads, const Positions &positions, float *out);

// These two serve models of every dtype.
void layer_norm(const float *x, int rows, int columns, const Norm &norm, float *y);
void embed(const Embeddings &embeddings, const int32_t *ids, const int32_t *type_ids,
           const int32_t *lengths, int pairs, float *y);

} // namespace mlxrank::cpu::int8
