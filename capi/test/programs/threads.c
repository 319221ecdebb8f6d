// Sixteen threads use the same rankers while other threads close them.
//   threads MODEL ROUNDS [race]: race adds a data race of the host
#include <pthread.h>
#include <stdatomic.h>

#include "test.h"

enum { THREADS = 16, DOCUMENTS = 40 };

static mlxr_text documents[DOCUMENTS];
static const char *model;
static mlxr_ranker shared;
static _Atomic int64_t doomed;
static int rounds;
static int racing, raced;
static mlxr_ranked expected[DOCUMENTS];

static int32_t rerank(mlxr_ranker ranker, const mlxr_call *call, mlxr_ranked *ranked) {
  const mlxr_text query = mlxr_string("a fox");
  return mlxr_rerank(ranker, &query, documents, DOCUMENTS, call, ranked, DOCUMENTS, NULL, NULL);
}

static void check_ranked(const mlxr_ranked *ranked) {
  for (int i = 0; i < DOCUMENTS; i++) {
    CHECK(ranked[i].index == expected[i].index && ranked[i].logit == expected[i].logit);
  }
}

// Ranks with a ranker that all threads use.
static void use_shared(void) {
  mlxr_ranked ranked[DOCUMENTS];
  EXPECT(MLXR_OK, shared, rerank(shared, NULL, ranked));
  check_ranked(ranked);
  CHECK(stat_of(shared, "requests") > 0);
  EXPECT(MLXR_OK, shared, mlxr_trim(shared));
}

// Sometimes cancels its own call: the result is correct or missing.
static void use_cancelled(int round) {
  mlxr_ranked ranked[DOCUMENTS];
  mlxr_call call = a_call();
  EXPECT(MLXR_OK, 0, mlxr_cancellation_new(&call.cancellation));
  if (round % 2 == 0) EXPECT(MLXR_OK, 0, mlxr_cancel(call.cancellation));
  const int32_t status = rerank(shared, &call, ranked);
  CHECK(status == (round % 2 == 0 ? MLXR_CANCELLED : MLXR_OK));
  if (status == MLXR_OK) check_ranked(ranked);
  EXPECT(MLXR_OK, 0, mlxr_cancellation_free(call.cancellation));
}

// Ranks with a ranker that any thread may close or has closed.
static void use_doomed(int round) {
  mlxr_ranked ranked[DOCUMENTS];
  const mlxr_ranker ranker = atomic_load(&doomed);
  const int32_t status = rerank(ranker, NULL, ranked);
  if (status != MLXR_OK && status != MLXR_CLOSED) show_error(__FILE__, __LINE__, status, MLXR_CLOSED, ranker);
  if (status == MLXR_OK) check_ranked(ranked);
  if (round % 3 == 0) {
    EXPECT(MLXR_OK, ranker, mlxr_close(ranker));
    // Once one close has returned, the ranker is closed for every thread.
    CHECK(rerank(ranker, NULL, ranked) == MLXR_CLOSED);
    atomic_store(&doomed, open_ranker(model));
  }
}

static void *work(void *number) {
  for (int round = 0; round < rounds; round++) {
    if (racing) raced++;
    switch ((int)(intptr_t)number % 4) {
      case 0: use_shared(); break;
      case 1: use_cancelled(round); break;
      default: use_doomed(round + (int)(intptr_t)number);
    }
  }
  return NULL;
}

int main(int argc, char **argv) {
  pthread_t threads[THREADS];
  CHECK(argc == 3 || argc == 4);
  racing = argc == 4;
  model = argv[1];
  rounds = atoi(argv[2]);
  make_documents(documents, DOCUMENTS);
  shared = open_ranker(model);
  atomic_store(&doomed, open_ranker(model));
  EXPECT(MLXR_OK, shared, rerank(shared, NULL, expected));
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, work, (void *)(intptr_t)i) == 0);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  EXPECT(MLXR_OK, shared, mlxr_close(shared));
  return 0;
}
