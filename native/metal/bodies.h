// The bodies of the kernels. MLX writes a kernel's signature from its inputs, outputs
// and template arguments, and from the names of Metal's attributes in the body. An
// input X comes with its shape, X_shape, if the body reads it. SHARED declares an array
// in threadgroup memory.

// x [n, columns], y: a thread for each run of elements.
#define ACTIVATION_BODY                                                                            \
  activate<T, ACTIVATION>(x, y, x_shape[0] * x_shape[1], thread_position_in_grid.x);

// x, residual, y [n, columns]; weight, bias [columns]; epsilon: a simdgroup for each row.
#define ADD_LAYER_NORM_BODY                                                                        \
  add_norm<T, RUNS>(x, residual, weight, bias, epsilon, y, x_shape[0], x_shape[1],                 \
                    thread_position_in_grid.x / 32, thread_index_in_simdgroup);

// qkv [n, 3 hidden], tiles [count, 3], y [n, hidden]: a threadgroup for each tile and head.
#define ATTENTION_BODY                                                                             \
  SHARED(T, keys, (tile_keys * tile_stride<T, HEAD>()));                                           \
  SHARED(T, values, (tile_keys * tile_stride<T, HEAD>()));                                         \
  attend<T, HEAD, WINDOW>(qkv, qkv_shape[1], tiles, y, keys, values,                               \
                          int(threadgroup_position_in_grid.x),                                     \
                          int(threadgroup_position_in_grid.y), thread_position_in_threadgroup.x,   \
                          simdgroup_index_in_threadgroup, thread_index_in_simdgroup);

// query, y [pairs, hidden], key_value [n, 2 hidden], starts [pairs + 1]: a threadgroup
// for each pair and head.
#define ATTENTION_FIRST_BODY                                                                       \
  SHARED(float, partial, (first_simdgroups * (HEAD + 2)));                                         \
  attend_first<T, HEAD>(query, query_shape[1], key_value, starts, y, partial,                      \
                        int(threadgroup_position_in_grid.x), int(threadgroup_position_in_grid.y),  \
                        simdgroup_index_in_threadgroup, thread_index_in_simdgroup);
