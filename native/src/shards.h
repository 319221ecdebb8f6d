// Cutting a ragged batch into dense shards.
#pragma once

#include <cstdint>
#include <vector>

namespace mlxrank {

struct Shard {
  std::vector<int32_t> pairs; // positions in the batch
  int32_t width; // of the longest pair, rounded up to the grid
};

struct ShardLimits {
  int lanes; // shards that run at once
  int32_t tokens; // most computed tokens in a shard, but for a single pair longer than that
  int32_t grid; // widths are multiples of this
  int32_t max_width;
  bool packed; // a pair costs its own tokens, not the longest pair's
};

// Every pair in exactly one shard, pairs of like length together, the longest
// shards first, and computed tokens about equal so that all lanes end together.
std::vector<Shard> plan_shards(const std::vector<int32_t> &lengths, const ShardLimits &limits);

// The shards that the caller planned: the counts say how many pairs each takes,
// in the order of the batch, and add up to all of them.
std::vector<Shard> cut_shards(const std::vector<int32_t> &lengths, const int32_t *counts, int32_t n,
                              const ShardLimits &limits);

} // namespace mlxrank
