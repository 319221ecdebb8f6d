/* A BERT cross-encoder's forward pass in plain C and double precision, one pair
 * at a time: what the shim is held against without Go or PyTorch. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "mlxrank.h"

/* Tensors by the names mlxrank_model_open takes, all float32. logits has room
 * for config->labels. Exits the process when a tensor is missing. */
void reference_logits(const mlxrank_config *config, const mlxrank_tensor *tensors, int count,
                      const int32_t *ids, const int32_t *type_ids, int length, double *logits);

#endif
