/* Smoke test of libmlxrank without Go: right logits, refused mistakes, and
 * nothing left behind. Run under AddressSanitizer and UndefinedBehaviorSanitizer
 * by `make test`. */
#define _GNU_SOURCE
#include <dirent.h>
#include <math.h>
#include <pthread.h>
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

/* Uniform in [-1, 1), the same numbers on every machine. */
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
  int32_t ids[MAX_IDS], type_ids[MAX_IDS], lengths[MAX_PAIRS];
  mlxrank_batch batch;
} ragged;

static void fill_batch(ragged *r, int pairs) {
  int64_t n = 0;
  for (int i = 0; i < pairs; i++) {
    int length = 1 + (int)((uniform() + 1) / 2 * 64);
    r->lengths[i] = length;
    for (int j = 0; j < length; j++, n++) {
      r->ids[n] = (int32_t)((uniform() + 1) / 2 * 101);
      r->type_ids[n] = j > length / 3;
    }
  }
  r->batch = (mlxrank_batch){sizeof r->batch, pairs, n, r->ids, r->type_ids, r->lengths,
                              NULL, 0, 0};
}

static int64_t open_model(const weights *w) {
  int64_t model = 0;
  OK(mlxrank_model_open(&w->config, w->tensors, w->count, &model, ERR));
  return model;
}

static int64_t open_session(int64_t model, int32_t threads, int32_t shard_tokens) {
  mlxrank_options options = {sizeof options, threads, shard_tokens, 0};
  int64_t session = 0;
  OK(mlxrank_session_open(model, &options, &session, ERR));
  return session;
}

static mlxrank_stats run(int64_t session, const ragged *r, int labels, float *out) {
  int64_t ticket = 0;
  mlxrank_stats stats = {.size = sizeof stats};
  OK(mlxrank_submit(session, &r->batch, &ticket, ERR));
  OK(mlxrank_collect(session, ticket, out, (int64_t)r->batch.pairs * labels, &stats, ERR));
  CHECK(stats.tokens == r->batch.tokens, "%lld tokens", (long long)stats.tokens);
  CHECK(stats.computed_tokens >= stats.tokens, "fewer rows computed than tokens");
  CHECK(stats.execute_ns > 0, "no time passed");
  return stats;
}

/* The largest difference to the reference over a batch. */
static double worst_difference(const weights *w, const ragged *r, const float *logits) {
  double worst = 0, want[8];
  int64_t at = 0;
  for (int i = 0; i < r->batch.pairs; i++) {
    reference_logits(&w->config, w->tensors, w->count, r->ids + at, r->type_ids + at,
                     r->lengths[i], want);
    for (int k = 0; k < w->config.labels; k++) {
      worst = fmax(worst, fabs(want[k] - logits[i * w->config.labels + k]));
    }
    at += r->lengths[i];
  }
  return worst;
}

static void test_logits(int hidden, int layers, int heads, int activation, int labels) {
  weights w = make_weights(hidden, layers, heads, activation, labels);
  static ragged r;
  static float out[MAX_PAIRS * 8];
  int64_t model = open_model(&w);
  int64_t session = open_session(model, 2, 100);
  fill_batch(&r, MAX_PAIRS);
  mlxrank_stats stats = run(session, &r, labels, out);
  CHECK(stats.shards > 2, "%d shards", stats.shards);
  double worst = worst_difference(&w, &r, out);
  CHECK(worst < 2e-5, "differs by %g from the reference", worst);

  /* The same check must see a wrong epsilon, or it sees nothing. */
  weights wrong = w;
  wrong.config.layer_norm_eps = 1e-2;
  CHECK(worst_difference(&wrong, &r, out) > 2e-4, "the check is blind");
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
  int64_t model = open_model(w), session = open_session(model, 2, 0);
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

/* Shards as the caller cuts them, collected on a thread of their own while the
 * owner submits the next batch. */
static void test_own_shards(const weights *w) {
  static ragged r;
  static float whole[MAX_PAIRS], out[MAX_PAIRS];
  static const int32_t cuts[] = {2, 5, 1};
  int64_t model = open_model(w), session = open_session(model, 2, 0), next = 0;
  mlxrank_shard shards[3];
  struct collecting c = {.session = session, .out = out, .pairs = 8,
                         .stats = {.size = sizeof c.stats, .shard = shards, .shard_room = 2}};
  fill_batch(&r, 8);
  run(session, &r, 1, whole);
  r.batch.shards = cuts;
  r.batch.shard_count = 3;
  shards[2].pairs = -7;
  OK(mlxrank_submit(session, &r.batch, &c.ticket, ERR));
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, collect_elsewhere, &c) == 0, "no thread");
  OK(mlxrank_submit(session, &r.batch, &next, ERR));
  pthread_join(thread, NULL);
  OK(mlxrank_collect(session, next, out, 8, NULL, ERR));
  for (int i = 0; i < 8; i++) {
    CHECK(fabsf(whole[i] - out[i]) < 1e-5f, "pair %d: %g and %g", i, whole[i], out[i]);
  }
  CHECK(c.stats.shards == 3 && shards[0].pairs == 2 && shards[1].pairs == 5, "shards %d: %d and %d pairs",
        c.stats.shards, shards[0].pairs, shards[1].pairs);
  CHECK(shards[2].pairs == -7, "more shards written than there was room for");
  for (int i = 0; i < 2; i++) {
    const mlxrank_shard *s = &shards[i];
    CHECK(s->lane >= 0 && s->lane < 2 && s->start_ns > 0 && s->finish_ns > s->start_ns &&
              s->finish_ns <= c.stats.execute_ns && s->computed_tokens >= s->tokens && s->tokens > 0,
          "figures of shard %d", i);
  }
  static const int32_t empty[] = {8, 0}, few[] = {2, 5};
  r.batch.shards = empty;
  r.batch.shard_count = 2;
  REFUSED(mlxrank_submit(session, &r.batch, &next, ERR), MLXRANK_INVALID, "shard 1 has 0 pairs");
  r.batch.shards = few;
  REFUSED(mlxrank_submit(session, &r.batch, &next, ERR), MLXRANK_INVALID, "add up to 7 pairs, not 8");
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
          "no multiple of heads");
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
        "a short error buffer is not kept to");
  CHECK(mlxrank_model_close(999, NULL, 0) == MLXRANK_INVALID, "no error buffer");
}

static void test_bad_batches(const weights *w) {
  static ragged r;
  int64_t ticket = 0, model = open_model(w), session = open_session(model, 1, 0);
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

static void *use_session(void *session) {
  static char message[128];
  int32_t status =
      mlxrank_session_close(*(int64_t *)session, message, (int32_t)sizeof message);
  CHECK(status == MLXRANK_WRONG_THREAD, "status %d: %s", status, message);
  return NULL;
}

static void test_wrong_thread(const weights *w) {
  int64_t model = open_model(w), session = open_session(model, 1, 0);
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
  CHECK(before.memory.models == after.memory.models && before.memory.sessions == after.memory.sessions,
        "%s: models or sessions left open", what);
  CHECK(before.memory.lanes == after.memory.lanes, "%s: %d lanes, then %d", what,
        before.memory.lanes, after.memory.lanes);
  CHECK(before.threads == after.threads, "%s: %d threads, then %d", what, before.threads,
        after.threads);
  CHECK(before.files == after.files, "%s: %d files, then %d", what, before.files, after.files);
}

static void test_forwards_leave_nothing(const weights *w) {
  static ragged r;
  static float out[MAX_PAIRS];
  int64_t model = open_model(w), session = open_session(model, 2, 200);
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

static void test_opens_leave_nothing(const weights *w) {
  static ragged r;
  static float out[MAX_PAIRS];
  usage before = measure();
  for (int i = 0; i < OPENS; i++) {
    int64_t model = open_model(w), session = open_session(model, 2, 0);
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
  printf("MLX %s (compiled against %s), mlx-c %s, %d GPUs, %d processors, %s\nBLAS %s\nCPU %s %s, %lld bytes\n",
         info.mlx_found, info.mlx_built, info.mlx_c, info.gpus, info.cpus, info.mlx_path, info.blas,
         device.name, device.architecture, (long long)device.memory);

  test_logits(32, 2, 4, MLXRANK_GELU, 1);
  test_logits(52, 1, 2, MLXRANK_GELU_TANH, 3);
  test_logits(64, 3, 1, MLXRANK_RELU, 1);
  weights w = make_weights(32, 2, 4, MLXRANK_GELU, 1);
  test_two_tickets(&w);
  test_own_shards(&w);
  test_refusals(&w);
  test_bad_batches(&w);
  test_wrong_thread(&w);
  test_forwards_leave_nothing(&w);
  test_opens_leave_nothing(&w);
  free_weights(&w);

  if (failures > 0) {
    fprintf(stderr, "smoke: %d checks failed\n", failures);
    return 1;
  }
  printf("smoke: ok, %d forwards, %d opens\n", FORWARDS, OPENS);
  return 0;
}
