/*
 * mlxrank.h: the C ABI of libmlxrank, a cross-encoder's forward pass on MLX.
 *
 * The ABI is flat and versioned: scalars, pointers, and structs passed by
 * pointer. Each struct begins with its own size in bytes. Every call but
 * mlxrank_abi returns a status. With any status but MLXRANK_OK the call writes a
 * NUL-terminated message of at most err_len bytes to err; err may be NULL when
 * err_len is 0. No call prints, exits or throws.
 *
 * Handles name models and sessions. A handle is never reused, so a stale one is
 * refused and cannot crash.
 *
 * Threading contract:
 * - MLX work runs on threads that the library owns. They live until the process
 *   ends, because MLX never frees a stream's thread. For the same reason the
 *   library must not be unloaded.
 * - One thread evaluates all unfused graphs of a device, whatever their sessions.
 *   Each microbatch has a stream of its own until it is finished, so that an error
 *   reaches its batch and no other. Workers evaluate fused graphs, one each.
 * - Open, submit to and close a session on one thread.
 * - Any thread may make every other call.
 */
#ifndef MLXRANK_H
#define MLXRANK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Number of this ABI, raised whenever a signature, struct or meaning changes. */
#define MLXRANK_ABI 9

enum {
  MLXRANK_OK = 0,
  MLXRANK_INVALID = 1, /* an argument is wrong; nothing was done */
  MLXRANK_ABI_MISMATCH = 2, /* caller and library, or library and libmlx, differ */
  MLXRANK_NO_DEVICE = 3, /* MLX cannot use the device asked for */
  MLXRANK_MLX = 4, /* MLX reported an error */
  MLXRANK_WRONG_THREAD = 5, /* the calling thread does not own the session */
  MLXRANK_BUSY = 6, /* two tickets of the session are already in flight */
  MLXRANK_NOT_FINITE = 7 /* a logit of the batch is NaN or infinite: the device failed */
};

enum { MLXRANK_CPU = 0, MLXRANK_GPU = 1 };
/* INT8 needs the CPU's kernels: the encoder's matmuls multiply 8 bit integers, to which the
 * library quantises weights when it opens the model. */
enum { MLXRANK_FLOAT32 = 0, MLXRANK_FLOAT16 = 1, MLXRANK_BFLOAT16 = 2, MLXRANK_INT8 = 3 };
enum { MLXRANK_INT16 = 5 }; /* of operands of attention in an INT8 model */
enum { MLXRANK_UINT32 = 4 }; /* of tensors only: small weights, see weight_bits */
/* Feed-forward layers have one of the first three. SILU is x sigmoid(x). */
enum {
  MLXRANK_GELU = 0,
  MLXRANK_GELU_TANH = 1,
  MLXRANK_RELU = 2,
  MLXRANK_SILU = 3,
  MLXRANK_TANH = 4,
  MLXRANK_SIGMOID = 5,
  MLXRANK_IDENTITY = 6
};

/* What the head reads of a pair: a sum of these. Each makes a vector of hidden_size,
 * and several lie end to end in this order. The means are over the pair's tokens: MEAN_SQRT
 * divides their sum by the square root of their number, and WEIGHTED_MEAN weights
 * the token at position i by i + 1. */
enum {
  MLXRANK_POOL_CLS = 1,
  MLXRANK_POOL_MAX = 2,
  MLXRANK_POOL_MEAN = 4,
  MLXRANK_POOL_MEAN_SQRT = 8,
  MLXRANK_POOL_WEIGHTED_MEAN = 16,
  MLXRANK_POOL_LAST = 32
};

/* A step of the head, computed in float32. The first one's input is what is pooled,
 * the last one's result the logits. */
enum { MLXRANK_DENSE = 0, MLXRANK_LAYER_NORM = 1 };
enum { MLXRANK_HEAD_STEPS = 16 };
typedef struct mlxrank_head_step {
  char name[96]; /* NAME.weight and NAME.bias are its tensors */
  int32_t kind;
  int32_t out; /* columns of the result; LAYER_NORM keeps its input's */
  int32_t activation; /* of DENSE: activation(W x + b) */
  int32_t residual; /* 1: DENSE then adds its input; out is the input's size */
  double epsilon; /* of LAYER_NORM */
} mlxrank_head_step;

/* Facts found at load. Strings are NUL-terminated, "" where unknown. */
typedef struct mlxrank_info {
  int32_t size; /* in: sizeof(mlxrank_info) */
  int32_t gpus; /* GPUs that MLX can use now */
  int32_t cpus; /* processors this process may use */
  int32_t reserved;
  char mlx_built[32]; /* MLX version the library was compiled against */
  char mlx_found[32]; /* MLX version of the libmlx that was loaded */
  char mlx_c[32]; /* version of the mlx-c inside the library */
  char mlx_path[1024]; /* file of the libmlx that was loaded */
  char blas[256]; /* BLAS behind MLX's CPU backend */
  char metallib[1024]; /* file of MLX's Metal kernels; "" where MLX finds it itself */
} mlxrank_info;

typedef struct mlxrank_device {
  int32_t size; /* in: sizeof(mlxrank_device) */
  int32_t reserved;
  int64_t memory; /* bytes; 0 where MLX does not report it */
  int64_t working_set; /* bytes MLX recommends to stay under; 0 likewise */
  char name[128];
  char architecture[64];
} mlxrank_device;

/* MLX's own counters in bytes, and how many models, sessions and workers there
 * are. */
typedef struct mlxrank_memory {
  int32_t size; /* in: sizeof(mlxrank_memory) */
  int32_t models; /* open */
  int32_t sessions; /* open */
  int32_t workers; /* worker threads started so far */
  int64_t active; /* buffers in use */
  int64_t cache; /* freed buffers kept for reuse */
  int64_t peak; /* highest value of active so far */
  int64_t memory_limit; /* above it, evaluation waits for running work */
} mlxrank_memory;

typedef struct mlxrank_config {
  int32_t size; /* in: sizeof(mlxrank_config) */
  int32_t device; /* MLXRANK_CPU or MLXRANK_GPU */
  int32_t dtype; /* of weights and activations on the device */
  int32_t activation; /* of the feed-forward layers */
  int32_t vocab_size;
  int32_t hidden_size;
  int32_t layers;
  int32_t heads;
  int32_t intermediate_size;
  int32_t max_positions; /* tokens of the longest pair */
  int32_t type_vocab_size;
  int32_t labels;
  int32_t embedding_size; /* of the embeddings; if not hidden_size, they are projected */
  /* Row of the position embeddings for a pair's first token. As in RoBERTa, the id
   * first_position - 1 is padding: a text that spells it gets that row for it, and the
   * tokens behind it do not count it. */
  int32_t first_position;
  int32_t pre_norm; /* 0: LayerNorm after each block, 1: before each block and at the end */
  int32_t gated; /* 1: feed-forward is output(activation(a) * b), for [a b] = intermediate(x) */
  int32_t window; /* a local layer's token attends to so many on each side; 0: no local layers */
  int32_t global_every; /* with window: layer i is global if i is a multiple of it */
  int32_t pooling;
  int32_t head_steps; /* 1 to MLXRANK_HEAD_STEPS */
  /* With small weights, linear layers of the encoder and the word embeddings may be
   * quantised as MLX does it: NAME.weight is UINT32 [rows, columns * weight_bits / 32],
   * NAME.scales and NAME.biases are [rows, columns / weight_group], and a weight is
   * scale * q + bias, where q is a number of weight_bits, the first of a word in its
   * lowest bits. */
  int32_t weight_bits; /* 8 or 4; 0: no small weights */
  int32_t weight_group; /* 32 or 64: numbers of a row that share a scale and a bias */
  double layer_norm_eps;
  double rope_base; /* of rotary positions in global layers; 0: position embeddings instead */
  double local_rope_base; /* likewise in local layers */
  mlxrank_head_step head[MLXRANK_HEAD_STEPS];
} mlxrank_config;

/* A named weight: row-major, little endian, of rank 1 or 2. */
typedef struct mlxrank_tensor {
  const char *name;
  const void *data;
  int64_t bytes;
  int32_t dtype; /* of data */
  int32_t rank;
  int64_t shape[2];
} mlxrank_tensor;

typedef struct mlxrank_options {
  int32_t size; /* in: sizeof(mlxrank_options) */
  int32_t threads; /* CPU workers; 0: one per processor. A GPU has one and ignores it */
  const char *variant; /* of the unfused graph; NULL or "": the default */
} mlxrank_options;

/* The variants of the unfused graph that can compute a model, the default first.
 * A model on the fused graph has none. */
enum { MLXRANK_VARIANTS = 16 };
typedef struct mlxrank_variants {
  int32_t size; /* in: sizeof(mlxrank_variants) */
  int32_t count;
  char names[MLXRANK_VARIANTS][32];
} mlxrank_variants;

/* A session's layout of a microbatch, and the sizes that the caller should plan for. */
typedef struct mlxrank_layout {
  int32_t size; /* in: sizeof(mlxrank_layout) */
  int32_t unpadded; /* 1: rows end to end, no padding; 0: rows as wide as the longest */
  int32_t grid; /* padded widths are multiples of it, up to max_positions */
  int32_t workers; /* microbatches computed at the same time */
  int32_t microbatch_tokens; /* recommended maximum of computed tokens in a microbatch */
  int32_t reserved;
  char kernels[32]; /* "MLX", or the instruction set of our kernels */
  char variant[32]; /* of the unfused graph; "" on the fused graph */
} mlxrank_layout;

/* A ragged batch: the token ids of all pairs end to end, and each pair's length. */
typedef struct mlxrank_batch {
  int32_t size; /* in: sizeof(mlxrank_batch) */
  int32_t pairs;
  int64_t tokens; /* entries in ids and in type_ids: the sum of lengths */
  const int32_t *ids;
  const int32_t *type_ids;
  const int32_t *lengths;
  const int32_t *microbatches; /* pairs in each microbatch, in order, adding up to pairs */
  int32_t microbatch_count; /* at least 1 */
  int32_t reserved;
} mlxrank_batch;

/* Figures of one microbatch. Times count from the submit of its batch. */
typedef struct mlxrank_microbatch {
  int32_t worker; /* index of the worker that computed it */
  int32_t pairs;
  int64_t tokens; /* without padding */
  int64_t computed_tokens; /* with padding */
  int64_t start_ns; /* a worker took it, perhaps before it finished the previous one */
  int64_t finish_ns; /* its logits were read */
} mlxrank_microbatch;

typedef struct mlxrank_stats {
  int32_t size; /* in: sizeof(mlxrank_stats) */
  int32_t microbatch_room; /* in: entries that fit into microbatches; the rest is left out */
  mlxrank_microbatch *microbatches; /* in: where the figures go; NULL if room is 0 */
  int64_t tokens; /* without padding */
  int64_t computed_tokens; /* with padding */
  int64_t execute_ns; /* from submit to the last logit */
} mlxrank_stats;

/* Thread time by phase: matmuls (our kernels add bias and activation to the
 * results in registers, so that time counts here), attention, activation,
 * addition and LayerNorm, embeddings, graph building, copies. The unfused graph
 * is evaluated phase by phase while it is profiled. workers x busy_ns is the
 * whole; two small batches computed at the same time, each with helpers, can
 * occupy more threads than workers. */
enum { MLXRANK_PHASES = 7 };
typedef struct mlxrank_profile {
  int32_t size; /* in: sizeof(mlxrank_profile) */
  int32_t workers;
  int64_t pairs;
  int64_t tokens;
  int64_t busy_ns; /* while a worker computed a microbatch */
  int64_t pass_ns; /* sum over microbatches, from taken to logits read */
  int64_t helped_ns; /* by threads that are not workers, a part of ns */
  int64_t matmul_flops_needed; /* by the tokens without padding */
  int64_t attention_flops_needed;
  int64_t ns[MLXRANK_PHASES];
  int64_t calls[MLXRANK_PHASES];
  int64_t flops[MLXRANK_PHASES]; /* executed, with padding */
} mlxrank_profile;

/* The matmuls of a pass over one short pair, counted by where they are and by the types of
 * their operands. On the unfused graph the arrays that MLX gets have these types, on the fused
 * graph the kernel that multiplies reports them. A kernel of attention multiplies each
 * head apart. */
enum { MLXRANK_IN_ENCODER = 0, MLXRANK_IN_ATTENTION = 1, MLXRANK_IN_HEAD = 2 };
typedef struct mlxrank_matmul {
  int32_t part; /* MLXRANK_IN_... */
  int32_t left; /* of activations or queries; -1 for a type without a name here */
  int32_t right; /* of weights, keys or values */
  int32_t computed; /* the operands are converted to it and multiplied; sums may be wider */
  int32_t bits; /* of a weight, if UINT32 packs several */
  int32_t reserved;
  int64_t count;
} mlxrank_matmul;
enum { MLXRANK_MATMULS = 32 };
typedef struct mlxrank_matmuls {
  int32_t size; /* in: sizeof(mlxrank_matmuls) */
  int32_t count;
  mlxrank_matmul kinds[MLXRANK_MATMULS];
} mlxrank_matmuls;

/* Returns the library's own MLXRANK_ABI. Only this call may precede the
 * handshake. */
int32_t mlxrank_abi(void);

/* Checks that the caller was written for this ABI and that libmlx has the
 * version compiled against. Fills info, also when it refuses. */
int32_t mlxrank_handshake(int32_t abi, mlxrank_info *info, char *err, int32_t err_len);

int32_t mlxrank_device_info(int32_t device, mlxrank_device *out, char *err, int32_t err_len);
int32_t mlxrank_memory_info(mlxrank_memory *out, char *err, int32_t err_len);

/* Sets limits in bytes; a negative value leaves that limit as it is. cache:
 * freed buffers that MLX keeps for reuse. memory: above it, evaluation waits for
 * running work. */
int32_t mlxrank_set_limits(int64_t cache, int64_t memory, char *err, int32_t err_len);

/* Returns MLX's cached buffers to the system and sets peak to active. */
int32_t mlxrank_trim(char *err, int32_t err_len);

/* Copies the tensors to the device, but see below, and checks that the model is complete.
 * Tensors have BertForSequenceClassification's names without "bert.", and:
 *
 *   embeddings.position_embeddings.weight  [first_position + max_positions, embedding_size];
 *                                          none with rotary positions
 *   embeddings_project                     [hidden_size, embedding_size], if they differ
 *   encoder.layer.N.intermediate.dense     [2 intermediate_size, hidden_size] if gated
 *   encoder.layer.N.attention.LayerNorm    with pre_norm: before attention; none in layer 0,
 *   encoder.layer.N.LayerNorm              before feed-forward,
 *   encoder.LayerNorm                      and at the end; no others in layers
 *
 * A layer without biases has biases of zeros.
 *
 * The CPU's kernels use word embeddings where they are, and do not copy them, if they are
 * float32, take 64 MiB or more, and lie in a mapping of a file that is shared (MAP_SHARED, on
 * Linux). The caller may unmap the file, but nothing may write to it or cut it
 * while the model is open. To replace it, rename a new file to its name. */
int32_t mlxrank_model_open(const mlxrank_config *config, const mlxrank_tensor *tensors,
                           int32_t count, int64_t *model, char *err, int32_t err_len);
/* Closes the handle. Open sessions of the model keep its weights. */
int32_t mlxrank_model_close(int64_t model, char *err, int32_t err_len);
int32_t mlxrank_model_variants(int64_t model, mlxrank_variants *out, char *err, int32_t err_len);

/* Opens a session that the calling thread owns: submit and close are refused on
 * any other thread. */
int32_t mlxrank_session_open(int64_t model, const mlxrank_options *options, int64_t *session,
                             char *err, int32_t err_len);
int32_t mlxrank_session_layout(int64_t session, mlxrank_layout *out, char *err, int32_t err_len);
/* Counts the matmuls of the session's graph, so that a caller can check what it computes in. */
int32_t mlxrank_session_matmuls(int64_t session, mlxrank_matmuls *out, char *err, int32_t err_len);
/* Starts a profile at zero (on is not 0), or stops it and clears the figures.
 * Off at first. A microbatch counts if a worker takes it while the profile runs.
 * Refused for a GPU. */
int32_t mlxrank_session_profile(int64_t session, int32_t on, char *err, int32_t err_len);
int32_t mlxrank_session_profile_read(int64_t session, mlxrank_profile *out, char *err,
                                     int32_t err_len);
/* Waits for batches in flight and drops tickets that were not collected. */
int32_t mlxrank_session_close(int64_t session, char *err, int32_t err_len);

/* Starts a batch and returns at once; the arrays are copied. At most two
 * tickets are in flight. */
int32_t mlxrank_submit(int64_t session, const mlxrank_batch *batch, int64_t *ticket, char *err,
                       int32_t err_len);
/* Waits for the batch and writes its logits to out: [pairs, labels] row-major, in
 * the order of the batch. out_len counts floats. A call refused with
 * MLXRANK_INVALID leaves the ticket in flight; any other status ends it. */
int32_t mlxrank_collect(int64_t session, int64_t ticket, float *out, int64_t out_len,
                        mlxrank_stats *stats, char *err, int32_t err_len);

/* Computes one pair on the session's graph and writes its activations to file, a
 * path that ends in .safetensors, as float32 tensors [rows, columns]. For
 * debugging: compare them with the outputs of BERT's PyTorch modules whose names
 * they have, without "bert.", or of another encoder's modules that do the same:
 *
 *   embeddings                        all tokens, [tokens, embedding_size]
 *   embeddings_project                likewise; if the embeddings are projected
 *   encoder.layer.N.attention.self    the heads' outputs, before the dense layer
 *   encoder.layer.N.attention         with the block's input added, after LayerNorm;
 *                                     with pre_norm without it
 *   encoder.layer.N                   likewise, after feed-forward
 *   encoder.LayerNorm                 with pre_norm: the last LayerNorm's output
 *   pooling                           if something else than [CLS] is pooled
 *   NAME of each step of the head     after its activation and the addition of its input;
 *                                     pooler.dense is called pooler, as BERT's module
 *
 * A layer's activations are of all tokens. If only [CLS] is pooled, the last layer's and
 * encoder.LayerNorm's are of [CLS] alone.
 */
int32_t mlxrank_debug_activations(int64_t session, const int32_t *ids, const int32_t *type_ids,
                                  int32_t length, const char *file, char *err, int32_t err_len);

#ifdef __cplusplus
}
#endif

#endif
