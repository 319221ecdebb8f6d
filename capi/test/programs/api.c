// Makes every call, with correct arguments and with wrong ones.
//   api MODEL
#define _GNU_SOURCE  // memmem
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

extern char **environ;

enum { MANY = 600 };

static void rest(long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&t, NULL);
}

static void scores_and_ranks(mlxr_ranker ranker) {
  const mlxr_text query = mlxr_string("a query");
  const mlxr_text queries[4] = {query, query, query, query};
  // A NUL in the middle, an empty text, and the same document twice.
  const mlxr_text documents[4] = {mlxr_string("a fox"), {"nul\0here", 8}, {NULL, 0}, mlxr_string("a fox")};
  float scores[5] = {-1, -1, -1, -1, -1};
  mlxr_ranked ranked[5];
  mlxr_figures figures = {.size = sizeof figures};
  mlxr_call call = a_call();
  int64_t needed = -1;

  EXPECT(MLXR_OK, ranker, mlxr_score(ranker, queries, documents, 4, NULL, scores, 5, &needed, &figures));
  CHECK(needed == 4 && scores[4] == -1 && scores[0] == scores[3] && scores[0] != scores[1]);
  CHECK(figures.pairs == 4 && figures.tokens > 4 && figures.truncated == 0);
  const double sum = figures.inference_ms + figures.tokenization_ms + figures.queue_wait_ms + figures.other_ms;
  CHECK(figures.latency_ms > 0 && sum > 0.999 * figures.latency_ms && sum < 1.001 * figures.latency_ms);

  EXPECT(MLXR_OK, ranker, mlxr_rerank(ranker, &query, documents, 4, NULL, ranked, 5, &needed, NULL));
  CHECK(needed == 4);
  for (int i = 0; i < 4; i++) {
    CHECK(ranked[i].index >= 0 && ranked[i].index < 4 && ranked[i].score == scores[ranked[i].index]);
    CHECK(i == 0 || ranked[i - 1].logit >= ranked[i].logit);
  }
  call.top_n = 2;
  ranked[2].index = 77;
  EXPECT(MLXR_OK, ranker, mlxr_rerank(ranker, &query, documents, 4, &call, ranked, 2, &needed, &figures));
  CHECK(needed == 2 && ranked[2].index == 77);

  call = a_call();
  _Static_assert(MLXR_LONG_WINDOW == MLXR_LONG_PASSAGES, "the older name");
  call.long_documents = MLXR_LONG_PASSAGES;
  char *novel = malloc(20000);
  CHECK(novel != NULL);
  for (int i = 0; i < 20000; i++) novel[i] = "fox and dog "[i % 12];
  const mlxr_text book = {novel, 20000};
  EXPECT(MLXR_OK, ranker, mlxr_rerank(ranker, &query, &book, 1, &call, ranked, 1, NULL, &figures));
  CHECK(figures.pairs > 3 && figures.truncated == 0);
  EXPECT(MLXR_OK, ranker, mlxr_rerank(ranker, &query, &book, 1, NULL, ranked, 1, NULL, &figures));
  CHECK(figures.pairs == 1 && figures.truncated == 1);
  free(novel);

  EXPECT(MLXR_OK, ranker, mlxr_score(ranker, NULL, NULL, 0, NULL, NULL, 0, &needed, NULL));
  CHECK(needed == 0);
  EXPECT(MLXR_OK, ranker, mlxr_rerank(ranker, &query, NULL, 0, NULL, NULL, 0, &needed, NULL));
  CHECK(needed == 0);
}

static void refuses_bad_arguments(mlxr_ranker ranker) {
  const mlxr_text text = mlxr_string("text"),
                  broken =
                      {"ab\xff"
                       "c",
                       4},
                  negative = {"x", -1}, nowhere = {NULL, 3};
  const mlxr_text mixed[3] = {text, text, broken};
  const mlxr_text three[3] = {text, text, text};
  float scores[3] = {7, 7, 7};
  mlxr_ranked ranked[3];
  mlxr_figures figures = {.size = sizeof figures - 8};
  mlxr_call call = a_call();
  int64_t needed = -1;

  REFUSED(MLXR_INVALID, ranker, "NULL", mlxr_score(ranker, NULL, three, 3, NULL, scores, 3, NULL, NULL));
  REFUSED(MLXR_INVALID, ranker, "NULL", mlxr_score(ranker, three, NULL, 3, NULL, scores, 3, NULL, NULL));
  REFUSED(MLXR_INVALID, ranker, "NULL", mlxr_score(ranker, three, three, 3, NULL, NULL, 3, NULL, NULL));
  REFUSED(MLXR_INVALID, ranker, "-3", mlxr_score(ranker, three, three, -3, NULL, scores, 3, NULL, NULL));
  REFUSED(MLXR_INVALID, ranker, "texts", mlxr_score(ranker, three, three, INT64_MAX, NULL, scores, 3, NULL, NULL));
  REFUSED(MLXR_INVALID, ranker, "-1", mlxr_score(ranker, three, three, 3, NULL, scores, -1, NULL, NULL));
  REFUSED(MLXR_INVALID, ranker, "query", mlxr_rerank(ranker, NULL, three, 3, NULL, ranked, 3, NULL, NULL));
  REFUSED(MLXR_INVALID, ranker, "-1 bytes", mlxr_rerank(ranker, &negative, three, 3, NULL, ranked, 3, NULL, NULL));
  REFUSED(MLXR_INVALID, ranker, "3 bytes", mlxr_rerank(ranker, &nowhere, three, 3, NULL, ranked, 3, NULL, NULL));
  REFUSED(MLXR_INVALID, ranker, "mlxr_figures has size",
          mlxr_rerank(ranker, &text, three, 3, NULL, ranked, 3, NULL, &figures));
  call.size = 1;
  REFUSED(MLXR_INVALID, ranker, "mlxr_call has size 1",
          mlxr_rerank(ranker, &text, three, 3, &call, ranked, 3, NULL, NULL));
  call = a_call();
  call.top_n = -1;
  REFUSED(MLXR_INVALID, ranker, "top_n", mlxr_rerank(ranker, &text, three, 3, &call, ranked, 3, NULL, NULL));
  call = a_call();
  call.long_documents = 2;
  REFUSED(MLXR_INVALID, ranker, "long_documents", mlxr_rerank(ranker, &text, three, 3, &call, ranked, 3, NULL, NULL));
  call = a_call();
  call.cancellation = 99;
  REFUSED(MLXR_CLOSED, ranker, "cancellation 99", mlxr_rerank(ranker, &text, three, 3, &call, ranked, 3, NULL, NULL));

  REFUSED(MLXR_NOT_UTF8, ranker, "query is not UTF-8: of its 4 bytes, byte 2 is 0xff",
          mlxr_rerank(ranker, &broken, three, 3, NULL, ranked, 3, NULL, NULL));
  REFUSED(MLXR_NOT_UTF8, ranker, "document 2 is not UTF-8",
          mlxr_score(ranker, three, mixed, 3, NULL, scores, 3, NULL, NULL));

  REFUSED(MLXR_ROOM, ranker, "room for 2 scores, 3",
          mlxr_score(ranker, three, three, 3, NULL, scores, 2, &needed, NULL));
  CHECK(needed == 3 && scores[0] == 7);
  needed = -1;
  REFUSED(MLXR_ROOM, ranker, "room for 0", mlxr_rerank(ranker, &text, three, 3, NULL, NULL, 0, &needed, NULL));
  CHECK(needed == 3);
  char small[4] = "...";
  REFUSED(MLXR_ROOM, ranker, "bytes", mlxr_info(ranker, small, 3, &needed));
  CHECK(strcmp(small, "...") == 0 && needed > 100);
  char *json = malloc((size_t)needed);
  CHECK(json != NULL);
  EXPECT(MLXR_OK, ranker, mlxr_info(ranker, json, needed, &needed));
  CHECK(json[needed - 1] == 0 && json[0] == '{' && json[needed - 2] == '}');
  CHECK(strstr(json, "\"device\":\"cpu\"") != NULL);
  free(json);
  CHECK(mlxr_stats(ranker, NULL, 0, &needed) == MLXR_ROOM && needed > 100);
}

static void refuses_to_open(const char *model) {
  mlxr_ranker ranker = 5;
  mlxr_options options = options_for(model);
  REFUSED(MLXR_INVALID, 0, "NULL", mlxr_open(&options, NULL, NULL));
  REFUSED(MLXR_INVALID, 0, "options are NULL", mlxr_open(NULL, NULL, &ranker));
  CHECK(ranker == 0);
  options.size = 8;
  REFUSED(MLXR_INVALID, 0, "mlxr_options has size 8", mlxr_open(&options, NULL, &ranker));
#define WITH(field, value, status, text)                                                                               \
  options = options_for(model);                                                                                        \
  options.field = value;                                                                                               \
  REFUSED(status, 0, text, mlxr_open(&options, NULL, &ranker));                                                        \
  CHECK(ranker == 0)
  const mlxr_text broken = {"\xc3", 1};
  WITH(device, 3, MLXR_INVALID, "device is 3");
  WITH(device, -1, MLXR_INVALID, "device is -1");
  WITH(dtype, 7, MLXR_INVALID, "dtype is 7");
  WITH(scores, 4, MLXR_INVALID, "scores");
  WITH(log_level, 9, MLXR_INVALID, "log_level");
  WITH(max_length, 2, MLXR_INVALID, "max_length is 2");
  WITH(threads, -1, MLXR_INVALID, "threads -1");
  WITH(threads, INT32_MAX, MLXR_INVALID, "threads is 2147483647 (limit 1024)");
  WITH(max_length, INT32_MAX, MLXR_MODEL, "maximum length 2147483647");
  WITH(idle_unload_ms, INT64_MAX, MLXR_INVALID, "idle_unload_ms is 9223372036854775807 (limit");
  WITH(memory_limit, INT64_MIN, MLXR_INVALID, "memory_limit -9223372036854775808");
  WITH(idle_unload_ms, -1, MLXR_INVALID, "idle_unload_ms -1");
  WITH(model, broken, MLXR_NOT_UTF8, "model is not UTF-8");
  WITH(model, mlxr_string("./not/there"), MLXR_MODEL, "./not/there");
  WITH(adapter, mlxr_string("./not/there"), MLXR_MODEL, "not/there");
  WITH(label, mlxr_string("nobody"), MLXR_MODEL, "nobody");
  WITH(library, mlxr_string("/not/there.so"), MLXR_LIBRARY, "/not/there.so: no such file");
#ifndef __APPLE__
  WITH(device, MLXR_DEVICE_GPU, MLXR_DEVICE, "GPU");
#endif
}

static void knows_its_handles(const char *model) {
  const mlxr_text text = mlxr_string("text");
  mlxr_ranked ranked;
  char message[256] = "?";
  mlxr_cancellation cancellation;
  const mlxr_ranker ranker = open_ranker(model);
  EXPECT(MLXR_OK, ranker, mlxr_cancellation_new(&cancellation));
  REFUSED(MLXR_INVALID, 0, "NULL", mlxr_cancellation_new(NULL));
  const int64_t wrong[] = {0, -1, ranker + 1000, INT64_MIN, INT64_MAX, cancellation};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    REFUSED(MLXR_CLOSED, wrong[i], "not open", mlxr_rerank(wrong[i], &text, &text, 1, NULL, &ranked, 1, NULL, NULL));
    REFUSED(MLXR_CLOSED, wrong[i], "not open", mlxr_trim(wrong[i]));
    REFUSED(MLXR_CLOSED, wrong[i], "never", mlxr_close(wrong[i]));
    if (wrong[i] != cancellation) {
      REFUSED(MLXR_CLOSED, 0, "not open", mlxr_cancel(wrong[i]));
      REFUSED(MLXR_CLOSED, 0, "never", mlxr_cancellation_free(wrong[i]));
    }
  }
  EXPECT(MLXR_OK, 0, mlxr_cancellation_free(cancellation));
  EXPECT(MLXR_OK, 0, mlxr_cancellation_free(cancellation));
  REFUSED(MLXR_CLOSED, 0, "not open", mlxr_cancel(cancellation));

  CHECK(mlxr_last_error(ranker, message, sizeof message, NULL) == MLXR_OK && message[0] == 0);
  EXPECT(MLXR_OK, ranker, mlxr_close(ranker));
  EXPECT(MLXR_OK, ranker, mlxr_close(ranker));
  REFUSED(MLXR_CLOSED, ranker, "not open", mlxr_rerank(ranker, &text, &text, 1, NULL, &ranked, 1, NULL, NULL));
  REFUSED(MLXR_CLOSED, ranker, "not open", mlxr_stats(ranker, message, sizeof message, NULL));
  const mlxr_ranker next = open_ranker(model);
  CHECK(next != ranker);
  EXPECT(MLXR_OK, next, mlxr_close(next));
}

struct watched {
  pthread_t thread;
  mlxr_cancellation cancellation; // to cancel from the callback
  mlxr_ranker ranker;
  int64_t calls, last;
};

static void watch(void *context, int64_t done, int64_t total) {
  struct watched *w = context;
  CHECK(pthread_equal(w->thread, pthread_self()));
  CHECK(done > w->last && done < total);
  w->last = done;
  w->calls++;
  REFUSED(MLXR_INVALID, w->ranker, "callback", mlxr_close(w->ranker));
  if (w->cancellation != 0) EXPECT(MLXR_OK, 0, mlxr_cancel(w->cancellation));
}

static void *cancel_soon(void *cancellation) {
  rest(5);
  EXPECT(MLXR_OK, 0, mlxr_cancel(*(mlxr_cancellation *)cancellation));
  return NULL;
}

static void tells_progress_and_cancels(mlxr_ranker ranker) {
  static mlxr_text documents[MANY];
  static mlxr_ranked ranked[MANY];
  const mlxr_text query = mlxr_string("a fox");
  struct watched w = {pthread_self(), 0, ranker, 0, 0};
  mlxr_call call = a_call();
  make_documents(documents, MANY);
  call.progress = watch;
  call.progress_context = &w;
  EXPECT(MLXR_OK, ranker, mlxr_rerank(ranker, &query, documents, MANY, &call, ranked, MANY, NULL, NULL));
  CHECK(w.calls > 1);

  // From the callback.
  w.calls = w.last = 0;
  EXPECT(MLXR_OK, 0, mlxr_cancellation_new(&w.cancellation));
  call.cancellation = w.cancellation;
  EXPECT(MLXR_CANCELLED, ranker, mlxr_rerank(ranker, &query, documents, MANY, &call, ranked, MANY, NULL, NULL));
  CHECK(w.calls == 1);
  // Later calls with the cancellation end before they start, and so does opening.
  call.progress = NULL;
  EXPECT(MLXR_CANCELLED, ranker, mlxr_rerank(ranker, &query, documents, 1, &call, ranked, 1, NULL, NULL));
  EXPECT(MLXR_OK, 0, mlxr_cancellation_free(w.cancellation));

  // From another thread, and while the call waits.
  pthread_t other;
  mlxr_cancellation cancellation;
  EXPECT(MLXR_OK, 0, mlxr_cancellation_new(&cancellation));
  call.cancellation = cancellation;
  CHECK(pthread_create(&other, NULL, cancel_soon, &cancellation) == 0);
  int32_t status = MLXR_OK;
  for (int i = 0; i < 1000 && status == MLXR_OK; i++) {
    status = mlxr_rerank(ranker, &query, documents, MANY, &call, ranked, MANY, NULL, NULL);
  }
  CHECK(status == MLXR_CANCELLED);
  CHECK(pthread_join(other, NULL) == 0);
  EXPECT(MLXR_OK, 0, mlxr_cancellation_free(cancellation));
  CHECK(stat_of(ranker, "cancelled") >= 1);
}

static void a_cancelled_open_is_no_ranker(const char *model) {
  mlxr_options options = options_for(model);
  mlxr_call call = a_call();
  mlxr_ranker ranker = 3;
  EXPECT(MLXR_OK, 0, mlxr_cancellation_new(&call.cancellation));
  EXPECT(MLXR_OK, 0, mlxr_cancel(call.cancellation));
  EXPECT(MLXR_CANCELLED, 0, mlxr_open(&options, &call, &ranker));
  CHECK(ranker == 0);
  EXPECT(MLXR_OK, 0, mlxr_cancellation_free(call.cancellation));
}

struct logged {
  pthread_mutex_t mutex;
  int events, requests, texts;
};

static void keep_log(void *context, int32_t level, const char *json, int64_t bytes) {
  struct logged *l = context;
  CHECK(level >= MLXR_LOG_ERROR && level <= MLXR_LOG_DEBUG);
  CHECK(bytes > 2 && json[0] == '{' && json[bytes - 1] == '}');
  CHECK(pthread_mutex_lock(&l->mutex) == 0);
  l->events++;
  l->requests += memmem(json, (size_t)bytes, "\"message\":\"request\"", 19) != NULL;
  l->texts += memmem(json, (size_t)bytes, "secret", 6) != NULL;
  CHECK(pthread_mutex_unlock(&l->mutex) == 0);
}

// Absurd lengths are refused before the library reads or allocates anything.
static void refuses_absurd_sizes(mlxr_ranker ranker, const char *model) {
  static const int64_t large[] = {((int64_t)1 << 28) + 1, (int64_t)1 << 36, (int64_t)1 << 47, INT64_MAX};
  static const int64_t negative[] = {-1, -((int64_t)1 << 36), INT64_MIN};
  const mlxr_text text = mlxr_string("text");
  mlxr_ranked ranked[4];
  float scores[4];
  mlxr_options options;
  mlxr_ranker none = 5;
  for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
    const mlxr_text absurd[2] = {text, {"x", large[i]}};
    REFUSED(MLXR_TOO_LARGE, ranker, "(limit 268435456)",
            mlxr_rerank(ranker, &absurd[1], &text, 1, NULL, ranked, 4, NULL, NULL));
    REFUSED(MLXR_TOO_LARGE, ranker, "document 1 has",
            mlxr_rerank(ranker, &text, absurd, 2, NULL, ranked, 4, NULL, NULL));
    REFUSED(MLXR_TOO_LARGE, ranker, "query 1 has", mlxr_score(ranker, absurd, absurd, 2, NULL, scores, 4, NULL, NULL));
    REFUSED(MLXR_INVALID, ranker, "texts", mlxr_rerank(ranker, &text, &text, large[i], NULL, ranked, 4, NULL, NULL));
    REFUSED(MLXR_INVALID, ranker, "texts", mlxr_score(ranker, &text, &text, large[i], NULL, scores, 4, NULL, NULL));
    options = options_for(model);
    options.model.bytes = large[i];
    REFUSED(MLXR_TOO_LARGE, 0, "model has", mlxr_open(&options, NULL, &none));
    options = options_for(model);
    options.label = (mlxr_text){"x", large[i]};
    REFUSED(MLXR_TOO_LARGE, 0, "label has", mlxr_open(&options, NULL, &none));
    options = options_for(model);
    options.size = large[i];
    REFUSED(MLXR_INVALID, 0, "mlxr_options has size", mlxr_open(&options, NULL, &none));
  }
  for (size_t i = 0; i < sizeof negative / sizeof *negative; i++) {
    const mlxr_text absurd = {"x", negative[i]};
    mlxr_figures figures = {.size = negative[i]};
    mlxr_call call = a_call();
    char byte = 'x';
    REFUSED(MLXR_INVALID, ranker, "bytes", mlxr_rerank(ranker, &text, &absurd, 1, NULL, ranked, 4, NULL, NULL));
    REFUSED(MLXR_INVALID, ranker, "texts", mlxr_rerank(ranker, &text, &text, negative[i], NULL, ranked, 4, NULL, NULL));
    REFUSED(MLXR_INVALID, ranker, "room", mlxr_rerank(ranker, &text, &text, 1, NULL, ranked, negative[i], NULL, NULL));
    REFUSED(MLXR_INVALID, ranker, "size", mlxr_rerank(ranker, &text, &text, 1, NULL, ranked, 4, NULL, &figures));
    REFUSED(MLXR_INVALID, ranker, "room", mlxr_info(ranker, &byte, negative[i], NULL));
    REFUSED(MLXR_CLOSED, negative[i], "not open", mlxr_trim(negative[i]));
    REFUSED(MLXR_CLOSED, negative[i], "never", mlxr_close(negative[i]));
    REFUSED(MLXR_CLOSED, 0, "never", mlxr_cancellation_free(negative[i]));
    REFUSED(MLXR_CLOSED, 0, "not open", mlxr_cancel(negative[i]));
    call.top_n = negative[i];
    REFUSED(MLXR_INVALID, ranker, "top_n", mlxr_rerank(ranker, &text, &text, 1, &call, ranked, 4, NULL, NULL));
    CHECK(byte == 'x');
  }
  // Each text is within the limit, but their sum is not.
  char *long_text = calloc(1, (size_t)1 << 28);
  CHECK(long_text != NULL);
  mlxr_text many[5];
  for (int i = 0; i < 5; i++) many[i] = (mlxr_text){long_text, i < 4 ? 1 << 28 : 1};
  REFUSED(MLXR_TOO_LARGE, ranker, "(limit 1073741824): split it",
          mlxr_rerank(ranker, &text, many, 5, NULL, ranked, 4, NULL, NULL));
  free(long_text);
  mlxr_call call = a_call();
  call.reserved = 1;
  REFUSED(MLXR_INVALID, ranker, "reserved is 1", mlxr_rerank(ranker, &text, &text, 1, &call, ranked, 4, NULL, NULL));
  call = a_call();
  call.top_n = INT64_MAX;
  int64_t needed = 0;
  EXPECT(MLXR_OK, ranker, mlxr_rerank(ranker, &text, &text, 1, &call, ranked, INT64_MAX, &needed, NULL));
  CHECK(needed == 1);
}

// The results of a log callback's own calls.
struct reentry {
  _Atomic int64_t ranker;
  _Atomic int calls, refused;
};

static void call_back(void *context, int32_t level, const char *json, int64_t bytes) {
  struct reentry *r = context;
  (void)level, (void)json, (void)bytes;
  const mlxr_ranker ranker = r->ranker;
  if (ranker == 0) return;
  const mlxr_text text = mlxr_string("text");
  const mlxr_options options = options_for("builtin");
  mlxr_ranked ranked;
  float score;
  char json_room[8192];
  mlxr_ranker other;
  mlxr_cancellation cancellation;
  r->calls++;
  r->refused += mlxr_rerank(ranker, &text, &text, 1, NULL, &ranked, 1, NULL, NULL) == MLXR_INVALID &&
                mlxr_score(ranker, &text, &text, 1, NULL, &score, 1, NULL, NULL) == MLXR_INVALID &&
                mlxr_info(ranker, json_room, sizeof json_room, NULL) == MLXR_INVALID &&
                mlxr_stats(ranker, json_room, sizeof json_room, NULL) == MLXR_INVALID &&
                mlxr_trim(ranker) == MLXR_INVALID && mlxr_close(ranker) == MLXR_INVALID &&
                mlxr_open(&options, NULL, &other) == MLXR_INVALID &&
                mlxr_last_error(0, json_room, sizeof json_room, NULL) == MLXR_OK &&
                strstr(json_room, "a log callback cannot call a ranker") != NULL &&
                mlxr_cancellation_new(&cancellation) == MLXR_OK && mlxr_cancel(cancellation) == MLXR_OK &&
                mlxr_cancellation_free(cancellation) == MLXR_OK;
}

// A call that would wait for its own callback is refused, at every level.
static void refuses_calls_from_logs(const char *model) {
  const mlxr_text text = mlxr_string("text");
  struct reentry r = {0};
  mlxr_options options = options_for(model);
  mlxr_ranker ranker;
  mlxr_ranked ranked;
  options.log = call_back;
  options.log_context = &r;
  options.log_level = MLXR_LOG_TRACE;
  options.idle_unload_ms = 20;
  EXPECT(MLXR_OK, 0, mlxr_open(&options, NULL, &ranker));
  r.ranker = ranker;
  for (int i = 0; i < 3; i++) {
    EXPECT(MLXR_OK, ranker, mlxr_rerank(ranker, &text, &text, 1, NULL, &ranked, 1, NULL, NULL));
    rest(60); // unloaded, and loaded again
  }
  EXPECT(MLXR_OK, ranker, mlxr_close(ranker));
  CHECK(r.calls >= 6 && r.refused == r.calls);
}

static void logs_when_asked(const char *model) {
  const mlxr_text text = mlxr_string("a secret text");
  struct logged l = {.mutex = PTHREAD_MUTEX_INITIALIZER};
  mlxr_options options = options_for(model);
  mlxr_ranker ranker;
  mlxr_ranked ranked;
  options.log = keep_log;
  options.log_context = &l;
  EXPECT(MLXR_OK, 0, mlxr_open(&options, NULL, &ranker));
  EXPECT(MLXR_OK, ranker, mlxr_rerank(ranker, &text, &text, 1, NULL, &ranked, 1, NULL, NULL));
  EXPECT(MLXR_OK, ranker, mlxr_close(ranker));
  CHECK(l.events == 0); // the level is off by default
  options.log_level = MLXR_LOG_DEBUG;
  EXPECT(MLXR_OK, 0, mlxr_open(&options, NULL, &ranker));
  EXPECT(MLXR_OK, ranker, mlxr_rerank(ranker, &text, &text, 1, NULL, &ranked, 1, NULL, NULL));
  EXPECT(MLXR_OK, ranker, mlxr_close(ranker));
  CHECK(l.events >= 1 && l.requests == 1 && l.texts == 0);
  const int events = l.events;
  rest(50);
  CHECK(l.events == events);
}

static void gives_memory_back(const char *model) {
  const mlxr_text text = mlxr_string("a fox");
  mlxr_options options = options_for(model);
  mlxr_ranker ranker;
  mlxr_ranked before, after;
  options.idle_unload_ms = 50;
  options.cache_limit = 1 << 20;
  EXPECT(MLXR_OK, 0, mlxr_open(&options, NULL, &ranker));
  EXPECT(MLXR_OK, ranker, mlxr_rerank(ranker, &text, &text, 1, NULL, &before, 1, NULL, NULL));
  CHECK(stat_of(ranker, "loaded") == 1);
  for (int i = 0; i < 500 && (stat_of(ranker, "loaded") == 1 || stat_of(ranker, "active_bytes") > 0); i++) rest(20);
  CHECK(stat_of(ranker, "loaded") == 0 && stat_of(ranker, "unloads") == 1 && stat_of(ranker, "active_bytes") == 0);
  EXPECT(MLXR_OK, ranker, mlxr_trim(ranker));
  EXPECT(MLXR_OK, ranker, mlxr_rerank(ranker, &text, &text, 1, NULL, &after, 1, NULL, NULL));
  CHECK(after.logit == before.logit);
  EXPECT(MLXR_OK, ranker, mlxr_trim(ranker));
  EXPECT(MLXR_OK, ranker, mlxr_close(ranker));
}

static void *fail_here(void *ranker) {
  char message[256];
  CHECK(mlxr_trim(*(mlxr_ranker *)ranker) == MLXR_OK);
  REFUSED(MLXR_INVALID, *(mlxr_ranker *)ranker, "query is NULL",
          mlxr_rerank(*(mlxr_ranker *)ranker, NULL, NULL, 0, NULL, NULL, 0, NULL, NULL));
  // Another ranker's failure on this thread does not replace it.
  CHECK(mlxr_trim(123456) == MLXR_CLOSED);
  CHECK(mlxr_last_error(*(mlxr_ranker *)ranker, message, sizeof message, NULL) == MLXR_OK);
  CHECK(strstr(message, "query is NULL") != NULL);
  return NULL;
}

static void keeps_messages_apart(mlxr_ranker ranker) {
  const mlxr_text broken = {"\xff", 1}, text = mlxr_string("x");
  mlxr_ranked ranked;
  char message[256];
  int64_t needed = 0;
  pthread_t other;
  EXPECT(MLXR_NOT_UTF8, ranker, mlxr_rerank(ranker, &broken, &text, 1, NULL, &ranked, 1, NULL, NULL));
  CHECK(pthread_create(&other, NULL, fail_here, &ranker) == 0);
  CHECK(pthread_join(other, NULL) == 0);
  CHECK(mlxr_last_error(ranker, message, sizeof message, &needed) == MLXR_OK);
  CHECK(strstr(message, "not UTF-8") != NULL && needed == (int64_t)strlen(message) + 1);
  CHECK(mlxr_last_error(ranker, message, 5, &needed) == MLXR_ROOM && needed > 5);
  CHECK(mlxr_last_error(ranker, NULL, 0, NULL) == MLXR_ROOM);
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  CHECK(mlxr_abi() == MLXR_ABI);
  CHECK(strcmp(mlxr_version(), MLXR_VERSION) == 0);
  int variables = 0;
  while (environ[variables] != NULL) variables++;
  char **before = malloc((size_t)variables * sizeof *before);
  CHECK(before != NULL);
  for (int i = 0; i < variables; i++) before[i] = strdup(environ[i]);

  const mlxr_ranker ranker = open_ranker(argv[1]);
  scores_and_ranks(ranker);
  refuses_bad_arguments(ranker);
  tells_progress_and_cancels(ranker);
  keeps_messages_apart(ranker);
  refuses_absurd_sizes(ranker, argv[1]);
  EXPECT(MLXR_OK, ranker, mlxr_close(ranker));
  refuses_to_open(argv[1]);
  a_cancelled_open_is_no_ranker(argv[1]);
  knows_its_handles(argv[1]);
  logs_when_asked(argv[1]);
  refuses_calls_from_logs(argv[1]);
  gives_memory_back(argv[1]);

  for (int i = 0; i < variables; i++) {
    CHECK(environ[i] != NULL && strcmp(environ[i], before[i]) == 0);
    free(before[i]);
  }
  CHECK(environ[variables] == NULL);
  free(before);
  return 0;
}
