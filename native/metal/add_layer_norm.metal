// LayerNorm(x + residual), a row for each simdgroup, in float32 up to the result.

// RUNS is at least the row's length divided by 32, rounded up.
// The mean is subtracted before squares are summed: a large mean costs no digits.
template <typename T, int RUNS, typename Row>
void add_norm(const device T *x, const device T *residual, Row weight, Row bias, float epsilon,
              device T *y, int rows, int columns, uint row, uint lane) {
  if (int(row) >= rows) {
    return; // the same for all lanes of the simdgroup
  }
  const size_t at = size_t(row) * columns;
  float values[RUNS];
  float sum = 0.0f;
  for (int i = 0; i < RUNS; i++) {
    const int column = i * 32 + int(lane);
    values[i] = column < columns ? float(x[at + column]) + float(residual[at + column]) : 0.0f;
    sum += values[i];
  }
  const float mean = metal::simd_sum(sum) / columns;
  float squares = 0.0f;
  for (int i = 0; i < RUNS; i++) {
    values[i] = i * 32 + int(lane) < columns ? values[i] - mean : 0.0f;
    squares += values[i] * values[i];
  }
  const float scale = metal::precise::rsqrt(metal::simd_sum(squares) / columns + epsilon);
  for (int i = 0; i < RUNS; i++) {
    const int column = i * 32 + int(lane);
    if (column < columns) {
      y[at + column] = T(values[i] * scale * float(weight[column]) + float(bias[column]));
    }
  }
}
