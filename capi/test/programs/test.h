// Helpers of the test programs. A program prints nothing unless it fails.
#ifndef TEST_H
#define TEST_H

#include <mlxr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                          \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

static void show_error(const char *file, int line, int32_t status, int32_t want, mlxr_ranker ranker) {
  char text[2048] = "";
  (void)mlxr_last_error(ranker, text, sizeof text, NULL);
  fprintf(stderr, "%s:%d: status %d, expected %d: %s\n", file, line, status, want, text);
  exit(1);
}

// Expects a status of a call on a ranker (0: a call without one).
#define EXPECT(want, ranker, call)                                                                                     \
  do {                                                                                                                 \
    int32_t status_ = (call);                                                                                          \
    if (status_ != (want)) show_error(__FILE__, __LINE__, status_, (want), (ranker));                                  \
  } while (0)

// Expects a failure whose message contains a text.
#define REFUSED(want, ranker, text, call)                                                                              \
  do {                                                                                                                 \
    char message_[2048];                                                                                               \
    EXPECT(want, ranker, call);                                                                                        \
    CHECK(mlxr_last_error(ranker, message_, sizeof message_, NULL) == MLXR_OK);                                        \
    if (strstr(message_, (text)) == NULL) {                                                                            \
      fprintf(stderr, "%s:%d: \"%s\" lacks \"%s\"\n", __FILE__, __LINE__, message_, (text));                           \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

static inline mlxr_options options_for(const char *model) {
  mlxr_options options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.model = mlxr_string(model);
  options.device = MLXR_DEVICE_CPU;
  return options;
}

static inline mlxr_call a_call(void) {
  mlxr_call call;
  memset(&call, 0, sizeof call);
  call.size = sizeof call;
  return call;
}

static inline mlxr_ranker open_ranker(const char *model) {
  mlxr_options options = options_for(model);
  mlxr_ranker ranker = 0;
  EXPECT(MLXR_OK, 0, mlxr_open(&options, NULL, &ranker));
  CHECK(ranker > 0);
  return ranker;
}

// Returns the number after "key": in the ranker's stats. true is 1, false 0.
static inline double stat_of(mlxr_ranker ranker, const char *key) {
  char json[8192], wanted[64];
  const char *at;
  EXPECT(MLXR_OK, ranker, mlxr_stats(ranker, json, sizeof json, NULL));
  snprintf(wanted, sizeof wanted, "\"%s\":", key);
  at = strstr(json, wanted);
  CHECK(at != NULL);
  at += strlen(wanted);
  return strncmp(at, "true", 4) == 0 ? 1 : strncmp(at, "false", 5) == 0 ? 0 : atof(at);
}

// Returns many documents, the same every time.
static inline void make_documents(mlxr_text *documents, int count) {
  static const char text[] =
      "the quick brown fox jumps over the lazy dog while seventy three sleepy cats look on from the wall "
      "and wonder why anybody would run about so early in the day when there is a warm roof to lie on";
  for (int i = 0; i < count; i++) {
    documents[i].data = text + i % 60;
    documents[i].bytes = 40 + i % 83;
  }
}

#endif
