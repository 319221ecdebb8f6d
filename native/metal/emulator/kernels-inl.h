// Launches the kernels in the emulator as ../../src/metal_kernels.cpp does on a GPU.
// Include it, in a namespace, behind the kernels' sources.

template <typename T>
void run_activation(int activation, const void *input, void *output, int rows, int columns,
                    uint64_t seed) {
  const T *x = static_cast<const T *>(input);
  T *y = static_cast<T *>(output);
  const int x_shape[] = {rows, columns};
  const uint runs = (rows * columns + activation_run - 1) / activation_run;
  emulator::launch({runs, 1, 1}, {256, 1, 1}, seed, [&](const emulator::Position &p) {
    const auto thread_position_in_grid = p.thread_position_in_grid;
    if (activation == 0) {
      constexpr int ACTIVATION = 0;
      ACTIVATION_BODY
    } else if (activation == 1) {
      constexpr int ACTIVATION = 1;
      ACTIVATION_BODY
    } else {
      constexpr int ACTIVATION = 2;
      ACTIVATION_BODY
    }
  });
}

template <typename T, int RUNS>
void run_add_layer_norm_runs(const T *x, const T *residual, const T *weight, const T *bias,
                             float epsilon, T *y, int rows, int columns, uint64_t seed) {
  const int x_shape[] = {rows, columns};
  emulator::launch({uint(rows) * 32, 1, 1}, {256, 1, 1}, seed, [&](const emulator::Position &p) {
    const auto thread_position_in_grid = p.thread_position_in_grid;
    const auto thread_index_in_simdgroup = p.thread_index_in_simdgroup;
    ADD_LAYER_NORM_BODY
  });
}

template <typename T>
void run_add_layer_norm(const void *x, const void *residual, const void *weight, const void *bias,
                        float epsilon, void *y, int rows, int columns, int runs, uint64_t seed) {
  auto with = [&](auto run) {
    run(static_cast<const T *>(x), static_cast<const T *>(residual), static_cast<const T *>(weight),
        static_cast<const T *>(bias), epsilon, static_cast<T *>(y), rows, columns, seed);
  };
  switch (runs) {
  case 2:
    return with(run_add_layer_norm_runs<T, 2>);
  case 4:
    return with(run_add_layer_norm_runs<T, 4>);
  case 8:
    return with(run_add_layer_norm_runs<T, 8>);
  case 12:
    return with(run_add_layer_norm_runs<T, 12>);
  case 16:
    return with(run_add_layer_norm_runs<T, 16>);
  case 24:
    return with(run_add_layer_norm_runs<T, 24>);
  case 32:
    return with(run_add_layer_norm_runs<T, 32>);
  default:
    return with(run_add_layer_norm_runs<T, 64>);
  }
}

template <typename T, int HEAD, int WINDOW>
void run_attention_of(const T *qkv, const int *tiles, T *y, int columns, int count, uint64_t seed) {
  const int qkv_shape[] = {0, columns};
  const uint heads = columns / 3 / HEAD;
  emulator::launch({uint(count) * tile_threads, heads, 1}, {tile_threads, 1, 1}, seed,
                   [&](const emulator::Position &p) {
                     const auto threadgroup_position_in_grid = p.threadgroup_position_in_grid;
                     const auto thread_position_in_threadgroup = p.thread_position_in_threadgroup;
                     const auto simdgroup_index_in_threadgroup = p.simdgroup_index_in_threadgroup;
                     const auto thread_index_in_simdgroup = p.thread_index_in_simdgroup;
                     ATTENTION_BODY
                   });
}

// The windows that are compiled, beside none.
constexpr int small_window = 5, large_window = 64;

template <typename T>
void run_attention(const void *qkv, const int *tiles, void *y, int columns, int head, int window,
                   int count, uint64_t seed) {
  auto with = [&](auto run) {
    run(static_cast<const T *>(qkv), tiles, static_cast<T *>(y), columns, count, seed);
  };
  if (head == 32) {
    return window == 0              ? with(run_attention_of<T, 32, 0>)
           : window == small_window ? with(run_attention_of<T, 32, small_window>)
                                    : with(run_attention_of<T, 32, large_window>);
  }
  return window == 0              ? with(run_attention_of<T, 64, 0>)
         : window == small_window ? with(run_attention_of<T, 64, small_window>)
                                  : with(run_attention_of<T, 64, large_window>);
}

template <typename T, int HEAD>
void run_attention_first_of(const T *query, const T *key_value, const int *starts, T *y, int pairs,
                            int hidden, uint64_t seed) {
  const int query_shape[] = {pairs, hidden};
  emulator::launch({uint(pairs) * 32 * first_simdgroups, uint(hidden) / HEAD, 1},
                   {32 * first_simdgroups, 1, 1}, seed, [&](const emulator::Position &p) {
                     const auto threadgroup_position_in_grid = p.threadgroup_position_in_grid;
                     const auto simdgroup_index_in_threadgroup = p.simdgroup_index_in_threadgroup;
                     const auto thread_index_in_simdgroup = p.thread_index_in_simdgroup;
                     ATTENTION_FIRST_BODY
                   });
}

template <typename T>
void run_attention_first(const void *query, const void *key_value, const int *starts, void *y,
                         int pairs, int hidden, int head, uint64_t seed) {
  auto with = [&](auto run) {
    run(static_cast<const T *>(query), static_cast<const T *>(key_value), starts,
        static_cast<T *>(y), pairs, hidden, seed);
  };
  head == 32 ? with(run_attention_first_of<T, 32>) : with(run_attention_first_of<T, 64>);
}
