/* Smoke test of libmlxrank without Go: correct logits and activations, refused
 * mistakes, and no leaks. `make test` runs it under AddressSanitizer and
 * UndefinedBehaviorSanitizer. */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <unistd.h>

#include "harness.h"

#define FORWARDS 1000
#define OPENS 200

static void test_activations(const weights *w, int64_t session, const ragged *r) {
  comparison c = compare_activations(w, session, r);
  CHECK(c.compared == 3 + 3 * w->config.layers, "%d activations", c.compared);
  CHECK(c.worst < 2e-5, "an activation differs by %g from the reference", c.worst);
  mlxrank_config wrong = w->config; /* negative control */
  wrong.layer_norm_eps = 1e-2;
  c = compare_wrong_activations(w, &wrong, session, r);
  CHECK(c.worst > 2e-4, "a wrong epsilon is not detected");
  const char *file = "/tmp/mlxrank-none.safetensors";
  REFUSED(mlxrank_debug_activations(session, r->ids, r->type_ids, 65, file, ERR), MLXRANK_INVALID,
          "65 tokens");
  REFUSED(mlxrank_debug_activations(session, r->ids, r->type_ids, 1, "/tmp/a.npy", ERR),
          MLXRANK_INVALID, "does not end in .safetensors");
  REFUSED(mlxrank_debug_activations(session, r->ids, r->type_ids, 1, "/none/a.safetensors", ERR),
          MLXRANK_MLX, "/none/a.safetensors");
}

static void test_logits(int hidden, int layers, int heads, int activation, int labels) {
  const mlxrank_config config = bert(hidden, layers, heads, activation, labels);
  weights w = make_weights(&config);
  static ragged r;
  static float out[MAX_PAIRS * 8];
  int64_t model = open_model(&w);
  int64_t session = open_session(model, 2);
  fill_batch(&w.config, &r, MAX_PAIRS);
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
  fill_batch(&w->config, &a, 9);
  fill_batch(&w->config, &b, 5);
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
  fill_batch(&w->config, &r, 8);
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

/* Expects the configuration with one mistake to be refused. */
#define BAD(change, text)                                                                          \
  do {                                                                                             \
    weights bad_ = *w;                                                                             \
    mlxrank_config *c = &bad_.config;                                                              \
    int64_t handle_ = 0;                                                                           \
    change;                                                                                        \
    REFUSED(mlxrank_model_open(c, bad_.tensors, bad_.count, &handle_, ERR), MLXRANK_INVALID,       \
            text);                                                                                 \
  } while (0)

static void test_bad_configs(const weights *w) {
  BAD(c->embedding_size = 0, "embedding_size is 0, want 1 to");
  BAD(c->embedding_size = 16, "shape [101, 32], want [101, 16]");
  BAD(c->first_position = -1, "first_position is -1, want 0 to");
  BAD(c->first_position = 2, "shape [64, 32], want [66, 32]");
  BAD(c->pre_norm = 2, "pre_norm is 2, want 0 to 1");
  BAD(c->pre_norm = 1, "tensor encoder.layer.0.LayerNorm.weight [32] is missing");
  BAD(c->gated = -1, "gated is -1, want 0 to 1");
  BAD(c->gated = 1, "intermediate.dense.weight: shape [96, 32], want [192, 32]");
  BAD(c->window = -4, "window is -4, want 0 to");
  BAD(c->window = 4, "global_every is 0, want 1 to");
  BAD(c->layer_norm_eps = 0, "layer_norm_eps is 0.000000, want a positive number");
  BAD(c->rope_base = -1, "rope_base is -1.000000, want a positive number");
  BAD(c->rope_base = NAN, "rope_base is nan, want a positive number");
  BAD((c->rope_base = 1e4, c->window = 4, c->global_every = 3),
      "local_rope_base is 0.000000, want a positive number");
  BAD((c->rope_base = 1e4, c->heads = 32), "heads of size 1 cannot have rotary positions");
  BAD((c->rope_base = 1e4, c->max_positions = 1 << 21), "max_positions with rotary positions");
  BAD(c->pooling = 0, "pooling is 0, want 1 to 63");
  BAD(c->pooling = 64, "pooling is 64, want 1 to 63");
  BAD(c->pooling = MLXRANK_POOL_CLS + MLXRANK_POOL_MAX, "shape [32, 32], want [32, 64]");
  BAD(c->head_steps = 0, "head_steps is 0, want 1 to 16");
  BAD(c->head_steps = 17, "head_steps is 17, want 1 to 16");
  BAD(c->head_steps = 1, "the head's last step has 32 outputs, want labels 1");
  BAD(c->head[0].kind = 2, "head[0].kind is 2, want 0 to 1");
  BAD(c->head[1].out = 0, "head[1].out is 0, want 1 to");
  BAD(c->head[0].activation = 7, "head[0].activation is 7, want 0 to 6");
  BAD(c->head[1].residual = 1, "head[1].out is 1, want its input's 32");
  BAD(c->head[1] = norm_step("classifier", 1), "head[1].out is 1, want its input's 32");
  BAD(c->head[0] = norm_step("pooler.dense", 32), "pooler.dense.weight: shape [32, 32], want [32]");
  BAD((c->head[0] = norm_step("pooler", 32), c->head[0].epsilon = 0),
      "head[0].epsilon is 0.000000");
  BAD(c->head[1].name[0] = 0, "head[1].name");
  BAD(memset(c->head[1].name, 'x', sizeof c->head[1].name), "head[1].name");
  BAD(strcpy(c->head[1].name, "pooler.dense"), "head[1].name pooler.dense is another step's too");
  BAD(strcpy(c->head[1].name, "classifier.out_proj"),
      "classifier.out_proj.weight [1, 32] is missing");
}

static void test_bad_batches(const weights *w) {
  static ragged r;
  int64_t ticket = 0, model = open_model(w), session = open_session(model, 1);
  fill_batch(&w->config, &r, 3);
  r.ids[2] = 101;
  REFUSED(mlxrank_submit(session, &r.batch, &ticket, ERR), MLXRANK_INVALID, "ids[2] is 101");
  r.ids[2] = -1;
  REFUSED(mlxrank_submit(session, &r.batch, &ticket, ERR), MLXRANK_INVALID, "ids[2] is -1");
  fill_batch(&w->config, &r, 3);
  r.type_ids[0] = 2;
  REFUSED(mlxrank_submit(session, &r.batch, &ticket, ERR), MLXRANK_INVALID, "type_ids[0] is 2");
  fill_batch(&w->config, &r, 3);
  r.lengths[1] = 65;
  REFUSED(mlxrank_submit(session, &r.batch, &ticket, ERR), MLXRANK_INVALID, "65 tokens");
  r.lengths[1] = 0;
  REFUSED(mlxrank_submit(session, &r.batch, &ticket, ERR), MLXRANK_INVALID, "0 tokens");
  fill_batch(&w->config, &r, 3);
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

/* A session counts its graph's matmuls by type: all are float32 here. */
static void test_matmuls(const weights *w) {
  int64_t model = open_model(w), session = open_session(model, 1);
  mlxrank_matmuls matmuls = {.size = sizeof matmuls};
  OK(mlxrank_session_matmuls(session, &matmuls, ERR));
  int64_t counts[3] = {0};
  for (int i = 0; i < matmuls.count; i++) {
    const mlxrank_matmul *m = &matmuls.kinds[i];
    CHECK(m->part >= MLXRANK_IN_ENCODER && m->part <= MLXRANK_IN_HEAD, "part %d", m->part);
    CHECK(m->left == MLXRANK_FLOAT32 && m->right == MLXRANK_FLOAT32 &&
              m->computed == MLXRANK_FLOAT32 && m->bits == 0,
          "types %d x %d in %d, %d bits", m->left, m->right, m->computed, m->bits);
    counts[m->part] += m->count;
  }
  const int32_t layers = w->config.layers;
  CHECK(counts[MLXRANK_IN_ENCODER] == 4 * layers + 1, "%lld matmuls in %d layers",
        (long long)counts[MLXRANK_IN_ENCODER], layers);
  CHECK(counts[MLXRANK_IN_ATTENTION] >= 2 * layers && counts[MLXRANK_IN_HEAD] == 2,
        "%lld matmuls of attention, %lld of the head", (long long)counts[MLXRANK_IN_ATTENTION],
        (long long)counts[MLXRANK_IN_HEAD]);
  matmuls.size--;
  REFUSED(mlxrank_session_matmuls(session, &matmuls, ERR), MLXRANK_INVALID, "has size");
  OK(mlxrank_session_close(session, ERR));
  matmuls.size++;
  REFUSED(mlxrank_session_matmuls(session, &matmuls, ERR), MLXRANK_INVALID, "is not open");
  OK(mlxrank_model_close(model, ERR));
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
  fill_batch(&w->config, &r, MAX_PAIRS);
  run(session, &r, 1, out);
  usage before = measure();
  for (int i = 0; i < FORWARDS; i++) {
    fill_batch(&w->config, &r, 1 + i % MAX_PAIRS);
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
    fill_batch(&w->config, &r, 3);
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
  const mlxrank_config config = bert(32, 2, 4, MLXRANK_GELU, 1);
  weights w = make_weights(&config);
  test_two_tickets(&w);
  test_microbatches(&w);
  test_refusals(&w);
  test_bad_configs(&w);
  test_bad_batches(&w);
  test_wrong_thread(&w);
  test_variants(&w);
  test_matmuls(&w);
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
