/* Tests every kind of encoder and head that mlxrank_config describes against the reference:
 * models of each family, then random combinations, more with MLXRANK_TEST_LONG=1. Mistakes in the
 * description, made on purpose, must show. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"

/* The difference that is allowed, as a share of the root mean square, by dtype: float32,
 * float16, bfloat16. */
static const double tolerances[] = {2e-5, 2e-2, 1.5e-1};
static double worst_of[3];

static const int32_t lengths[] = {100, 1, 2, 200, 17, 33, 64, 5, 130};
enum { PAIRS = sizeof lengths / sizeof *lengths };

/* Returns a BERT with other settings. */
static mlxrank_config encoder(int heads, int head_size, int layers) {
  mlxrank_config c = bert(heads * head_size, layers, heads, MLXRANK_GELU, 2);
  c.intermediate_size = 2 * c.hidden_size + 5;
  c.max_positions = 200;
  return c;
}

static mlxrank_config roberta(void) {
  mlxrank_config c = encoder(2, 32, 3);
  c.first_position = 2;
  c.type_vocab_size = 1;
  c.head[0] = dense_step("classifier.dense", c.hidden_size, MLXRANK_TANH);
  c.head[1] = dense_step("classifier.out_proj", c.labels, MLXRANK_IDENTITY);
  return c;
}

static mlxrank_config distilbert(void) {
  mlxrank_config c = encoder(3, 26, 2);
  c.type_vocab_size = 1;
  c.head[0] = dense_step("pre_classifier", c.hidden_size, MLXRANK_RELU);
  return c;
}

static mlxrank_config electra(void) {
  mlxrank_config c = encoder(2, 32, 2);
  c.embedding_size = 24;
  c.head[0] = dense_step("classifier.dense", c.hidden_size, MLXRANK_GELU);
  c.head[1] = dense_step("classifier.out_proj", c.labels, MLXRANK_IDENTITY);
  return c;
}

/* The last of 4 layers is global, of 5 local. */
static mlxrank_config modernbert(int layers, int window, int pooling) {
  mlxrank_config c = encoder(2, 64, layers);
  c.type_vocab_size = 1;
  c.pre_norm = c.gated = 1;
  c.window = window;
  c.global_every = 3;
  c.rope_base = 160000;
  c.local_rope_base = 10000;
  c.pooling = pooling;
  c.head_steps = 3;
  c.head[0] = dense_step("head.dense", c.hidden_size, MLXRANK_GELU);
  c.head[1] = norm_step("head.norm", c.hidden_size);
  c.head[2] = dense_step("classifier", c.labels, MLXRANK_IDENTITY);
  return c;
}

/* A module stack with all poolings at once. */
static mlxrank_config modules(void) {
  mlxrank_config c = encoder(2, 32, 2);
  c.pooling = 2 * MLXRANK_POOL_LAST - 1;
  c.head_steps = 5;
  c.head[0] = dense_step("2_Dense.linear", 48, MLXRANK_SILU);
  c.head[1] = dense_step("3_Dense.linear", 48, MLXRANK_SIGMOID);
  c.head[1].residual = 1;
  c.head[2] = norm_step("4_LayerNorm.norm", 48);
  c.head[3] = dense_step("5_Dense.linear", 7, MLXRANK_GELU_TANH);
  c.head[4] = dense_step("6_Dense.linear", c.labels, MLXRANK_IDENTITY);
  return c;
}

/* Returns a random number from from to to. */
static int between(int from, int to) { return from + (int)((uniform() + 1) / 2 * (to - from + 1)); }

static mlxrank_config any(void) {
  static const int sizes[] = {26, 32, 64};
  mlxrank_config c = encoder(between(1, 3), sizes[between(0, 2)], between(1, 5));
  c.activation = between(MLXRANK_GELU, MLXRANK_RELU);
  c.intermediate_size = between(1, 150);
  c.embedding_size = between(0, 1) ? c.hidden_size : between(8, 70);
  c.first_position = between(0, 3);
  c.type_vocab_size = between(1, 2);
  c.pre_norm = between(0, 1);
  c.gated = between(0, 1);
  c.window = between(0, 2) ? between(1, 80) : 0;
  c.global_every = between(1, 4);
  c.rope_base = between(0, 1) ? 50000 : 0;
  c.local_rope_base = 5000;
  c.pooling = 1 << between(0, 5);
  if (between(0, 1)) {
    c.pooling = between(1, 63);
  }
  return c;
}

/* Computes the logits of the first pairs by the reference. */
static void reference_batch(const weights *w, const ragged *r, int pairs, double *logits) {
  int64_t at = 0;
  for (int i = 0; i < pairs; i++) {
    reference_logits(&w->config, w->tensors, w->count, r->ids + at, r->type_ids + at, r->lengths[i],
                     logits + i * w->config.labels, NULL, NULL);
    at += r->lengths[i];
  }
}

/* Returns the root mean square difference of n logits, as a share of the reference's. */
static double difference(const double *want, const float *logits, int n) {
  double squares = 0, off = 0;
  for (int i = 0; i < n; i++) {
    const double d = want[i] - logits[i];
    squares += want[i] * want[i];
    off += isnan(d) ? INFINITY : d * d;
  }
  return sqrt(off / squares);
}

/* Returns the weights with the halves of gated layers exchanged. */
static void exchange_halves(weights *w) {
  for (int i = 0; i < w->count; i++) {
    mlxrank_tensor *t = &w->tensors[i];
    if (strstr(t->name, "intermediate.dense") != NULL) {
      char *swapped = malloc((size_t)t->bytes);
      memcpy(swapped, (const char *)t->data + t->bytes / 2, (size_t)t->bytes / 2);
      memcpy(swapped + t->bytes / 2, t->data, (size_t)t->bytes / 2);
      t->data = swapped;
    }
  }
}

static bool has_local_layers(const mlxrank_config *c) {
  return c->window > 0 && c->window < lengths[0] && c->global_every > 1 && c->layers > 1;
}

/* Checks that the logits of the first pair show a mistake. */
static void control(const char *name, const char *mistake, const weights *wrong, const ragged *r,
                    const float *logits) {
  double want[8];
  reference_batch(wrong, r, 1, want);
  const double off = difference(want, logits, wrong->config.labels);
  CHECK(off > 10 * tolerances[0], "%s: %s changes the logits by %g only", name, mistake, off);
}

static void controls(const char *name, const weights *w, const ragged *r, const float *logits) {
  weights wrong = *w;
  mlxrank_config *c = &wrong.config;
#define CONTROL(condition, mistake)                                                                \
  if (condition) {                                                                                 \
    mistake;                                                                                       \
    control(name, #mistake, &wrong, r, logits);                                                    \
    wrong = *w;                                                                                    \
  }
  CONTROL(has_local_layers(c), c->window++);
  CONTROL(has_local_layers(c) && c->window > 1, c->window--);
  CONTROL(has_local_layers(c) && c->layers > c->global_every, c->global_every++);
  CONTROL(c->rope_base > 0 && has_local_layers(c),
          (c->rope_base = c->local_rope_base, c->local_rope_base = w->config.rope_base));
  CONTROL(c->rope_base > 0, c->rope_base *= 4);
  CONTROL(c->rope_base == 0 && c->first_position > 0, c->first_position = 0);
  CONTROL(c->head[0].activation == MLXRANK_TANH, c->head[0].activation = MLXRANK_IDENTITY);
  CONTROL(c->head[0].activation == MLXRANK_GELU, c->head[0].activation = MLXRANK_RELU);
  CONTROL(c->pooling == MLXRANK_POOL_CLS, c->pooling = MLXRANK_POOL_MEAN);
  CONTROL(c->pooling == MLXRANK_POOL_MEAN, c->pooling = MLXRANK_POOL_MEAN_SQRT);
  CONTROL(c->pooling == MLXRANK_POOL_MEAN_SQRT, c->pooling = MLXRANK_POOL_MEAN);
  CONTROL(c->pooling == MLXRANK_POOL_WEIGHTED_MEAN, c->pooling = MLXRANK_POOL_MEAN);
  CONTROL(c->pooling == MLXRANK_POOL_MAX, c->pooling = MLXRANK_POOL_LAST);
  CONTROL(c->pooling == MLXRANK_POOL_LAST, c->pooling = MLXRANK_POOL_CLS);
  CONTROL(true, c->layer_norm_eps = 0.1);
#undef CONTROL
  if (c->gated) {
    exchange_halves(&wrong);
    control(name, "exchanged halves", &wrong, r, logits);
    for (int i = 0; i < w->count; i++) {
      if (wrong.tensors[i].data != w->tensors[i].data) {
        free((void *)(uintptr_t)wrong.tensors[i].data);
      }
    }
  }
}

static void test_activations(const char *name, const weights *w, int64_t session, const ragged *r) {
  const comparison c = compare_activations(w, session, r);
  CHECK(c.compared >= 2 + 3 * w->config.layers, "%s: %d activations", name, c.compared);
  CHECK(c.worst_share < 2 * tolerances[0], "%s: an activation differs by %g of its size", name,
        c.worst_share);
}

/* Computes the model in a dtype, in float32 in each variant of its graph. */
static void test_dtype(const char *name, weights *w, const ragged *r, const double *want,
                       int dtype) {
  static float logits[MAX_PAIRS * 8];
  w->config.dtype = dtype;
  const int64_t model = open_model(w);
  mlxrank_variants variants = {.size = sizeof variants};
  OK(mlxrank_model_variants(model, &variants, ERR));
  const int count = dtype == MLXRANK_FLOAT32 && variants.count > 1 ? variants.count : 1;
  for (int i = 0; i < count; i++) {
    mlxrank_options options = {.size = sizeof options, .threads = 2, .variant = variants.names[i]};
    int64_t session = 0;
    OK(mlxrank_session_open(model, &options, &session, ERR));
    run(session, r, w->config.labels, logits);
    const double off = difference(want, logits, PAIRS * w->config.labels);
    CHECK(off < tolerances[dtype], "%s, dtype %d, variant \"%s\": off by %g", name, dtype,
          variants.names[i], off);
    worst_of[dtype] = fmax(worst_of[dtype], off);
    if (dtype == MLXRANK_FLOAT32) {
      test_activations(name, w, session, r);
    }
    if (dtype == MLXRANK_FLOAT32 && i == 0) {
      controls(name, w, r, logits);
    }
    OK(mlxrank_session_close(session, ERR));
  }
  OK(mlxrank_model_close(model, ERR));
}

static void test_encoder(const char *name, mlxrank_config c) {
  static ragged r;
  weights w = make_weights(&c);
  fill_pairs(&c, &r, lengths, PAIRS);
  const int before = failures;
  double want[PAIRS * 8];
  reference_batch(&w, &r, PAIRS, want);
  test_dtype(name, &w, &r, want, MLXRANK_FLOAT32);
  test_dtype(name, &w, &r, want, MLXRANK_BFLOAT16);
  test_dtype(name, &w, &r, want, MLXRANK_FLOAT16);
  if (failures > before) {
    fprintf(stderr,
            "encoders: %s failed: heads %d of %d, layers %d, pre_norm %d, gated %d, window %d, "
            "global_every %d, rope %g, pooling %d, embedding %d of %d, inner %d\n",
            name, c.heads, c.hidden_size / c.heads, c.layers, c.pre_norm, c.gated, c.window,
            c.global_every, c.rope_base, c.pooling, c.embedding_size, c.hidden_size,
            c.intermediate_size);
  }
  free_weights(&w);
}

static void compute(int64_t session, const mlxrank_batch *batch) {
  int64_t ticket = 0;
  float logits[2];
  OK(mlxrank_submit(session, batch, &ticket, ERR));
  OK(mlxrank_collect(session, ticket, logits, 2, NULL, ERR));
}

/* Memory and work for a pair of 8192 tokens: neither the scores of all of them nor
 * the square of their number in local layers. */
static void test_long_pair(void) {
  enum { LONG = 8192 };
  mlxrank_config c = modernbert(3, 64, MLXRANK_POOL_CLS);
  c.max_positions = LONG;
  c.intermediate_size = 64;
  weights w = make_weights(&c);
  const int64_t model = open_model(&w), session = open_session(model, 1);
  static int32_t ids[LONG], type_ids[LONG];
  const int32_t length = LONG, one = 1;
  for (int i = 0; i < LONG; i++) {
    ids[i] = between(0, c.vocab_size - 1);
  }
  const mlxrank_batch batch = {sizeof batch, 1, LONG, ids, type_ids, &length, &one, 1, 0};
  mlxrank_memory before = {.size = sizeof before}, after = before;
  OK(mlxrank_trim(ERR));
  OK(mlxrank_memory_info(&before, ERR));
  compute(session, &batch);
  OK(mlxrank_memory_info(&after, ERR));
  OK(mlxrank_session_profile(session, 1, ERR));
  compute(session, &batch);
  mlxrank_profile profile = {.size = sizeof profile};
  OK(mlxrank_session_profile_read(session, &profile, ERR));
  const double megabytes = (double)(after.peak - before.active) / 1e6;
  const double work = (double)profile.flops[1] / (double)profile.attention_flops_needed;
  printf("encoders: 8192 tokens: %.0f MB, %.2f times the FLOPs that attention needs\n", megabytes,
         work);
  CHECK(megabytes < 150, "a pair of 8192 tokens takes %g MB", megabytes);
  CHECK(work < 2, "attention executes %g times the FLOPs that it needs", work);
  OK(mlxrank_session_close(session, ERR));
  OK(mlxrank_model_close(model, ERR));
  free_weights(&w);
}

/* Word embeddings in a mapped file are not copied, and stay when the caller unmaps them. A
 * private mapping, in which the caller may write, is copied. */
static void test_mapped_words(int flags, bool copied) {
  mlxrank_config c = encoder(2, 32, 1);
  c.vocab_size = 300000; /* 77 MB */
  weights w = make_weights(&c), mapped = w;
  char path[] = "/tmp/mlxrank-XXXXXX";
  const int file = mkstemp(path);
  const mlxrank_tensor *words = &w.tensors[0];
  const size_t before = 100, bytes = (size_t)words->bytes; /* in front, as safetensors' header */
  CHECK(file >= 0 && pwrite(file, words->data, bytes, (off_t)before) == (ssize_t)bytes,
        "the words are not written");
  unlink(path);
  char *data = mmap(NULL, before + bytes, PROT_READ, flags, file, 0);
  CHECK(data != MAP_FAILED, "the file is not mapped");
  mapped.tensors[0].data = data + before;
  mlxrank_memory memory = {.size = sizeof memory};
  OK(mlxrank_trim(ERR));
  OK(mlxrank_memory_info(&memory, ERR));
  const int64_t active = memory.active;
  const int64_t model = open_model(&mapped), session = open_session(model, 1);
  CHECK(munmap(data, before + bytes) == 0, "the file is not unmapped");
  OK(mlxrank_memory_info(&memory, ERR));
  mlxrank_layout layout = {.size = sizeof layout};
  OK(mlxrank_session_layout(session, &layout, ERR));
  copied = copied || strcmp(layout.kernels, "MLX") == 0;
  CHECK((memory.active - active > words->bytes) == copied, "%lld bytes are in use, copied %d",
        (long long)(memory.active - active), copied);
  static ragged r;
  static float logits[MAX_PAIRS * 8];
  fill_pairs(&c, &r, lengths, PAIRS);
  run(session, &r, c.labels, logits);
  double want[PAIRS * 8];
  reference_batch(&w, &r, PAIRS, want);
  const double off = difference(want, logits, PAIRS * c.labels);
  CHECK(off < tolerances[0], "mapped words: off by %g", off);
  OK(mlxrank_session_close(session, ERR));
  OK(mlxrank_model_close(model, ERR));
  close(file);
  free_weights(&w);
}

int main(void) {
  mlxrank_info info = {.size = sizeof info};
  OK(mlxrank_handshake(MLXRANK_ABI, &info, ERR));
  test_encoder("BERT", encoder(2, 32, 2));
  test_encoder("RoBERTa", roberta());
  test_encoder("DistilBERT", distilbert());
  test_encoder("ELECTRA", electra());
  test_encoder("ModernBERT, last layer global", modernbert(4, 16, MLXRANK_POOL_CLS));
  test_encoder("ModernBERT, last layer local", modernbert(5, 16, MLXRANK_POOL_CLS));
  test_encoder("ModernBERT, mean", modernbert(5, 64, MLXRANK_POOL_MEAN));
  test_encoder("ModernBERT, window 1", modernbert(3, 1, MLXRANK_POOL_MEAN));
  test_encoder("modules", modules());
  for (int way = MLXRANK_POOL_MAX; way <= MLXRANK_POOL_LAST; way *= 2) {
    mlxrank_config c = encoder(2, 26, 1);
    c.pooling = way;
    test_encoder("a pooling", c);
  }
  const char *thorough = getenv("MLXRANK_TEST_LONG");
  const int models = thorough != NULL && strcmp(thorough, "1") == 0 ? 100 : 10;
  for (int i = 0; i < models; i++) {
    test_encoder("a random model", any());
  }
  test_long_pair();
#ifdef __linux__
  test_mapped_words(MAP_SHARED, false);
#endif
  test_mapped_words(MAP_PRIVATE, true);
  if (failures > 0) {
    fprintf(stderr, "encoders: %d checks failed\n", failures);
    return 1;
  }
  printf("encoders: ok, worst shares: float32 %.2g, float16 %.2g, bfloat16 %.2g\n", worst_of[0],
         worst_of[1], worst_of[2]);
  return 0;
}
