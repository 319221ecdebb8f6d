/* Smoke test of libmlxrank without Go: correct logits and activations, refused
 * mistakes, and no leaks. `make test` runs it under AddressSanitizer and
 * UndefinedBehaviorSanitizer. */
#define _GNU_SOURCE
#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mlxrank.h"
#include "reference.h"

#define MAX_TENSORS 64
#define FORWARDS 1000
#define OPENS 200

static int failures;
static char err[512];

#define CHECK(condition, ...)                                                                      \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      failures++;                                                                                  \
      fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                              \
      fprintf(stderr, __VA_ARGS__);                                                                \
      fprintf(stderr, "\n");                                                                       \
    }                                                                                              \
  } while (0)

#define OK(call)                                                                                   \
  do {                                                                                             \
    int32_t status_ = (call);                                                                      \
    CHECK(status_ == MLXRANK_OK, "status %d: %s", status_, err);                                   \
  } while (0)

/* The call must fail with the status and a message that holds the text. */
#define REFUSED(call, status, text)                                                                \
  do {                                                                                             \
    memset(err, 0, sizeof err);                                                                    \
    int32_t status_ = (call);                                                                      \
    CHECK(status_ == (status), "status %d: %s", status_, err);                                     \
    CHECK(strstr(err, (text)) != NULL, "message \"%s\" lacks \"%s\"", err, (text));                \
  } while (0)

#define ERR err, (int32_t)sizeof err

/* Returns uniform numbers in [-1, 1), the same on every machine. */
static double uniform(void) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (double)(state >> 11) / 4503599627370496.0 - 1;
}

typedef struct {
  mlxrank_config config;
  mlxrank_tensor tensors[MAX_TENSORS];
  int count;
} weights;

static void add_tensor(weights *w, const char *name, int64_t rows, int64_t columns, double offset,
                       double scale) {
  mlxrank_tensor *t = &w->tensors[w->count++];
  int64_t n = rows * (columns > 0 ? columns : 1);
  float *data = malloc((size_t)n * sizeof *data);
  for (int64_t i = 0; i < n; i++) {
    data[i] = (float)(offset + scale * uniform());
  }
  t->name = strdup(name);
  t->data = data;
  t->bytes = n * 4;
  t->dtype = MLXRANK_FLOAT32;
  t->rank = columns > 0 ? 2 : 1;
  t->shape[0] = rows;
  t->shape[1] = columns;
}

static void add_linear(weights *w, const char *at, const char *name, int out, int in) {
  char full[128];
  snprintf(full, sizeof full, "%s%s.weight", at, name);
  add_tensor(w, full, out, in, 0, sqrt(3.0 / in));
  snprintf(full, sizeof full, "%s%s.bias", at, name);
  add_tensor(w, full, out, 0, 0, 0.1);
}

static void add_norm(weights *w, const char *at, const char *name, int size) {
  char full[128];
  snprintf(full, sizeof full, "%s%s.weight", at, name);
  add_tensor(w, full, size, 0, 1, 0.2);
  snprintf(full, sizeof full, "%s%s.bias", at, name);
  add_tensor(w, full, size, 0, 0, 0.2);
}

static weights make_weights(int hidden, int layers, int heads, int activation, int labels) {
  weights w = {.count = 0};
  w.config = (mlxrank_config){.size = sizeof w.config,
                              .device = MLXRANK_CPU,
                              .dtype = MLXRANK_FLOAT32,
                              .activation = activation,
                              .vocab_size = 101,
                              .hidden_size = hidden,
                              .layers = layers,
                              .heads = heads,
                              .intermediate_size = hidden * 3,
                              .max_positions = 64,
                              .type_vocab_size = 2,
                              .labels = labels,
                              .layer_norm_eps = 1e-12};
  add_tensor(&w, "embeddings.word_embeddings.weight", 101, hidden, 0, 1);
  add_tensor(&w, "embeddings.position_embeddings.weight", 64, hidden, 0, 1);
  add_tensor(&w, "embeddings.token_type_embeddings.weight", 2, hidden, 0, 1);
  add_norm(&w, "", "embeddings.LayerNorm", hidden);
  for (int i = 0; i < layers; i++) {
    char at[64];
    snprintf(at, sizeof at, "encoder.layer.%d.", i);
    add_linear(&w, at, "attention.self.query", hidden, hidden);
    add_linear(&w, at, "attention.self.key", hidden, hidden);
    add_linear(&w, at, "attention.self.value", hidden, hidden);
    add_linear(&w, at, "attention.output.dense", hidden, hidden);
    add_norm(&w, at, "attention.output.LayerNorm", hidden);
    add_linear(&w, at, "intermediate.dense", hidden * 3, hidden);
    add_linear(&w, at, "output.dense", hidden, hidden * 3);
    add_norm(&w, at, "output.LayerNorm", hidden);
  }
  add_linear(&w, "", "pooler.dense", hidden, hidden);
  add_linear(&w, "", "classifier", labels, hidden);
  return w;
}

static void free_weights(weights *w) {
  for (int i = 0; i < w->count; i++) {
    free((void *)(uintptr_t)w->tensors[i].name);
    free((void *)(uintptr_t)w->tensors[i].data);
  }
}

enum { MAX_PAIRS = 24, MAX_IDS = MAX_PAIRS * 64 };

typedef struct {
  int32_t ids[MAX_IDS], type_ids[MAX_IDS], lengths[MAX_PAIRS], microbatches[MAX_PAIRS];
  mlxrank_batch batch;
} ragged;

/* Fills a batch with random pairs, at most four in a microbatch. */
static void fill_batch(ragged *r, int pairs) {
  int64_t n = 0;
  int count = 0;
  for (int i = 0; i < pairs; i++) {
    int length = 1 + (int)((uniform() + 1) / 2 * 64);
    r->lengths[i] = length;
    for (int j = 0; j < length; j++, n++) {
      r->ids[n] = (int32_t)((uniform() + 1) / 2 * 101);
      r->type_ids[n] = j > length / 3;
    }
  }
  for (int left = pairs; left > 0; left -= 4) {
    r->microbatches[count++] = left < 4 ? left : 4;
  }
  r->batch = (mlxrank_batch){sizeof r->batch, pairs,           n,     r->ids, r->type_ids,
                             r->lengths,      r->microbatches, count, 0};
}

static int64_t open_model(const weights *w) {
  int64_t model = 0;
  OK(mlxrank_model_open(&w->config, w->tensors, w->count, &model, ERR));
  return model;
}

static int64_t open_session(int64_t model, int32_t threads) {
  mlxrank_options options = {.size = sizeof options, .threads = threads};
  int64_t session = 0;
  OK(mlxrank_session_open(model, &options, &session, ERR));
  return session;
}

static void run(int64_t session, const ragged *r, int labels, float *out) {
  int64_t ticket = 0;
  mlxrank_microbatch microbatches[MAX_PAIRS];
  mlxrank_stats stats = {
      .size = sizeof stats, .microbatches = microbatches, .microbatch_room = MAX_PAIRS};
  OK(mlxrank_submit(session, &r->batch, &ticket, ERR));
  OK(mlxrank_collect(session, ticket, out, (int64_t)r->batch.pairs * labels, &stats, ERR));
  CHECK(stats.tokens == r->batch.tokens, "%lld tokens", (long long)stats.tokens);
  CHECK(stats.computed_tokens >= stats.tokens, "fewer rows computed than tokens");
  CHECK(stats.execute_ns > 0, "no time passed");
  int64_t pairs = 0, tokens = 0, computed = 0;
  for (int i = 0; i < r->batch.microbatch_count; i++) {
    pairs += microbatches[i].pairs;
    tokens += microbatches[i].tokens;
    computed += microbatches[i].computed_tokens;
  }
  CHECK(pairs == r->batch.pairs && tokens == stats.tokens && computed == stats.computed_tokens,
        "microbatches of %lld pairs, %lld tokens, %lld computed", (long long)pairs,
        (long long)tokens, (long long)computed);
}

/* Returns the largest difference from the reference over a batch. */
static double worst_difference(const weights *w, const ragged *r, const float *logits) {
  double worst = 0, want[8];
  int64_t at = 0;
  for (int i = 0; i < r->batch.pairs; i++) {
    reference_logits(&w->config, w->tensors, w->count, r->ids + at, r->type_ids + at, r->lengths[i],
                     want, NULL, NULL);
    for (int k = 0; k < w->config.labels; k++) {
      worst = fmax(worst, fabs(want[k] - logits[i * w->config.labels + k]));
    }
    at += r->lengths[i];
  }
  return worst;
}

/* A safetensors file that is compared with the reference's activations. */
typedef struct {
  char *header;
  const char *data;
  int compared, layers;
  double worst; /* difference */
} activations;

static void compare_activation(void *context, const char *name, const double *want, int rows,
                               int columns) {
  activations *a = context;
  char key[80], last[64];
  snprintf(key, sizeof key, "\"%s\":{", name);
  snprintf(last, sizeof last, "encoder.layer.%d", a->layers - 1);
  if (strncmp(name, last, strlen(last)) == 0) {
    rows = 1; /* of the last layer only [CLS] is computed */
  }
  const char *entry = strstr(a->header, key);
  long got_rows = 0, got_columns = 0, from = 0, to = 0;
  if (entry != NULL) {
    sscanf(strstr(entry, "\"shape\":"), "\"shape\":[%ld,%ld]", &got_rows, &got_columns);
    sscanf(strstr(entry, "\"data_offsets\":"), "\"data_offsets\":[%ld,%ld]", &from, &to);
  }
  bool fits = got_rows == rows && got_columns == columns && to - from == 4L * rows * columns;
  CHECK(fits, "%s: [%ld, %ld], want [%d, %d]", name, got_rows, got_columns, rows, columns);
  for (int i = 0; fits && i < rows * columns; i++) {
    float got;
    memcpy(&got, a->data + from + 4 * i, sizeof got);
    a->worst = fmax(a->worst, fabs(got - want[i]));
  }
  a->compared++;
}

static void test_activations(const weights *w, int64_t session, const ragged *r) {
  char file[] = "/tmp/mlxrank-XXXXXX.safetensors";
  int written = mkstemps(file, (int)strlen(".safetensors"));
  CHECK(written >= 0, "no temporary file");
  OK(mlxrank_debug_activations(session, r->ids, r->type_ids, r->lengths[0], file, ERR));
  static char bytes[1 << 20];
  int64_t n = read(written, bytes, sizeof bytes), header = 0;
  close(written);
  unlink(file);
  memcpy(&header, bytes, sizeof header);
  CHECK(n > 8 && n < (int64_t)sizeof bytes && header < n, "%lld bytes", (long long)n);
  double logits[8];
  activations a = {strndup(bytes + 8, (size_t)header), bytes + 8 + header, 0, w->config.layers, 0};
  reference_logits(&w->config, w->tensors, w->count, r->ids, r->type_ids, r->lengths[0], logits,
                   compare_activation, &a);
  CHECK(a.compared == 3 + 3 * w->config.layers, "%d activations", a.compared);
  CHECK(a.worst < 2e-5, "an activation differs by %g from the reference", a.worst);
  mlxrank_config wrong = w->config; /* negative control */
  wrong.layer_norm_eps = 1e-2;
  reference_logits(&wrong, w->tensors, w->count, r->ids, r->type_ids, r->lengths[0], logits,
                   compare_activation, &a);
  CHECK(a.worst > 2e-4, "a wrong epsilon is not detected");
  free(a.header);
  REFUSED(mlxrank_debug_activations(session, r->ids, r->type_ids, 65, file, ERR), MLXRANK_INVALID,
          "65 tokens");
  REFUSED(mlxrank_debug_activations(session, r->ids, r->type_ids, 1, "/tmp/a.npy", ERR),
          MLXRANK_INVALID, "does not end in .safetensors");
  REFUSED(mlxrank_debug_activations(session, r->ids, r->type_ids, 1, "/none/a.safetensors", ERR),
          MLXRANK_MLX, "/none/a.safetensors");
}

static void test_logits(int hidden, int layers, int heads, int activation, int labels) {
  weights w = make_weights(hidden, layers, heads, activation, labels);
  static ragged r;
  static float out[MAX_PAIRS * 8];
  int64_t model = open_model(&w);
  int64_t session = open_session(model, 2);
  fill_batch(&r, MAX_PAIRS);
  CHECK(r.batch.microbatch_count > 2, "%d microbatches", r.batch.microbatch_count);
  run(session, &r, labels, out);
  double worst = worst_difference(&w, &r, out);
  CHECK(worst < 2e-5, "differs by %g from the reference", worst);

  /* Negative control: the check must detect a wrong epsilon. */
  weights wrong = w;
  wrong.config.layer_norm_eps = 1e-2;
  CHECK(worst_difference(&wrong, &r, out) > 2e-4, "a wrong epsilon is not detected");
  test_activations(&w, session, &r);
  OK(mlxrank_session_close(session, ERR));
  OK(mlxrank_model_close(model, ERR));
  free_weights(&w);
}

struct collecting {
  int64_t session, ticket, pairs;
  float *out;
  mlxrank_stats stats;
};

static void test_two_tickets(const weights *w) {
  static ragged a, b;
  static float out_a[MAX_PAIRS], out_b[MAX_PAIRS], alone[MAX_PAIRS];
  int64_t model = open_model(w), session = open_session(model, 2);
  int64_t first = 0, second = 0, third = 0;
  fill_batch(&a, 9);
  fill_batch(&b, 5);
  OK(mlxrank_submit(session, &a.batch, &first, ERR));
  OK(mlxrank_submit(session, &b.batch, &second, ERR));
  REFUSED(mlxrank_submit(session, &a.batch, &third, ERR), MLXRANK_BUSY, "two tickets");
  REFUSED(mlxrank_collect(session, second, out_b, 4, NULL, ERR), MLXRANK_INVALID, "want 5");
  OK(mlxrank_collect(session, second, out_b, 5, NULL, ERR));
  OK(mlxrank_collect(session, first, out_a, 9, NULL, ERR));
  REFUSED(mlxrank_collect(session, first, out_a, 9, NULL, ERR), MLXRANK_INVALID, "not in flight");
  run(session, &b, 1, alone);
  for (int i = 0; i < 5; i++) {
    CHECK(fabsf(alone[i] - out_b[i]) < 1e-5f, "pair %d: %g and %g", i, alone[i], out_b[i]);
  }
  OK(mlxrank_submit(session, &a.batch, &first, ERR)); /* left in flight */
  OK(mlxrank_session_close(session, ERR));
  OK(mlxrank_model_close(model, ERR));
}

static void *collect_elsewhere(void *argument) {
  struct collecting *c = argument;
  OK(mlxrank_collect(c->session, c->ticket, c->out, c->pairs, &c->stats, ERR));
  return NULL;
}

/* A batch is collected on another thread while the owner submits the next one. */
static void test_microbatches(const weights *w) {
  static ragged r;
  static float whole[MAX_PAIRS], out[MAX_PAIRS];
  static const int32_t cuts[] = {2, 5, 1};
  int64_t model = open_model(w), session = open_session(model, 2), next = 0;
  mlxrank_microbatch figures[3];
  struct collecting c = {
      .session = session,
      .out = out,
      .pairs = 8,
      .stats = {.size = sizeof c.stats, .microbatches = figures, .microbatch_room = 2}};
  fill_batch(&r, 8);
  run(session, &r, 1, whole);
  r.batch.microbatches = cuts;
  r.batch.microbatch_count = 3;
  figures[2].pairs = -7;
  OK(mlxrank_submit(session, &r.batch, &c.ticket, ERR));
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, collect_elsewhere, &c) == 0, "no thread");
  OK(mlxrank_submit(session, &r.batch, &next, ERR));
  pthread_join(thread, NULL);
  OK(mlxrank_collect(session, next, out, 8, NULL, ERR));
  for (int i = 0; i < 8; i++) {
    CHECK(fabsf(whole[i] - out[i]) < 1e-5f, "pair %d: %g and %g", i, whole[i], out[i]);
  }
  CHECK(figures[0].pairs == 2 && figures[1].pairs == 5, "microbatches of %d and %d pairs",
        figures[0].pairs, figures[1].pairs);
  CHECK(figures[2].pairs == -7, "more microbatches written than there was room for");
  for (int i = 0; i < 2; i++) {
    const mlxrank_microbatch *m = &figures[i];
    CHECK(m->worker >= 0 && m->worker < 2 && m->start_ns > 0 && m->finish_ns > m->start_ns &&
              m->finish_ns <= c.stats.execute_ns && m->computed_tokens >= m->tokens &&
              m->tokens > 0,
          "figures of microbatch %d", i);
  }
  static const int32_t empty[] = {8, 0}, few[] = {2, 5};
  r.batch.microbatches = empty;
  r.batch.microbatch_count = 2;
  REFUSED(mlxrank_submit(session, &r.batch, &next, ERR), MLXRANK_INVALID,
          "microbatch 1 has 0 pairs");
  r.batch.microbatches = few;
  REFUSED(mlxrank_submit(session, &r.batch, &next, ERR), MLXRANK_INVALID,
          "add up to 7 pairs, want 8");
  r.batch.microbatches = NULL;
  REFUSED(mlxrank_submit(session, &r.batch, &next, ERR), MLXRANK_INVALID,
          "microbatches are missing");
  OK(mlxrank_session_close(session, ERR));
  OK(mlxrank_model_close(model, ERR));
}

static void test_refusals(const weights *w) {
  mlxrank_info info = {.size = sizeof info};
  char wanted[32];
  snprintf(wanted, sizeof wanted, "wants %d", MLXRANK_ABI + 1);
  REFUSED(mlxrank_handshake(MLXRANK_ABI + 1, &info, ERR), MLXRANK_ABI_MISMATCH, wanted);
  info.size--;
  REFUSED(mlxrank_handshake(MLXRANK_ABI, &info, ERR), MLXRANK_INVALID, "mlxrank_info has size");

  int64_t handle = 0;
  weights bad = *w;
  bad.count--;
  REFUSED(mlxrank_model_open(&bad.config, bad.tensors, bad.count, &handle, ERR), MLXRANK_INVALID,
          "classifier.bias [1] is missing");
  bad = *w;
  bad.tensors[0].shape[0]--;
  REFUSED(mlxrank_model_open(&bad.config, bad.tensors, bad.count, &handle, ERR), MLXRANK_INVALID,
          "shape [100, 32], want [101, 32]");
  bad = *w;
  bad.tensors[0].bytes--;
  REFUSED(mlxrank_model_open(&bad.config, bad.tensors, bad.count, &handle, ERR), MLXRANK_INVALID,
          "bytes, want");
  bad = *w;
  bad.config.heads = 5;
  REFUSED(mlxrank_model_open(&bad.config, bad.tensors, bad.count, &handle, ERR), MLXRANK_INVALID,
          "not a multiple of heads");
  bad = *w;
  bad.config.device = 7;
  REFUSED(mlxrank_model_open(&bad.config, bad.tensors, bad.count, &handle, ERR), MLXRANK_INVALID,
          "device 7");
  OK(mlxrank_handshake(MLXRANK_ABI, (info.size++, &info), ERR));
  if (info.gpus == 0) {
    bad.config.device = MLXRANK_GPU;
    REFUSED(mlxrank_model_open(&bad.config, bad.tensors, bad.count, &handle, ERR),
            MLXRANK_NO_DEVICE, "no GPU");
  }
  REFUSED(mlxrank_model_close(999, ERR), MLXRANK_INVALID, "model 999 is not open");

  char tiny[8];
  memset(tiny, 'x', sizeof tiny);
  CHECK(mlxrank_model_close(999, tiny, 4) == MLXRANK_INVALID && strcmp(tiny, "mod") == 0 &&
            tiny[4] == 'x',
        "a short error buffer was overrun");
  CHECK(mlxrank_model_close(999, NULL, 0) == MLXRANK_INVALID, "no error buffer");
}

static void test_bad_batches(const weights *w) {
  static ragged r;
  int64_t ticket = 0, model = open_model(w), session = open_session(model, 1);
  fill_batch(&r, 3);
  r.ids[2] = 101;
  REFUSED(mlxrank_submit(session, &r.batch, &ticket, ERR), MLXRANK_INVALID, "ids[2] is 101");
  r.ids[2] = -1;
  REFUSED(mlxrank_submit(session, &r.batch, &ticket, ERR), MLXRANK_INVALID, "ids[2] is -1");
  fill_batch(&r, 3);
  r.type_ids[0] = 2;
  REFUSED(mlxrank_submit(session, &r.batch, &ticket, ERR), MLXRANK_INVALID, "type_ids[0] is 2");
  fill_batch(&r, 3);
  r.lengths[1] = 65;
  REFUSED(mlxrank_submit(session, &r.batch, &ticket, ERR), MLXRANK_INVALID, "65 tokens");
  r.lengths[1] = 0;
  REFUSED(mlxrank_submit(session, &r.batch, &ticket, ERR), MLXRANK_INVALID, "0 tokens");
  fill_batch(&r, 3);
  r.batch.tokens++;
  REFUSED(mlxrank_submit(session, &r.batch, &ticket, ERR), MLXRANK_INVALID, "add up to");
  r.batch.pairs = 0;
  REFUSED(mlxrank_submit(session, &r.batch, &ticket, ERR), MLXRANK_INVALID, "no pairs");
  OK(mlxrank_session_close(session, ERR));
  REFUSED(mlxrank_session_close(session, ERR), MLXRANK_INVALID, "is not open");
  OK(mlxrank_model_close(model, ERR));
}

/* A model lists its variants, a session shows its own, and an unknown one is
 * refused with the names of the valid ones. */
static void test_variants(const weights *w) {
  int64_t model = open_model(w), session = open_session(model, 1);
  mlxrank_variants variants = {.size = sizeof variants};
  mlxrank_layout layout = {.size = sizeof layout};
  OK(mlxrank_model_variants(model, &variants, ERR));
  OK(mlxrank_session_layout(session, &layout, ERR));
  OK(mlxrank_session_close(session, ERR));
  const bool fused = strcmp(layout.kernels, "MLX") != 0;
  CHECK(fused == (variants.count == 0), "%d variants on %s", variants.count, layout.kernels);
  CHECK(strcmp(layout.variant, fused ? "" : "reference") == 0, "variant %s", layout.variant);
  mlxrank_options options = {.size = sizeof options, .threads = 1, .variant = "fast"};
  REFUSED(
      mlxrank_session_open(model, &options, &session, ERR), MLXRANK_INVALID,
      fused ? "leave it empty"
            : "variant fast is unknown or cannot compute this model here, want one of: reference");
  for (int i = 0; i < variants.count; i++) {
    options.variant = variants.names[i];
    OK(mlxrank_session_open(model, &options, &session, ERR));
    OK(mlxrank_session_layout(session, &layout, ERR));
    CHECK(strcmp(layout.variant, variants.names[i]) == 0, "variant %s, want %s", layout.variant,
          variants.names[i]);
    OK(mlxrank_session_close(session, ERR));
  }
  OK(mlxrank_model_close(model, ERR));
  REFUSED(mlxrank_model_variants(model, &variants, ERR), MLXRANK_INVALID, "is not open");
}

static void *use_session(void *session) {
  static char message[128];
  int32_t status = mlxrank_session_close(*(int64_t *)session, message, (int32_t)sizeof message);
  CHECK(status == MLXRANK_WRONG_THREAD, "status %d: %s", status, message);
  return NULL;
}

static void test_wrong_thread(const weights *w) {
  int64_t model = open_model(w), session = open_session(model, 1);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, use_session, &session) == 0, "no thread");
  pthread_join(thread, NULL);
  OK(mlxrank_session_close(session, ERR));
  OK(mlxrank_model_close(model, ERR));
}

static int entries(const char *folder) {
  int n = 0;
  DIR *dir = opendir(folder);
  while (dir != NULL && readdir(dir) != NULL) {
    n++;
  }
  if (dir != NULL) {
    closedir(dir);
  }
  return n;
}

typedef struct {
  mlxrank_memory memory;
  int threads, files;
} usage;

static usage measure(void) {
  usage u = {.memory.size = sizeof u.memory};
  OK(mlxrank_trim(ERR));
  OK(mlxrank_memory_info(&u.memory, ERR));
  u.threads = entries("/proc/self/task");
  u.files = entries("/proc/self/fd");
  return u;
}

static void same_usage(usage before, usage after, const char *what) {
  CHECK(before.memory.active == after.memory.active, "%s: active memory %lld, then %lld", what,
        (long long)before.memory.active, (long long)after.memory.active);
  CHECK(before.memory.models == after.memory.models &&
            before.memory.sessions == after.memory.sessions,
        "%s: models or sessions left open", what);
  CHECK(before.memory.workers == after.memory.workers, "%s: %d workers, then %d", what,
        before.memory.workers, after.memory.workers);
  CHECK(before.threads == after.threads, "%s: %d threads, then %d", what, before.threads,
        after.threads);
  CHECK(before.files == after.files, "%s: %d files, then %d", what, before.files, after.files);
}

static void test_forwards_leak_nothing(const weights *w) {
  static ragged r;
  static float out[MAX_PAIRS];
  int64_t model = open_model(w), session = open_session(model, 2);
  fill_batch(&r, MAX_PAIRS);
  run(session, &r, 1, out);
  usage before = measure();
  for (int i = 0; i < FORWARDS; i++) {
    fill_batch(&r, 1 + i % MAX_PAIRS);
    run(session, &r, 1, out);
  }
  same_usage(before, measure(), "after the forwards");
  OK(mlxrank_session_close(session, ERR));
  OK(mlxrank_model_close(model, ERR));
}

static void test_opens_leak_nothing(const weights *w) {
  static ragged r;
  static float out[MAX_PAIRS];
  usage before = measure();
  for (int i = 0; i < OPENS; i++) {
    int64_t model = open_model(w), session = open_session(model, 2);
    fill_batch(&r, 3);
    run(session, &r, 1, out);
    if (i % 2 == 0) { /* the session outlives its model's handle */
      OK(mlxrank_model_close(model, ERR));
      run(session, &r, 1, out);
      OK(mlxrank_session_close(session, ERR));
    } else {
      OK(mlxrank_session_close(session, ERR));
      OK(mlxrank_model_close(model, ERR));
    }
  }
  same_usage(before, measure(), "after the opens");
}

int main(void) {
  mlxrank_info info = {.size = sizeof info};
  CHECK(mlxrank_abi() == MLXRANK_ABI, "ABI %d", mlxrank_abi());
  OK(mlxrank_handshake(MLXRANK_ABI, &info, ERR));
  mlxrank_device device = {.size = sizeof device};
  OK(mlxrank_device_info(MLXRANK_CPU, &device, ERR));
  printf(
      "MLX %s (compiled against %s), mlx-c %s, %d GPUs, %d processors, %s\nBLAS %s\nCPU %s %s, %lld bytes\n",
      info.mlx_found, info.mlx_built, info.mlx_c, info.gpus, info.cpus, info.mlx_path, info.blas,
      device.name, device.architecture, (long long)device.memory);

  test_logits(32, 2, 4, MLXRANK_GELU, 1);
  test_logits(52, 1, 2, MLXRANK_GELU_TANH, 3);
  test_logits(64, 3, 1, MLXRANK_RELU, 1);
  weights w = make_weights(32, 2, 4, MLXRANK_GELU, 1);
  test_two_tickets(&w);
  test_microbatches(&w);
  test_refusals(&w);
  test_bad_batches(&w);
  test_wrong_thread(&w);
  test_variants(&w);
  test_forwards_leak_nothing(&w);
  test_opens_leak_nothing(&w);
  free_weights(&w);

  if (failures > 0) {
    fprintf(stderr, "smoke: %d checks failed\n", failures);
    return 1;
  }
  printf("smoke: ok, %d forwards, %d opens\n", FORWARDS, OPENS);
  return 0;
}
