// A host that calls exit() while calls run.
//   exit MODEL WHO MILLISECONDS: exits with status 7
// WHO calls exit(): main, thread, log or progress.
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "test.h"

enum { THREADS = 4, DOCUMENTS = 200 };

static mlxr_text documents[DOCUMENTS];
static mlxr_ranker shared;
static const char *who;
static struct timespec until;

static int is_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec > until.tv_sec || (now.tv_sec == until.tv_sec && now.tv_nsec >= until.tv_nsec);
}

// Only one thread may call exit(): in C, two concurrent calls are undefined.
static void end(void) {
  static _Atomic int ended;
  if (atomic_exchange(&ended, 1) == 0) exit(7);
}

static void on_progress(void *context, int64_t done, int64_t total) {
  (void)context, (void)done, (void)total;
  if (strcmp(who, "progress") == 0 && is_time()) end();
}

static void on_log(void *context, int32_t level, const char *json, int64_t bytes) {
  (void)context, (void)level, (void)json, (void)bytes;
  if (strcmp(who, "log") == 0 && is_time()) end();
}

static void *work(void *number) {
  mlxr_ranked ranked[DOCUMENTS];
  const mlxr_text query = mlxr_string("a fox");
  mlxr_call call = a_call();
  call.progress = on_progress;
  for (;;) {
    EXPECT(MLXR_OK, shared, mlxr_rerank(shared, &query, documents, DOCUMENTS, &call, ranked, DOCUMENTS, NULL, NULL));
    if (strcmp(who, "thread") == 0 && number == NULL && is_time()) end();
  }
  return NULL;
}

int main(int argc, char **argv) {
  CHECK(argc == 4);
  who = argv[2];
  make_documents(documents, DOCUMENTS);
  mlxr_options options = options_for(argv[1]);
  options.log = on_log;
  options.log_level = MLXR_LOG_TRACE;
  EXPECT(MLXR_OK, 0, mlxr_open(&options, NULL, &shared));
  const long ms = atol(argv[3]);
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += ms % 1000 * 1000000;
  until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  pthread_t threads[THREADS];
  for (intptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
  while (strcmp(who, "main") != 0 || !is_time()) {
    const struct timespec rest = {0, 1000000};
    nanosleep(&rest, NULL);
  }
  return 7;
}
