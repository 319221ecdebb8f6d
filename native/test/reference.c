#define _GNU_SOURCE
#include "reference.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  const mlxrank_config *config;
  const mlxrank_tensor *tensors;
  int count;
  reference_visitor visit;
  void *context;
} model;

static void visit(const model *m, const char *name, const double *values, int rows, int columns) {
  if (m->visit != NULL) {
    m->visit(m->context, name, values, rows, columns);
  }
}

static const float *find(const model *m, const char *format, ...) {
  char name[128];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(name, sizeof name, format, arguments);
  va_end(arguments);
  for (int i = 0; i < m->count; i++) {
    if (strcmp(m->tensors[i].name, name) == 0) {
      return m->tensors[i].data;
    }
  }
  fprintf(stderr, "reference: no tensor %s\n", name);
  exit(1);
}

static double *room(int n) {
  double *p = calloc((size_t)n, sizeof *p);
  if (p == NULL) {
    exit(1);
  }
  return p;
}

/* y [n, out] = x [n, in] w^T + b */
static void linear(const double *x, int n, int in, const float *w, const float *b, int out,
                   double *y) {
  for (int i = 0; i < n; i++) {
    for (int o = 0; o < out; o++) {
      double sum = b[o];
      for (int k = 0; k < in; k++) {
        sum += x[i * in + k] * w[o * in + k];
      }
      y[i * out + o] = sum;
    }
  }
}

static void layer_norm(double *x, int n, int size, const float *w, const float *b, double eps) {
  for (int i = 0; i < n; i++) {
    double *row = x + i * size, mean = 0, variance = 0;
    for (int k = 0; k < size; k++) {
      mean += row[k] / size;
    }
    for (int k = 0; k < size; k++) {
      variance += (row[k] - mean) * (row[k] - mean) / size;
    }
    for (int k = 0; k < size; k++) {
      row[k] = (row[k] - mean) / sqrt(variance + eps) * w[k] + b[k];
    }
  }
}

static double activate(int kind, double x) {
  switch (kind) {
  case MLXRANK_GELU_TANH:
    return x / 2 * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  case MLXRANK_RELU:
    return x > 0 ? x : 0;
  default:
    return x / 2 * (1 + erf(x / sqrt(2)));
  }
}

/* out [n, hidden] = each head's softmax-weighted values */
static void attention(const double *q, const double *k, const double *v, int n, int hidden,
                      int heads, double *out) {
  int size = hidden / heads;
  double *weight = room(n);
  for (int h = 0; h < heads; h++) {
    for (int i = 0; i < n; i++) {
      double most = -INFINITY, sum = 0;
      for (int j = 0; j < n; j++) {
        double dot = 0;
        for (int d = 0; d < size; d++) {
          dot += q[i * hidden + h * size + d] * k[j * hidden + h * size + d];
        }
        weight[j] = dot / sqrt(size);
        most = fmax(most, weight[j]);
      }
      for (int j = 0; j < n; j++) {
        weight[j] = exp(weight[j] - most);
        sum += weight[j];
      }
      for (int d = 0; d < size; d++) {
        double value = 0;
        for (int j = 0; j < n; j++) {
          value += weight[j] / sum * v[j * hidden + h * size + d];
        }
        out[i * hidden + h * size + d] = value;
      }
    }
  }
  free(weight);
}

static void embed(const model *m, const int32_t *ids, const int32_t *type_ids, int n, double *x) {
  int hidden = m->config->hidden_size;
  const float *word = find(m, "embeddings.word_embeddings.weight");
  const float *position = find(m, "embeddings.position_embeddings.weight");
  const float *type = find(m, "embeddings.token_type_embeddings.weight");
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < hidden; k++) {
      x[i * hidden + k] = (double)word[ids[i] * hidden + k] + position[i * hidden + k] +
                          type[type_ids[i] * hidden + k];
    }
  }
  layer_norm(x, n, hidden, find(m, "embeddings.LayerNorm.weight"),
             find(m, "embeddings.LayerNorm.bias"), m->config->layer_norm_eps);
}

static void named_linear(const model *m, int layer, const char *name, const double *x, int n,
                         int in, int out, double *y) {
  linear(x, n, in, find(m, "encoder.layer.%d.%s.weight", layer, name),
         find(m, "encoder.layer.%d.%s.bias", layer, name), out, y);
}

/* x = the named LayerNorm of x + y */
static void add_norm(const model *m, int layer, const char *name, double *x, const double *y,
                     int n) {
  int hidden = m->config->hidden_size;
  for (int i = 0; i < n * hidden; i++) {
    x[i] += y[i];
  }
  layer_norm(x, n, hidden, find(m, "encoder.layer.%d.%s.weight", layer, name),
             find(m, "encoder.layer.%d.%s.bias", layer, name), m->config->layer_norm_eps);
}

static void encode(const model *m, int layer, double *x, int n) {
  int hidden = m->config->hidden_size, inner = m->config->intermediate_size;
  char name[64];
  double *q = room(n * hidden), *k = room(n * hidden), *v = room(n * hidden);
  double *mixed = room(n * hidden), *out = room(n * hidden), *wide = room(n * inner);
  named_linear(m, layer, "attention.self.query", x, n, hidden, hidden, q);
  named_linear(m, layer, "attention.self.key", x, n, hidden, hidden, k);
  named_linear(m, layer, "attention.self.value", x, n, hidden, hidden, v);
  attention(q, k, v, n, hidden, m->config->heads, mixed);
  snprintf(name, sizeof name, "encoder.layer.%d.attention.self", layer);
  visit(m, name, mixed, n, hidden);
  named_linear(m, layer, "attention.output.dense", mixed, n, hidden, hidden, out);
  add_norm(m, layer, "attention.output.LayerNorm", x, out, n);
  snprintf(name, sizeof name, "encoder.layer.%d.attention", layer);
  visit(m, name, x, n, hidden);
  named_linear(m, layer, "intermediate.dense", x, n, hidden, inner, wide);
  for (int i = 0; i < n * inner; i++) {
    wide[i] = activate(m->config->activation, wide[i]);
  }
  named_linear(m, layer, "output.dense", wide, n, inner, hidden, out);
  add_norm(m, layer, "output.LayerNorm", x, out, n);
  snprintf(name, sizeof name, "encoder.layer.%d", layer);
  visit(m, name, x, n, hidden);
  free(q), free(k), free(v), free(mixed), free(out), free(wide);
}

void reference_logits(const mlxrank_config *config, const mlxrank_tensor *tensors, int count,
                      const int32_t *ids, const int32_t *type_ids, int length, double *logits,
                      reference_visitor visitor, void *context) {
  model m = {config, tensors, count, visitor, context};
  int hidden = config->hidden_size;
  double *x = room(length * hidden), *pooled = room(hidden);
  embed(&m, ids, type_ids, length, x);
  visit(&m, "embeddings", x, length, hidden);
  for (int layer = 0; layer < config->layers; layer++) {
    encode(&m, layer, x, length);
  }
  linear(x, 1, hidden, find(&m, "pooler.dense.weight"), find(&m, "pooler.dense.bias"), hidden,
         pooled);
  for (int k = 0; k < hidden; k++) {
    pooled[k] = tanh(pooled[k]);
  }
  visit(&m, "pooler", pooled, 1, hidden);
  linear(pooled, 1, hidden, find(&m, "classifier.weight"), find(&m, "classifier.bias"),
         config->labels, logits);
  visit(&m, "classifier", logits, 1, config->labels);
  free(x), free(pooled);
}
