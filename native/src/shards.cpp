#include "shards.h"

#include <algorithm>
#include <numeric>

namespace mlxrank {

namespace {

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

int32_t round_up(int32_t length, const ShardLimits &limits) {
  int64_t width = divide_up(length, limits.grid) * limits.grid;
  return static_cast<int32_t>(std::min<int64_t>(width, limits.max_width));
}

// Tokens of one shard when the batch is cut into equal ones: as few as keep the
// limit, but a multiple of the lanes.
int64_t equal_share(int64_t total, const ShardLimits &limits) {
  int64_t shards = divide_up(divide_up(total, limits.tokens), limits.lanes) * limits.lanes;
  return divide_up(total, shards);
}

} // namespace

std::vector<Shard> plan_shards(const std::vector<int32_t> &lengths, const ShardLimits &limits) {
  std::vector<int32_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return lengths[a] > lengths[b]; });
  int64_t total = 0;
  for (int32_t length : lengths) {
    total += round_up(length, limits);
  }
  const int64_t share = equal_share(total, limits);

  std::vector<Shard> shards;
  int64_t filled = 0; // tokens of the open shard
  for (int32_t pair : order) {
    if (!shards.empty()) {
      Shard &open = shards.back();
      const int64_t cost = limits.packed ? lengths[pair] : open.width;
      // A pair more than half inside the share goes in, so that rounding does
      // not leave a small shard for one lane alone at the end.
      if (filled + cost - cost / 2 <= share && filled + cost <= limits.tokens) {
        open.pairs.push_back(pair);
        filled += cost;
        continue;
      }
    }
    shards.push_back({{pair}, round_up(lengths[pair], limits)});
    filled = shards.back().width;
  }
  return shards;
}

std::vector<Shard> cut_shards(const std::vector<int32_t> &lengths, const int32_t *counts, int32_t n,
                              const ShardLimits &limits) {
  std::vector<Shard> shards(static_cast<size_t>(n));
  int32_t at = 0;
  for (int32_t i = 0; i < n; i++) {
    int32_t longest = 0;
    for (int32_t end = at + counts[i]; at < end; at++) {
      shards[i].pairs.push_back(at);
      longest = std::max(longest, lengths[at]);
    }
    shards[i].width = round_up(longest, limits);
  }
  return shards;
}

} // namespace mlxrank
