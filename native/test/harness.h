/* What the C tests of libmlxrank share: checks, random models, batches, and the comparison
 * with the reference. */
#ifndef HARNESS_H
#define HARNESS_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlxrank.h"
#include "reference.h"

extern int failures;
extern char err[512];

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

enum { MAX_TENSORS = 200, MAX_PAIRS = 24, MAX_IDS = MAX_PAIRS * 256 };

typedef struct {
  mlxrank_config config;
  mlxrank_tensor tensors[MAX_TENSORS];
  int count;
} weights;

typedef struct {
  int32_t ids[MAX_IDS], type_ids[MAX_IDS], lengths[MAX_PAIRS], microbatches[MAX_PAIRS];
  mlxrank_batch batch;
} ragged;

/* Returns uniform numbers in [-1, 1), the same on every machine. */
double uniform(void);

/* Returns a step of a head. */
mlxrank_head_step dense_step(const char *name, int out, int activation);
mlxrank_head_step norm_step(const char *name, int size);

/* Returns the configuration of a small BERT in float32 on the CPU. */
mlxrank_config bert(int hidden, int layers, int heads, int activation, int labels);

/* Makes random tensors for the configuration. */
weights make_weights(const mlxrank_config *config);
void free_weights(weights *w);

/* Fills a batch with random tokens, in microbatches of at most four pairs. */
void fill_pairs(const mlxrank_config *config, ragged *r, const int32_t *lengths, int pairs);
/* Fills a batch with random pairs of 1 to 64 tokens. */
void fill_batch(const mlxrank_config *config, ragged *r, int pairs);

int64_t open_model(const weights *w);
int64_t open_session(int64_t model, int32_t threads);

/* Computes the logits of a batch, and checks its figures. */
void run(int64_t session, const ragged *r, int labels, float *out);

/* Returns the largest difference from the reference over a batch. */
double worst_difference(const weights *w, const ragged *r, const float *logits);

/* Compares the activations of a batch's first pair with the reference's. */
typedef struct {
  int compared; /* activations */
  double worst; /* difference */
  double worst_share; /* of the activation's root mean square */
} comparison;
comparison compare_activations(const weights *w, int64_t session, const ragged *r);
/* The same with a mistake in the reference's configuration. */
comparison compare_wrong_activations(const weights *w, const mlxrank_config *wrong, int64_t session,
                                     const ragged *r);

#endif
