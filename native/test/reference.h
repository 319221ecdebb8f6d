/* An encoder's forward pass in plain C and double precision, one pair at a time, to
 * compare the shim with. It needs neither Go nor PyTorch. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "mlxrank.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The kinds of a tensor, which decide its random values. */
enum { TABLE, WEIGHT, BIAS, NORM_WEIGHT, NORM_BIAS };

/* Receives a tensor that a model has; columns is 0 if it has rank 1. */
typedef void (*tensor_visitor)(void *context, const char *name, int kind, int64_t rows,
                               int64_t columns);

/* Visits the tensors of a model in a fixed order. */
void model_tensors(const mlxrank_config *config, tensor_visitor visit, void *context);

/* Receives an activation [rows, columns] under the name that
 * mlxrank_debug_activations gives it. */
typedef void (*reference_visitor)(void *context, const char *name, const double *values, int rows,
                                  int columns);

/* Computes the logits of a pair. Tensors have the names that mlxrank_model_open
 * takes and are float32. logits has room for config->labels. visit may be NULL.
 * Exits the process if a tensor is missing. */
void reference_logits(const mlxrank_config *config, const mlxrank_tensor *tensors, int count,
                      const int32_t *ids, const int32_t *type_ids, int length, double *logits,
                      reference_visitor visit, void *context);

#ifdef __cplusplus
}
#endif

#endif
