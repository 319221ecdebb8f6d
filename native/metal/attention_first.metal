// Attention of one query per pair, [CLS], to the pair's keys. Softmax is computed on
// line, key by key, in float32.

// Simdgroups of a threadgroup. Each takes every first_simdgroups-th key.
constant constexpr int first_simdgroups = 8;

// A threadgroup computes one head of one pair. Its simdgroups leave their largest
// score, total and sums in threadgroup memory, a row of HEAD + 2 for each, and the
// first simdgroup joins them.
template <typename T, int HEAD, typename Starts>
void attend_first(const device T *query, int hidden, const device T *key_value, Starts starts,
                  device T *out, threadgroup float *partial, int pair, int head, uint simdgroup,
                  uint lane) {
  constexpr int share = HEAD / 32; // columns of a lane
  const int columns = 2 * hidden;
  const float scale = 1.4426950408889634f * metal::precise::rsqrt(float(HEAD));
  float queries[share], sums[share];
  for (int i = 0; i < share; i++) {
    queries[i] = scale * float(query[size_t(pair) * hidden + head * HEAD + i * 32 + int(lane)]);
    sums[i] = 0.0f;
  }
  float largest = -3.0e38f, total = 0.0f;
  for (int row = starts[pair] + int(simdgroup); row < starts[pair + 1]; row += first_simdgroups) {
    const device T *keys = key_value + size_t(row) * columns + head * HEAD;
    float score = 0.0f;
    for (int i = 0; i < share; i++) {
      score += queries[i] * float(keys[i * 32 + int(lane)]);
    }
    score = metal::simd_sum(score);
    const float new_largest = metal::max(largest, score);
    const float factor = metal::exp2(largest - new_largest);
    const float power = metal::exp2(score - new_largest);
    largest = new_largest;
    total = total * factor + power;
    for (int i = 0; i < share; i++) {
      sums[i] = sums[i] * factor + power * float(keys[hidden + i * 32 + int(lane)]);
    }
  }

  threadgroup float *mine = partial + int(simdgroup) * (HEAD + 2);
  mine[HEAD] = largest;
  mine[HEAD + 1] = total;
  for (int i = 0; i < share; i++) {
    mine[i * 32 + int(lane)] = sums[i];
  }
  metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
  if (simdgroup > 0) {
    return;
  }
  for (int s = 1; s < first_simdgroups; s++) {
    largest = metal::max(largest, partial[s * (HEAD + 2) + HEAD]);
  }
  total = 0.0f;
  for (int i = 0; i < share; i++) {
    sums[i] = 0.0f;
  }
  for (int s = 0; s < first_simdgroups; s++) {
    const threadgroup float *other = partial + s * (HEAD + 2);
    const float factor = metal::exp2(other[HEAD] - largest);
    total += factor * other[HEAD + 1];
    for (int i = 0; i < share; i++) {
      sums[i] += factor * other[i * 32 + int(lane)];
    }
  }
  for (int i = 0; i < share; i++) {
    out[size_t(pair) * hidden + head * HEAD + i * 32 + int(lane)] = T(sums[i] / total);
  }
}
