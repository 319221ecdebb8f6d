#define _GNU_SOURCE
#include "harness.h"

#include <unistd.h>

int failures;
char err[512];

double uniform(void) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (double)(state >> 11) / 4503599627370496.0 - 1;
}

mlxrank_head_step dense_step(const char *name, int out, int activation) {
  mlxrank_head_step s = {.kind = MLXRANK_DENSE, .out = out, .activation = activation};
  snprintf(s.name, sizeof s.name, "%s", name);
  return s;
}

mlxrank_head_step norm_step(const char *name, int size) {
  mlxrank_head_step s = {.kind = MLXRANK_LAYER_NORM, .out = size, .epsilon = 1e-5};
  snprintf(s.name, sizeof s.name, "%s", name);
  return s;
}

mlxrank_config bert(int hidden, int layers, int heads, int activation, int labels) {
  mlxrank_config c = {.size = sizeof c,
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
                      .embedding_size = hidden,
                      .pooling = MLXRANK_POOL_CLS,
                      .head_steps = 2,
                      .layer_norm_eps = 1e-12};
  c.head[0] = dense_step("pooler.dense", hidden, MLXRANK_TANH);
  c.head[1] = dense_step("classifier", labels, MLXRANK_IDENTITY);
  return c;
}

static void add_tensor(void *context, const char *name, int kind, int64_t rows, int64_t columns) {
  weights *w = context;
  const double offset = kind == NORM_WEIGHT ? 1 : 0;
  const double scale = kind == TABLE    ? 1
                       : kind == WEIGHT ? sqrt(3.0 / (double)columns)
                       : kind == BIAS   ? 0.1
                                        : 0.2;
  if (w->count == MAX_TENSORS) {
    fprintf(stderr, "harness: more than %d tensors\n", MAX_TENSORS);
    exit(1);
  }
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

weights make_weights(const mlxrank_config *config) {
  weights w = {.config = *config, .count = 0};
  model_tensors(config, add_tensor, &w);
  return w;
}

void free_weights(weights *w) {
  for (int i = 0; i < w->count; i++) {
    free((void *)(uintptr_t)w->tensors[i].name);
    free((void *)(uintptr_t)w->tensors[i].data);
  }
}

/* Returns a random number from 0 to n - 1. */
static int32_t below(int n) { return (int32_t)((uniform() + 1) / 2 * n); }

void fill_pairs(const mlxrank_config *config, ragged *r, const int32_t *lengths, int pairs) {
  int64_t n = 0;
  int count = 0;
  for (int i = 0; i < pairs; i++) {
    r->lengths[i] = lengths[i];
    for (int j = 0; j < lengths[i]; j++, n++) {
      r->ids[n] = below(config->vocab_size);
      r->type_ids[n] = config->type_vocab_size > 1 && j > lengths[i] / 3;
    }
  }
  for (int left = pairs; left > 0; left -= 4) {
    r->microbatches[count++] = left < 4 ? left : 4;
  }
  r->batch = (mlxrank_batch){sizeof r->batch, pairs,           n,     r->ids, r->type_ids,
                             r->lengths,      r->microbatches, count, 0};
}

void fill_batch(const mlxrank_config *config, ragged *r, int pairs) {
  int32_t lengths[MAX_PAIRS];
  for (int i = 0; i < pairs; i++) {
    lengths[i] = 1 + below(64);
  }
  fill_pairs(config, r, lengths, pairs);
}

int64_t open_model(const weights *w) {
  int64_t model = 0;
  OK(mlxrank_model_open(&w->config, w->tensors, w->count, &model, ERR));
  return model;
}

int64_t open_session(int64_t model, int32_t threads) {
  mlxrank_options options = {.size = sizeof options, .threads = threads};
  int64_t session = 0;
  OK(mlxrank_session_open(model, &options, &session, ERR));
  return session;
}

void run(int64_t session, const ragged *r, int labels, float *out) {
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

double worst_difference(const weights *w, const ragged *r, const float *logits) {
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
  const mlxrank_config *config;
  char *header;
  const char *data;
  comparison result;
} activations;

/* Reports whether only [CLS] has this activation. */
static bool is_of_first(const mlxrank_config *c, const char *name) {
  char last[64];
  snprintf(last, sizeof last, "encoder.layer.%d", c->layers - 1);
  return c->pooling == MLXRANK_POOL_CLS &&
         (strncmp(name, last, strlen(last)) == 0 || strcmp(name, "encoder.LayerNorm") == 0);
}

static void compare_activation(void *context, const char *name, const double *want, int rows,
                               int columns) {
  activations *a = context;
  char key[128];
  snprintf(key, sizeof key, "\"%s\":{", name);
  if (is_of_first(a->config, name)) {
    rows = 1;
  }
  const char *entry = strstr(a->header, key);
  long got_rows = 0, got_columns = 0, from = 0, to = 0;
  if (entry != NULL) {
    sscanf(strstr(entry, "\"shape\":"), "\"shape\":[%ld,%ld]", &got_rows, &got_columns);
    sscanf(strstr(entry, "\"data_offsets\":"), "\"data_offsets\":[%ld,%ld]", &from, &to);
  }
  bool fits = got_rows == rows && got_columns == columns && to - from == 4L * rows * columns;
  CHECK(fits, "%s: [%ld, %ld], want [%d, %d]", name, got_rows, got_columns, rows, columns);
  double worst = 0, squares = 0;
  for (int i = 0; fits && i < rows * columns; i++) {
    float got;
    memcpy(&got, a->data + from + 4 * i, sizeof got);
    worst = fmax(worst, fabs(got - want[i]));
    squares += want[i] * want[i];
  }
  a->result.worst = fmax(a->result.worst, worst);
  a->result.worst_share =
      fmax(a->result.worst_share, worst / sqrt(squares / (rows * columns) + 1e-30));
  a->result.compared++;
}

comparison compare_wrong_activations(const weights *w, const mlxrank_config *wrong, int64_t session,
                                     const ragged *r) {
  char file[] = "/tmp/mlxrank-XXXXXX.safetensors";
  int written = mkstemps(file, (int)strlen(".safetensors"));
  CHECK(written >= 0, "no temporary file");
  OK(mlxrank_debug_activations(session, r->ids, r->type_ids, r->lengths[0], file, ERR));
  static char bytes[8 << 20];
  int64_t n = read(written, bytes, sizeof bytes), header = 0;
  close(written);
  unlink(file);
  memcpy(&header, bytes, sizeof header);
  CHECK(n > 8 && n < (int64_t)sizeof bytes && header < n, "%lld bytes", (long long)n);
  double logits[8];
  activations a = {wrong, strndup(bytes + 8, (size_t)header), bytes + 8 + header, {0, 0, 0}};
  reference_logits(wrong, w->tensors, w->count, r->ids, r->type_ids, r->lengths[0], logits,
                   compare_activation, &a);
  free(a.header);
  return a.result;
}

comparison compare_activations(const weights *w, int64_t session, const ragged *r) {
  return compare_wrong_activations(w, &w->config, session, r);
}
