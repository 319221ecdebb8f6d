/*
 * mlxrank.h: the C ABI of libmlxrank, a BERT cross-encoder's forward pass on MLX.
 *
 * The ABI is flat and versioned: scalars, pointers and structs passed by
 * pointer, each struct beginning with its own size in bytes. Every call but
 * mlxrank_abi returns a status; on any status but MLXRANK_OK it writes a
 * NUL-terminated message of at most err_len bytes to err (err may be NULL when
 * err_len is 0). No call prints, exits or throws.
 *
 * Models and sessions are named by handles that are never used twice, so a
 * stale handle is refused and cannot crash.
 *
 * MLX work runs on threads the library owns; they live as long as the process,
 * since MLX never gives a stream's thread back. For the same reason the library
 * must not be unloaded.
 */
#ifndef MLXRANK_H
#define MLXRANK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Number of this ABI: raised whenever a signature, struct or meaning changes. */
#define MLXRANK_ABI 5

enum {
  MLXRANK_OK = 0,
  MLXRANK_INVALID = 1, /* an argument is wrong; nothing was done */
  MLXRANK_ABI_MISMATCH = 2, /* caller and library, or library and libmlx, differ */
  MLXRANK_NO_DEVICE = 3, /* the device asked for is not there */
  MLXRANK_MLX = 4, /* MLX reported an error */
  MLXRANK_WRONG_THREAD = 5, /* a session was used from a thread that does not own it */
  MLXRANK_BUSY = 6 /* two tickets of the session are in flight already */
};

enum { MLXRANK_CPU = 0, MLXRANK_GPU = 1 };
enum { MLXRANK_FLOAT32 = 0, MLXRANK_FLOAT16 = 1, MLXRANK_BFLOAT16 = 2 };
enum { MLXRANK_GELU = 0, MLXRANK_GELU_TANH = 1, MLXRANK_RELU = 2 };

/* What was found at load. Strings are NUL-terminated, "" where unknown. */
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
  char metallib[1024]; /* file of MLX's Metal kernels; "" where MLX looks for it by itself */
} mlxrank_info;

typedef struct mlxrank_device {
  int32_t size; /* in: sizeof(mlxrank_device) */
  int32_t reserved;
  int64_t memory; /* bytes; 0 where MLX does not say */
  int64_t working_set; /* bytes MLX recommends to stay under; 0 likewise */
  char name[128];
  char architecture[64];
} mlxrank_device;

/* Bytes, MLX's own counters: buffers in use, kept for reuse, the most in use so
 * far, and the limits in force; then how much of the library is in use. */
typedef struct mlxrank_memory {
  int32_t size; /* in: sizeof(mlxrank_memory) */
  int32_t models; /* open */
  int32_t sessions; /* open */
  int32_t lanes; /* owner threads made so far */
  int64_t active;
  int64_t cache;
  int64_t peak;
  int64_t memory_limit;
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
  int32_t max_positions;
  int32_t type_vocab_size;
  int32_t labels;
  double layer_norm_eps;
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
  int32_t threads; /* CPU shards at work at once; 0: one per processor. GPU: ignored */
  int32_t shard_tokens; /* most computed tokens in one shard; 0: the measured best */
  int32_t reserved;
} mlxrank_options;

/* How a session lays out a shard. */
typedef struct mlxrank_layout {
  int32_t size; /* in: sizeof(mlxrank_layout) */
  int32_t packed; /* 1: tokens one after another; 0: rows as wide as the longest pair */
  int32_t grid; /* widths are multiples of it, up to max_positions */
  int32_t lanes; /* shards at work at once */
  int32_t shard_tokens; /* most computed tokens in a shard, but for a longer pair */
  int32_t reserved;
  char kernels[32]; /* what computes: "MLX", or the instruction set of our own kernels */
} mlxrank_layout;

/* A ragged batch: the pairs' ids one after another, and each pair's length. */
typedef struct mlxrank_batch {
  int32_t size; /* in: sizeof(mlxrank_batch) */
  int32_t pairs;
  int64_t tokens; /* entries in ids and in type_ids: the sum of lengths */
  const int32_t *ids;
  const int32_t *type_ids;
  const int32_t *lengths;
  /* How the batch is cut into shards, each one graph: how many pairs each takes,
   * in the order of the batch, adding up to pairs. NULL: the library cuts it
   * into shards of like lengths, as equal as can be. */
  const int32_t *shards;
  int32_t shard_count;
  int32_t reserved;
} mlxrank_batch;

/* One shard's figures. Times count from the submit of its batch. */
typedef struct mlxrank_shard {
  int32_t lane; /* the owner thread that ran it, from 0 */
  int32_t pairs;
  int64_t tokens; /* real tokens */
  int64_t computed_tokens; /* rows computed, padding included */
  int64_t start_ns; /* taken by the lane, which may still be at the one before */
  int64_t finish_ns; /* its logits read */
} mlxrank_shard;

typedef struct mlxrank_stats {
  int32_t size; /* in: sizeof(mlxrank_stats) */
  int32_t shards; /* graphs evaluated for the batch */
  int64_t tokens; /* real tokens */
  int64_t computed_tokens; /* rows computed, padding included */
  int64_t execute_ns; /* from submit to the last logit */
  mlxrank_shard *shard; /* in: where the shards' figures go, NULL for nowhere */
  int32_t shard_room; /* in: how many fit there; those that do not are left out */
  int32_t reserved;
} mlxrank_stats;

/* Where time went, in thread time, by class of work: products (with bias and
 * activation where our own kernels compute them in its registers), attention,
 * activation, addition and LayerNorm, embeddings, building graphs, copies. Of
 * the plain graph it is the time of a pass that is evaluated class by class.
 * lanes x busy_ns is the whole; where two small batches are at work at once,
 * each with helpers, more threads than lanes may be. */
enum { MLXRANK_PHASES = 7 };
typedef struct mlxrank_profile {
  int32_t size; /* in: sizeof(mlxrank_profile) */
  int32_t lanes;
  int64_t pairs;
  int64_t tokens;
  int64_t busy_ns; /* while at least one shard was at work */
  int64_t pass_ns; /* sum over shards, from taken to logits read */
  int64_t helped_ns; /* by threads that are no lane's, a part of ns */
  int64_t product_flops_needed; /* by the real tokens */
  int64_t attention_flops_needed;
  int64_t ns[MLXRANK_PHASES];
  int64_t calls[MLXRANK_PHASES];
  int64_t flops[MLXRANK_PHASES]; /* executed, padding included */
} mlxrank_profile;

/* The library's own MLXRANK_ABI. The one call that may precede the handshake. */
int32_t mlxrank_abi(void);

/* Checks that the caller was written for this ABI and that the libmlx found is
 * the version compiled against, and fills info (also when it refuses). */
int32_t mlxrank_handshake(int32_t abi, mlxrank_info *info, char *err, int32_t err_len);

int32_t mlxrank_device_info(int32_t device, mlxrank_device *out, char *err, int32_t err_len);
int32_t mlxrank_memory_info(mlxrank_memory *out, char *err, int32_t err_len);

/* Sets limits in bytes; a negative value leaves that limit as it is. cache:
 * freed buffers MLX keeps for reuse. memory: over it, evaluation waits for
 * running work. */
int32_t mlxrank_set_limits(int64_t cache, int64_t memory, char *err, int32_t err_len);

/* Gives MLX's cached buffers back to the system and sets peak to active. */
int32_t mlxrank_trim(char *err, int32_t err_len);

/* Copies the tensors to the device and checks that the model is complete.
 * Tensor names are those of BertForSequenceClassification without "bert.". */
int32_t mlxrank_model_open(const mlxrank_config *config, const mlxrank_tensor *tensors,
                           int32_t count, int64_t *model, char *err, int32_t err_len);
/* Sessions of the model that are still open keep its weights. */
int32_t mlxrank_model_close(int64_t model, char *err, int32_t err_len);

/* The calling thread owns the session: submit and close are refused on any
 * other. */
int32_t mlxrank_session_open(int64_t model, const mlxrank_options *options, int64_t *session,
                             char *err, int32_t err_len);
int32_t mlxrank_session_layout(int64_t session, mlxrank_layout *out, char *err, int32_t err_len);
/* Begins figures at zero, of shards taken from now on, or ends them. Off at
 * first. There are none of a GPU. Any thread may call both. */
int32_t mlxrank_session_profile(int64_t session, int32_t on, char *err, int32_t err_len);
int32_t mlxrank_session_profile_read(int64_t session, mlxrank_profile *out, char *err,
                                     int32_t err_len);
/* Waits for what is in flight; tickets not collected are dropped. */
int32_t mlxrank_session_close(int64_t session, char *err, int32_t err_len);

/* Starts a batch and returns at once; the arrays are copied. At most two
 * tickets are in flight. */
int32_t mlxrank_submit(int64_t session, const mlxrank_batch *batch, int64_t *ticket, char *err,
                       int32_t err_len);
/* Waits for the batch and writes its logits, [pairs, labels] row-major, in the
 * order of the batch. out_len counts floats. A call refused with
 * MLXRANK_INVALID leaves the ticket; any other answer ends it. Any thread may
 * call it, so that the owner can submit meanwhile. */
int32_t mlxrank_collect(int64_t session, int64_t ticket, float *out, int64_t out_len,
                        mlxrank_stats *stats, char *err, int32_t err_len);

#ifdef __cplusplus
}
#endif

#endif
