// Tests how many tokens a microbatch has on a GPU, by its working set.
#include "capacity.h"

#include <cstdio>

static int failures;

static void check(const char *what, const mlxrank_config &c, double gigabytes, int least,
                  int most) {
  const int got = mlxrank::gpu_microbatch_tokens(c, static_cast<int64_t>(gigabytes * 1e9));
  if (got < least || got > most || got % 1024 != 0) {
    failures++;
    std::fprintf(stderr, "%s, %g GB: %d tokens, want %d to %d, a multiple of 1024\n", what,
                 gigabytes, got, least, most);
  }
}

int main() {
  mlxrank_config small = {};
  small.dtype = MLXRANK_FLOAT16;
  small.hidden_size = 384;
  small.heads = 12;
  small.intermediate_size = 1536;
  small.max_positions = 512;
  mlxrank_config large = small;
  large.hidden_size = 1024;
  large.heads = 16;
  large.intermediate_size = 4096;
  mlxrank_config exact = large;
  exact.dtype = MLXRANK_FLOAT32;

  check("unknown", large, 0, 16384, 16384);
  check("small model", small, 5.3, 4096, 8192); // a Mac with 8 GB
  check("large model", large, 5.3, 4096, 8192);
  check("large model in float32", exact, 5.3, 1024, 4096);
  check("large model", large, 0.1, 1024, 1024); // never less
  check("small model", small, 21, 16384, 16384);
  check("large model", large, 100, 16384, 16384);
  if (failures == 0) {
    std::puts("capacity: ok");
  }
  return failures != 0;
}
