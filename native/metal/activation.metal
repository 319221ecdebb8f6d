// Activations of the feed-forward layers, element by element, in float32.

// Returns x/2 (1 + erf(x / sqrt 2)), which is x for x > 0, minus |x| q(|x|) where
// q is the normal distribution's upper tail. log q(t) + t^2/2 is smooth: it is a
// polynomial here, interpolated at Chebyshev's nodes of [0, 6] and rounded to
// float32. The result is within 1.2e-7 |x| of the exact one for x > 0, and within
// 8e-8 for x < 0. NaN remains NaN.
inline float gelu(float x) {
  const float t = metal::min(metal::abs(x), 6.0f);
  float p = 1.4001441117628133e-09f;
  p = metal::fma(p, t, -5.436875838427113e-08f);
  p = metal::fma(p, t, 9.347023137706856e-07f);
  p = metal::fma(p, t, -9.277099707105663e-06f);
  p = metal::fma(p, t, 5.690273246727884e-05f);
  p = metal::fma(p, t, -1.9481418712530285e-04f);
  p = metal::fma(p, t, -1.6009156752261333e-05f);
  p = metal::fma(p, t, 4.851468373090029e-03f);
  p = metal::fma(p, t, -3.638330101966858e-02f);
  p = metal::fma(p, t, 0.1817062497138977f);
  p = metal::fma(p, t, -0.7978866696357727f);
  p = metal::fma(p, t, -0.6931471228599548f);
  const float tail = t * metal::exp(metal::fma(-0.5f * t, t, p));
  return (x < 0.0f ? 0.0f : x) - tail;
}

// Returns x/2 (1 + tanh(u)) for u = sqrt(2/pi) (x + 0.044715 x^3), which is
// x / (1 + e^-2u).
inline float gelu_tanh(float x) {
  const float u = 0.79788456080286536f * metal::fma(0.044715f * x * x, x, x);
  return x / (1.0f + metal::exp(-2.0f * u));
}

// NaN remains NaN.
inline float relu(float x) { return x < 0.0f ? 0.0f : x; }

// Elements that a thread computes.
constant constexpr int activation_run = 4;

// ACTIVATION is that of mlxrank_config. The last thread's run may be shorter.
template <typename T, int ACTIVATION>
void activate(const device T *x, device T *y, int size, uint thread_index) {
  const int first = int(thread_index) * activation_run;
  const int last = metal::min(first + activation_run, size);
  for (int i = first; i < last; i++) {
    const float value = float(x[i]);
    y[i] = T(ACTIVATION == 1 ? gelu_tanh(value) : ACTIVATION == 2 ? relu(value) : gelu(value));
  }
}
