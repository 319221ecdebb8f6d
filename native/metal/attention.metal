// Self-attention of pairs that lie end to end, without mask and padding. Softmax is
// computed on line, tile of keys by tile of keys, in float32.

// Rows of queries and of keys in a tile. A simdgroup computes 8 rows of queries.
constant constexpr int tile_queries = 32;
constant constexpr int tile_keys = 32;
constant constexpr int tile_threads = 128;

// Columns of a tile's row in threadgroup memory: 16 bytes more than the head, so that
// rows begin in different banks.
template <typename T, int HEAD>
constexpr int tile_stride() {
  return HEAD + 16 / int(sizeof(T));
}

// Where a lane's two neighbouring elements of an 8x8 simdgroup matrix are: row and
// first column. Metal leaves it open; this is what MLX's own kernels rely on.
inline int lane_row(uint lane) { return int((lane / 4 & 4) + lane / 2 % 4); }
inline int lane_column(uint lane) { return int((lane / 4 & 2) * 2 + lane % 2 * 2); }

// Reduces over the lanes that hold the same row.
inline float row_max(float x) {
  x = metal::max(x, metal::simd_shuffle_xor(x, ushort(1)));
  return metal::max(x, metal::simd_shuffle_xor(x, ushort(8)));
}
inline float row_sum(float x) {
  x += metal::simd_shuffle_xor(x, ushort(1));
  return x + metal::simd_shuffle_xor(x, ushort(8));
}

// Copies tile_keys rows of a head, from row first of x on, to a tile in threadgroup
// memory; rows from last on become zeros.
template <typename T, int HEAD>
void load_tile(const device T *x, int columns, int first, int last, threadgroup T *tile,
               uint thread_index) {
  for (int i = int(thread_index); i < tile_keys * HEAD; i += tile_threads) {
    const int row = i / HEAD, column = i % HEAD;
    tile[row * tile_stride<T, HEAD>() + column] =
        first + row < last ? x[size_t(first + row) * columns + column] : T(0.0f);
  }
}

// A threadgroup computes one head of one row of tiles. WINDOW is 0, or the distance to
// the furthest key that a query attends to.
template <typename T, int HEAD, int WINDOW, typename Tiles>
void attend(const device T *qkv, int columns, Tiles tiles, device T *out, threadgroup T *keys,
            threadgroup T *values, int tile, int head, uint thread_index, uint simdgroup,
            uint lane) {
  const int hidden = columns / 3;
  constexpr int head_parts = HEAD / 8, key_parts = tile_keys / 8;
  constexpr int stride = tile_stride<T, HEAD>();
  typedef metal::simdgroup_matrix<float, 8, 8> Matrix;

  const int first_query = tiles[3 * tile], start = tiles[3 * tile + 1], end = tiles[3 * tile + 2];
  const int row = lane_row(lane), column = lane_column(lane);
  const int query = first_query + int(simdgroup) * 8 + row;
  const device T *head_queries = qkv + head * HEAD;
  const device T *head_keys = head_queries + hidden;
  const device T *head_values = head_keys + hidden;

  // Scores are powers of 2, whose exponents the scale puts into the queries.
  const float scale = 1.4426950408889634f * metal::precise::rsqrt(float(HEAD));
  Matrix queries[head_parts], sums[head_parts];
  for (int d = 0; d < head_parts; d++) {
    for (int e = 0; e < 2; e++) {
      queries[d].thread_elements()[e] =
          query < end ? scale * float(head_queries[size_t(query) * columns + d * 8 + column + e])
                      : 0.0f;
      sums[d].thread_elements()[e] = 0.0f;
    }
  }
  float largest = -3.0e38f, total = 0.0f;

  const int first_key = WINDOW > 0 ? metal::max(start, first_query - WINDOW) : start;
  const int last_key = WINDOW > 0 ? metal::min(end, first_query + tile_queries + WINDOW) : end;
  for (int from = first_key; from < last_key; from += tile_keys) {
    // No simdgroup may still read the previous tiles.
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    load_tile<T, HEAD>(head_keys, columns, from, last_key, keys, thread_index);
    load_tile<T, HEAD>(head_values, columns, from, last_key, values, thread_index);
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);

    Matrix scores[key_parts];
    float new_largest = largest;
    for (int k = 0; k < key_parts; k++) {
      scores[k].thread_elements()[0] = 0.0f;
      scores[k].thread_elements()[1] = 0.0f;
      for (int d = 0; d < head_parts; d++) {
        Matrix part; // of the keys, transposed
        for (int e = 0; e < 2; e++) {
          part.thread_elements()[e] = float(keys[(k * 8 + column + e) * stride + d * 8 + row]);
        }
        metal::simdgroup_multiply_accumulate(scores[k], queries[d], part, scores[k]);
      }
      for (int e = 0; e < 2; e++) {
        const int key = from + k * 8 + column + e;
        const int distance = key < query ? query - key : key - query;
        if (key >= last_key || (WINDOW > 0 && distance > WINDOW)) {
          scores[k].thread_elements()[e] = -INFINITY;
        }
        new_largest = metal::max(new_largest, scores[k].thread_elements()[e]);
      }
    }
    new_largest = row_max(new_largest);

    const float factor = metal::exp2(largest - new_largest);
    largest = new_largest;
    float tile_total = 0.0f;
    for (int k = 0; k < key_parts; k++) {
      for (int e = 0; e < 2; e++) {
        const float power = metal::exp2(scores[k].thread_elements()[e] - largest);
        scores[k].thread_elements()[e] = power;
        tile_total += power;
      }
    }
    total = total * factor + row_sum(tile_total);

    for (int d = 0; d < head_parts; d++) {
      sums[d].thread_elements()[0] *= factor;
      sums[d].thread_elements()[1] *= factor;
      for (int k = 0; k < key_parts; k++) {
        Matrix part;
        for (int e = 0; e < 2; e++) {
          part.thread_elements()[e] = float(values[(k * 8 + row) * stride + d * 8 + column + e]);
        }
        metal::simdgroup_multiply_accumulate(sums[d], scores[k], part, sums[d]);
      }
    }
  }

  if (query < end) {
    for (int d = 0; d < head_parts; d++) {
      for (int e = 0; e < 2; e++) {
        out[size_t(query) * hidden + head * HEAD + d * 8 + column + e] =
            T(sums[d].thread_elements()[e] / total);
      }
    }
  }
}
