// A host with its own signal handlers, installed before and after the library loads.
// Go interrupts its threads with SIGURG unless it is told not to.
//   signals LIBRARY MODEL quiet|urged
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>

#include "test.h"

static volatile sig_atomic_t alarms, urged, users;
static sigjmp_buf back;

static void count(int signal) {
  switch (signal) {
    case SIGALRM: alarms++; break;
    case SIGURG: urged++; break;
    default: users++;
  }
}

static void recover(int signal) {
  (void)signal;
  siglongjmp(back, 1);
}

static void handle(int signal, void (*handler)(int)) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = SA_ONSTACK | SA_RESTART;
  CHECK(sigaction(signal, &action, NULL) == 0);
}

// The host's own fault, which its own handler recovers from.
static void fault(void) {
  if (sigsetjmp(back, 1) == 0) {
    *(volatile int *)16 = 1;
    CHECK(!"survived");
  }
}

int main(int argc, char **argv) {
  CHECK(argc == 4);
  handle(SIGSEGV, recover);
  handle(SIGBUS, recover); // macOS may send this one
  handle(SIGUSR1, count);
  fault();

  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) fprintf(stderr, "%s\n", dlerror());
  CHECK(library != NULL);
  int32_t (*open)(const mlxr_options *, const mlxr_call *, mlxr_ranker *);
  int32_t (*rerank)(mlxr_ranker, const mlxr_text *, const mlxr_text *, int64_t, const mlxr_call *, mlxr_ranked *,
                    int64_t, int64_t *, mlxr_figures *);
  int32_t (*trim)(mlxr_ranker);
  int32_t (*close)(mlxr_ranker);
  *(void **)&open = dlsym(library, "mlxr_open");
  *(void **)&rerank = dlsym(library, "mlxr_rerank");
  *(void **)&trim = dlsym(library, "mlxr_trim");
  *(void **)&close = dlsym(library, "mlxr_close");
  CHECK(open != NULL && rerank != NULL && trim != NULL && close != NULL);
  CHECK(dlsym(library, "mlxrgo_open") == NULL && dlsym(library, "tokenizers_encode") == NULL);
  CHECK(dlsym(RTLD_DEFAULT, "mlxr_open") == NULL); // its symbols do not conflict with others

  mlxr_options options;
  mlxr_ranker ranker;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.model = mlxr_string(argv[2]);
  options.device = MLXR_DEVICE_CPU;
  CHECK(open(&options, NULL, &ranker) == MLXR_OK);
  fault(); // the handler installed before the library still runs

  handle(SIGALRM, count);
  handle(SIGURG, count);
  const struct itimerval every = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
  CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);
  enum { DOCUMENTS = 200 };
  mlxr_text documents[DOCUMENTS];
  mlxr_ranked ranked[DOCUMENTS];
  const mlxr_text query = mlxr_string("a fox");
  make_documents(documents, DOCUMENTS);
  for (int i = 0; i < 1000 && (i < 60 || alarms < 200); i++) {
    CHECK(rerank(ranker, &query, documents, DOCUMENTS, NULL, ranked, DOCUMENTS, NULL, NULL) == MLXR_OK);
    CHECK(trim(ranker) == MLXR_OK); // collects garbage, which makes Go interrupt threads
    CHECK(raise(SIGUSR1) == 0);
  }
  CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
  CHECK(alarms >= 200 && users >= 60);
  if (strcmp(argv[3], "quiet") == 0) {
    CHECK(urged == 0);
  } else {
    CHECK(urged > 0);
  }
  fault();
  CHECK(close(ranker) == MLXR_OK);
  fault();
  return 0;
}
