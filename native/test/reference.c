#define _GNU_SOURCE
#include "reference.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
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

/* y [n, out] = x [n, in] w^T + b, of the named layer */
static void linear(const model *m, const char *name, const double *x, int n, int in, int out,
                   double *y) {
  const float *w = find(m, "%s.weight", name), *b = find(m, "%s.bias", name);
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

/* x [n, size] = the named LayerNorm of x */
static void layer_norm(const model *m, const char *name, double *x, int n, int size, double eps) {
  const float *w = find(m, "%s.weight", name), *b = find(m, "%s.bias", name);
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
  case MLXRANK_SILU:
    return x / (1 + exp(-x));
  case MLXRANK_TANH:
    return tanh(x);
  case MLXRANK_SIGMOID:
    return 1 / (1 + exp(-x));
  case MLXRANK_IDENTITY:
    return x;
  default:
    return x / 2 * (1 + erf(x / sqrt(2)));
  }
}

/* Rotates each head of x [n, hidden] by its position: numbers i and i + half are a
 * complex number, turned by position / base^(i / half). */
static void rotate(double *x, int n, int hidden, int heads, double base) {
  int size = hidden / heads, half = size / 2;
  for (int p = 0; p < n; p++) {
    for (int h = 0; h < heads; h++) {
      double *head = x + p * hidden + h * size;
      for (int i = 0; i < half; i++) {
        double angle = p / pow(base, (double)i / half), real = head[i], imaginary = head[i + half];
        head[i] = real * cos(angle) - imaginary * sin(angle);
        head[i + half] = real * sin(angle) + imaginary * cos(angle);
      }
    }
  }
}

/* out [n, hidden] = each head's softmax-weighted values of the tokens within the
 * window, 0 for all tokens */
static void attention(const double *q, const double *k, const double *v, int n, int hidden,
                      int heads, int window, double *out) {
  int size = hidden / heads;
  double *weight = room(n);
  for (int h = 0; h < heads; h++) {
    for (int i = 0; i < n; i++) {
      int from = window > 0 && i > window ? i - window : 0;
      int to = window > 0 && i + window < n ? i + window + 1 : n;
      double most = -INFINITY, sum = 0;
      for (int j = from; j < to; j++) {
        double dot = 0;
        for (int d = 0; d < size; d++) {
          dot += q[i * hidden + h * size + d] * k[j * hidden + h * size + d];
        }
        weight[j] = dot / sqrt(size);
        most = fmax(most, weight[j]);
      }
      for (int j = from; j < to; j++) {
        weight[j] = exp(weight[j] - most);
        sum += weight[j];
      }
      for (int d = 0; d < size; d++) {
        double value = 0;
        for (int j = from; j < to; j++) {
          value += weight[j] / sum * v[j * hidden + h * size + d];
        }
        out[i * hidden + h * size + d] = value;
      }
    }
  }
  free(weight);
}

/* x [n, hidden] */
static void embed(const model *m, const int32_t *ids, const int32_t *type_ids, int n, double *x) {
  const mlxrank_config *c = m->config;
  int size = c->embedding_size;
  double *sum = c->embedding_size == c->hidden_size ? x : room(n * size);
  const float *word = find(m, "embeddings.word_embeddings.weight");
  const float *type = find(m, "embeddings.token_type_embeddings.weight");
  const float *position =
      c->rope_base > 0 ? NULL : find(m, "embeddings.position_embeddings.weight");
  int padding = c->first_position - 1, next = c->first_position;
  for (int i = 0; i < n; i++) {
    int row = ids[i] == padding ? padding : next++;
    for (int k = 0; k < size; k++) {
      sum[i * size + k] = (double)word[ids[i] * size + k] + type[type_ids[i] * size + k] +
                          (position ? position[row * size + k] : 0);
    }
  }
  layer_norm(m, "embeddings.LayerNorm", sum, n, size, c->layer_norm_eps);
  visit(m, "embeddings", sum, n, size);
  if (sum != x) {
    linear(m, "embeddings_project", sum, n, size, c->hidden_size, x);
    visit(m, "embeddings_project", x, n, c->hidden_size);
    free(sum);
  }
}

static const char *in_layer(int layer, const char *part) {
  static char name[128];
  snprintf(name, sizeof name, "encoder.layer.%d%s", layer, part);
  return name;
}

/* Returns a copy of x, normalised by the named LayerNorm if there is one. */
static double *normalised(const model *m, const char *norm, const double *x, int n) {
  int hidden = m->config->hidden_size;
  double *y = room(n * hidden);
  memcpy(y, x, (size_t)(n * hidden) * sizeof *x);
  if (norm != NULL) {
    layer_norm(m, norm, y, n, hidden, m->config->layer_norm_eps);
  }
  return y;
}

/* x += y, then LayerNorm if it comes after the block */
static void add_norm(const model *m, int layer, const char *name, double *x, const double *y,
                     int n) {
  int hidden = m->config->hidden_size;
  for (int i = 0; i < n * hidden; i++) {
    x[i] += y[i];
  }
  if (!m->config->pre_norm) {
    layer_norm(m, in_layer(layer, name), x, n, hidden, m->config->layer_norm_eps);
  }
}

static void attention_block(const model *m, int layer, double *x, int n) {
  const mlxrank_config *c = m->config;
  int hidden = c->hidden_size;
  bool local = c->window > 0 && layer % c->global_every != 0;
  double *q = room(n * hidden), *k = room(n * hidden), *v = room(n * hidden);
  double *mixed = room(n * hidden), *out = room(n * hidden);
  const char *norm = c->pre_norm && layer > 0 ? in_layer(layer, ".attention.LayerNorm") : NULL;
  double *input = normalised(m, norm, x, n);
  linear(m, in_layer(layer, ".attention.self.query"), input, n, hidden, hidden, q);
  linear(m, in_layer(layer, ".attention.self.key"), input, n, hidden, hidden, k);
  linear(m, in_layer(layer, ".attention.self.value"), input, n, hidden, hidden, v);
  if (c->rope_base > 0) {
    rotate(q, n, hidden, c->heads, local ? c->local_rope_base : c->rope_base);
    rotate(k, n, hidden, c->heads, local ? c->local_rope_base : c->rope_base);
  }
  attention(q, k, v, n, hidden, c->heads, local ? c->window : 0, mixed);
  visit(m, in_layer(layer, ".attention.self"), mixed, n, hidden);
  linear(m, in_layer(layer, ".attention.output.dense"), mixed, n, hidden, hidden, out);
  add_norm(m, layer, ".attention.output.LayerNorm", x, out, n);
  visit(m, in_layer(layer, ".attention"), x, n, hidden);
  free(q), free(k), free(v), free(mixed), free(out), free(input);
}

static void feed_forward_block(const model *m, int layer, double *x, int n) {
  const mlxrank_config *c = m->config;
  int hidden = c->hidden_size, inner = c->intermediate_size, wide = c->gated ? 2 * inner : inner;
  double *all = room(n * wide), *some = room(n * inner), *out = room(n * hidden);
  double *input = normalised(m, c->pre_norm ? in_layer(layer, ".LayerNorm") : NULL, x, n);
  linear(m, in_layer(layer, ".intermediate.dense"), input, n, hidden, wide, all);
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < inner; k++) {
      const double *row = all + i * wide;
      some[i * inner + k] = activate(c->activation, row[k]) * (c->gated ? row[inner + k] : 1);
    }
  }
  linear(m, in_layer(layer, ".output.dense"), some, n, inner, hidden, out);
  add_norm(m, layer, ".output.LayerNorm", x, out, n);
  visit(m, in_layer(layer, ""), x, n, hidden);
  free(all), free(some), free(out), free(input);
}

static double pooled(int way, const double *column, int n, int hidden) {
  double sum = 0, weighted = 0, most = -INFINITY;
  for (int i = 0; i < n; i++) {
    sum += column[i * hidden];
    weighted += column[i * hidden] * (i + 1);
    most = fmax(most, column[i * hidden]);
  }
  switch (way) {
  case MLXRANK_POOL_MAX:
    return most;
  case MLXRANK_POOL_MEAN:
    return sum / n;
  case MLXRANK_POOL_MEAN_SQRT:
    return sum / sqrt(n);
  case MLXRANK_POOL_WEIGHTED_MEAN:
    return weighted / (n * (n + 1.0) / 2);
  case MLXRANK_POOL_LAST:
    return column[(n - 1) * hidden];
  default:
    return column[0];
  }
}

/* Returns what the head reads, of *size numbers. */
static double *pool(const model *m, const double *x, int n, int *size) {
  int hidden = m->config->hidden_size;
  double *out = room(6 * hidden);
  *size = 0;
  for (int way = MLXRANK_POOL_CLS; way <= MLXRANK_POOL_LAST; way *= 2) {
    for (int k = 0; k < hidden && (m->config->pooling & way) != 0; k++) {
      out[(*size)++] = pooled(way, x + k, n, hidden);
    }
  }
  if (m->config->pooling != MLXRANK_POOL_CLS) {
    visit(m, "pooling", out, 1, *size);
  }
  return out;
}

/* Returns the step's result for x [in], which it frees. */
static double *head_step(const model *m, const mlxrank_head_step *s, double *x, int in) {
  double *y = room(s->out);
  if (s->kind == MLXRANK_LAYER_NORM) {
    memcpy(y, x, (size_t)in * sizeof *x);
    layer_norm(m, s->name, y, 1, in, s->epsilon);
  } else {
    linear(m, s->name, x, 1, in, s->out, y);
    for (int k = 0; k < s->out; k++) {
      y[k] = activate(s->activation, y[k]) + (s->residual ? x[k] : 0);
    }
  }
  visit(m, strcmp(s->name, "pooler.dense") == 0 ? "pooler" : s->name, y, 1, s->out);
  free(x);
  return y;
}

void reference_logits(const mlxrank_config *config, const mlxrank_tensor *tensors, int count,
                      const int32_t *ids, const int32_t *type_ids, int length, double *logits,
                      reference_visitor visitor, void *context) {
  model m = {config, tensors, count, visitor, context};
  int hidden = config->hidden_size, size = 0;
  double *x = room(length * hidden);
  embed(&m, ids, type_ids, length, x);
  for (int layer = 0; layer < config->layers; layer++) {
    attention_block(&m, layer, x, length);
    feed_forward_block(&m, layer, x, length);
  }
  if (config->pre_norm) {
    layer_norm(&m, "encoder.LayerNorm", x, length, hidden, config->layer_norm_eps);
    visit(&m, "encoder.LayerNorm", x, length, hidden);
  }
  double *y = pool(&m, x, length, &size);
  for (int i = 0; i < config->head_steps; i++) {
    y = head_step(&m, &config->head[i], y, size);
    size = config->head[i].out;
  }
  memcpy(logits, y, (size_t)size * sizeof *y);
  free(x), free(y);
}

typedef struct {
  tensor_visitor visit;
  void *context;
} tensor_list;

static void list_linear(const tensor_list *l, const char *name, int64_t out, int64_t in) {
  char full[160];
  snprintf(full, sizeof full, "%s.weight", name);
  l->visit(l->context, full, WEIGHT, out, in);
  snprintf(full, sizeof full, "%s.bias", name);
  l->visit(l->context, full, BIAS, out, 0);
}

static void list_norm(const tensor_list *l, const char *name, int64_t size) {
  char full[160];
  snprintf(full, sizeof full, "%s.weight", name);
  l->visit(l->context, full, NORM_WEIGHT, size, 0);
  snprintf(full, sizeof full, "%s.bias", name);
  l->visit(l->context, full, NORM_BIAS, size, 0);
}

static void list_layer(const tensor_list *l, const mlxrank_config *c, int layer) {
  int64_t h = c->hidden_size, f = c->intermediate_size;
  list_linear(l, in_layer(layer, ".attention.self.query"), h, h);
  list_linear(l, in_layer(layer, ".attention.self.key"), h, h);
  list_linear(l, in_layer(layer, ".attention.self.value"), h, h);
  list_linear(l, in_layer(layer, ".attention.output.dense"), h, h);
  if (!c->pre_norm) {
    list_norm(l, in_layer(layer, ".attention.output.LayerNorm"), h);
  } else if (layer > 0) {
    list_norm(l, in_layer(layer, ".attention.LayerNorm"), h);
  }
  list_linear(l, in_layer(layer, ".intermediate.dense"), c->gated ? 2 * f : f, h);
  list_linear(l, in_layer(layer, ".output.dense"), h, f);
  list_norm(l, in_layer(layer, c->pre_norm ? ".LayerNorm" : ".output.LayerNorm"), h);
}

void model_tensors(const mlxrank_config *c, tensor_visitor visit, void *context) {
  const tensor_list l = {visit, context};
  int64_t size = c->embedding_size, in = 0;
  visit(context, "embeddings.word_embeddings.weight", TABLE, c->vocab_size, size);
  if (c->rope_base == 0) {
    visit(context, "embeddings.position_embeddings.weight", TABLE,
          c->first_position + c->max_positions, size);
  }
  visit(context, "embeddings.token_type_embeddings.weight", TABLE, c->type_vocab_size, size);
  list_norm(&l, "embeddings.LayerNorm", size);
  if (c->embedding_size != c->hidden_size) {
    list_linear(&l, "embeddings_project", c->hidden_size, size);
  }
  for (int layer = 0; layer < c->layers; layer++) {
    list_layer(&l, c, layer);
  }
  if (c->pre_norm) {
    list_norm(&l, "encoder.LayerNorm", c->hidden_size);
  }
  for (int way = MLXRANK_POOL_CLS; way <= MLXRANK_POOL_LAST; way *= 2) {
    in += (c->pooling & way) != 0 ? c->hidden_size : 0;
  }
  for (int i = 0; i < c->head_steps; i++) {
    const mlxrank_head_step *s = &c->head[i];
    if (s->kind == MLXRANK_LAYER_NORM) {
      list_norm(&l, s->name, s->out);
    } else {
      list_linear(&l, s->name, s->out, in);
    }
    in = s->out;
  }
}
