/*
 * mlxr.h: the C API of libmlxr, which ranks passages by how well they answer a
 * query, with cross-encoders on Apple's MLX: on Metal, or on the CPU.
 *
 *   mlxr_ranker ranker;
 *   mlxr_options options = {.size = sizeof options, .model = mlxr_string("builtin")};
 *   if (mlxr_open(&options, NULL, &ranker) != MLXR_OK) ...
 *   mlxr_rerank(ranker, &query, documents, count, NULL, ranked, count, NULL, NULL);
 *   mlxr_close(ranker);
 *
 * Statuses. Every call but mlxr_abi and mlxr_version returns MLXR_OK or another
 * MLXR_ status, for which mlxr_last_error has a message. No call exits or
 * prints; an error inside the library does not end the host.
 *
 * Handles. Rankers and cancellations are numbers that are never used twice, 0
 * is none. A call with a handle that is closed, or never was, returns
 * MLXR_CLOSED; closing it again does nothing and is MLXR_OK.
 *
 * Memory. The library keeps no pointer beyond the call it was given to, but for
 * the log callback and its context, which it keeps until mlxr_close returns, or
 * an mlxr_open that fails. All buffers are the caller's. A buffer comes with its
 * room; when that is too small the call does nothing and returns MLXR_ROOM, and
 * *needed says what it takes. needed may be NULL; on success it is set to what
 * was written.
 *
 * Texts are UTF-8 with a length in bytes; they may hold NULs and need not end in
 * one. Texts that are not UTF-8 are refused. A text has at most 2^28 bytes, all
 * texts of a call at most 2^30, an option at most 2^16; a call has at most 2^24
 * texts.
 *
 * Structs begin with their size, which the caller sets to sizeof the struct; all
 * other fields may be zero, which is their default.
 *
 * Threads. Any thread may make any call at any time. Calls on one ranker that
 * come at once share batches, so that one ranker serves a whole app. Calls wait
 * for their result: keep them off a thread that must not wait.
 *
 * Callbacks. A progress callback may call the library, but must not close a
 * ranker. A log callback may call mlxr_last_error and what concerns
 * cancellations; every other call returns MLXR_INVALID, since the ranker waits
 * for the callback. For the same reason a log callback must not wait for another
 * thread that calls the ranker. A callback must return: longjmp, C++ and
 * Objective-C exceptions and pthread_exit must not leave it, for the frames
 * below are Go's, which nothing can unwind.
 *
 * Exit. exit() and a return from main are safe at any time, from any thread:
 * exit() waits for the computation under way, calls of other threads do not
 * return any more.
 *
 * Processes. The library holds a Go runtime, which does not survive fork without
 * exec. It adds handlers for signals such as SIGSEGV that call the handlers
 * installed before; handlers that the host installs must have SA_ONSTACK, since
 * signals may arrive on threads whose stacks are small.
 */
#ifndef MLXR_H
#define MLXR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Number of this API: raised when a function, struct or meaning changes so that
 * programs must be compiled anew. mlxr_abi returns the library's. */
#define MLXR_ABI 1

/* Version of mlxrank that this header is of. */
#define MLXR_VERSION "0.1.0"

/* Statuses. */
enum {
  MLXR_OK = 0,
  MLXR_INVALID = 1,    /* an argument is wrong; nothing was done */
  MLXR_CLOSED = 2,     /* no such handle is open */
  MLXR_ROOM = 3,       /* a buffer is too small; nothing was done */
  MLXR_NOT_UTF8 = 4,   /* a text is not UTF-8; nothing was done */
  MLXR_MODEL = 5,      /* the model is not there, or is not one that can be used */
  MLXR_LIBRARY = 6,    /* libmlxrank or MLX is not there, or does not fit */
  MLXR_DEVICE = 7,     /* the device asked for is not there, or has failed */
  MLXR_OVERLOADED = 8, /* too much is waiting now; try again later */
  MLXR_TOO_LARGE = 9,  /* a text or the call is larger than the limit: split it */
  MLXR_CANCELLED = 10, /* by mlxr_cancel */
  MLXR_FAILED = 11     /* anything else; see the message */
};

/* Devices. Auto is a GPU if MLX can use one, else the CPU. */
enum { MLXR_DEVICE_AUTO = 0, MLXR_DEVICE_GPU = 1, MLXR_DEVICE_CPU = 2 };

/* Number formats. Auto is float16 on a GPU and float32 on the CPU. */
enum { MLXR_DTYPE_AUTO = 0, MLXR_DTYPE_FLOAT32 = 1, MLXR_DTYPE_FLOAT16 = 2, MLXR_DTYPE_BFLOAT16 = 3 };

/* Scores. Auto is what the model's configuration names, as sentence-transformers
 * does, else sigmoid for one label and raw for several; raw are logits; sigmoid
 * makes numbers from 0 to 1 of them; softmax, for several labels only, makes the
 * probability of the label. */
enum { MLXR_SCORES_AUTO = 0, MLXR_SCORES_RAW = 1, MLXR_SCORES_SIGMOID = 2, MLXR_SCORES_SOFTMAX = 3 };

/* Levels of the log: each includes those before it. */
enum {
  MLXR_LOG_OFF = 0,
  MLXR_LOG_ERROR = 1,
  MLXR_LOG_WARN = 2,
  MLXR_LOG_INFO = 3,  /* also one event for each second of activity */
  MLXR_LOG_DEBUG = 4, /* one for each call */
  MLXR_LOG_TRACE = 5  /* one for each batch */
};

/* What mlxr_rerank does with a document too long for the model. */
enum {
  MLXR_LONG_TRUNCATE = 0, /* its end is cut off */
  MLXR_LONG_WINDOW = 1    /* overlapping parts are scored and the best one counts */
};

typedef int64_t mlxr_ranker;
typedef int64_t mlxr_cancellation;

/* A text in UTF-8. data may be NULL if bytes is 0. */
typedef struct mlxr_text {
  const char *data;
  int64_t bytes;
} mlxr_text;

/* An event of the log: one JSON object, without a line end. Called from threads
 * of the library, by several at once. It must not call a ranker. Texts that are
 * ranked are never logged. */
typedef void (*mlxr_log)(void *context, int32_t level, const char *json, int64_t bytes);

/* How far a call is: bytes of the file that mlxr_open is downloading, else pairs,
 * of which equal ones count once. Called on the thread that made the call, between
 * batches. That all is done is told by the call's return alone. */
typedef void (*mlxr_progress)(void *context, int64_t done, int64_t total);

/* What to open. */
typedef struct mlxr_options {
  int64_t size;           /* sizeof(mlxr_options) */
  mlxr_text model;        /* "builtin", a directory, or a model of the Hugging Face hub, org/name[@revision],
                             which is downloaded first if need be; empty: cross-encoder/ms-marco-MiniLM-L-6-v2 */
  mlxr_text adapter;      /* directory of a PEFT LoRA adapter to merge; empty: none */
  mlxr_text label;        /* of several, by name or number: the one to score by; empty: the only one */
  mlxr_text library;      /* file of libmlxrank; empty: beside libmlxr, then where mlxrank looks */
  int32_t device;         /* MLXR_DEVICE_ */
  int32_t dtype;          /* MLXR_DTYPE_ */
  int32_t scores;         /* MLXR_SCORES_ */
  int32_t max_length;     /* tokens of a pair, at least 3; 0: the model's own */
  int32_t threads;        /* CPU threads; 0: one for each processor */
  int32_t log_level;      /* MLXR_LOG_ */
  int64_t cache_limit;    /* bytes of freed buffers that MLX keeps for reuse; 0: 512 MiB on a GPU, on the CPU
                             MLX's own 32 MiB; negative: MLX's own limit */
  int64_t memory_limit;   /* bytes over which work waits for running work; 0: MLX's own limit */
  int64_t idle_unload_ms; /* after so long without a call the model's memory is given back; the next
                             call loads it again. 0: never */
  mlxr_log log;           /* NULL: no log, whatever log_level says */
  void *log_context;
} mlxr_options;

/* How a call is to be made. */
typedef struct mlxr_call {
  int64_t size;                   /* sizeof(mlxr_call) */
  mlxr_cancellation cancellation; /* that ends the call; 0: none */
  mlxr_progress progress;         /* NULL: none */
  void *progress_context;
  int64_t top_n;          /* mlxr_rerank: how many documents to return; 0: all */
  int32_t long_documents; /* mlxr_rerank: MLXR_LONG_ */
  int32_t reserved;       /* 0 */
} mlxr_call;

/* A document of a ranking. */
typedef struct mlxr_ranked {
  int64_t index; /* in the documents as given, from 0 */
  float score;
  float logit; /* as the classifier gave it; with MLXR_SCORES_SOFTMAX the log-odds of the label */
} mlxr_ranked;

/* Figures of a call. The four stages add up to latency_ms. */
typedef struct mlxr_figures {
  int64_t size;           /* in: sizeof(mlxr_figures) */
  double latency_ms;      /* accepted to scores ready */
  double inference_ms;    /* a batch with pairs of the call was executing */
  double tokenization_ms; /* else: pairs of it were being tokenised */
  double queue_wait_ms;   /* else: pairs of it were waiting for a batch */
  double other_ms;        /* what is left */
  int64_t pairs;          /* scored: documents, or their parts */
  int64_t truncated;      /* pairs longer than the maximum length */
  int64_t tokens;         /* of all pairs, without padding */
} mlxr_figures;

/* MLXR_ABI of the library: compare it with the header's before any other call. */
int32_t mlxr_abi(void);

/* MLXR_VERSION of the library, never to be freed. */
const char *mlxr_version(void);

/* Loads a model and makes it ready. Of call, cancellation and progress count. */
int32_t mlxr_open(const mlxr_options *options, const mlxr_call *call, mlxr_ranker *ranker);

/* Scores pairs: queries[i] with documents[i], to scores[i]. */
int32_t mlxr_score(mlxr_ranker ranker, const mlxr_text *queries, const mlxr_text *documents, int64_t pairs,
                   const mlxr_call *call, float *scores, int64_t room, int64_t *needed, mlxr_figures *figures);

/* Ranks documents for a query, best first; equal scores keep the order given.
 * room and needed count documents. */
int32_t mlxr_rerank(mlxr_ranker ranker, const mlxr_text *query, const mlxr_text *documents, int64_t count,
                    const mlxr_call *call, mlxr_ranked *ranked, int64_t room, int64_t *needed,
                    mlxr_figures *figures);

/* What runs, as a JSON object: model, device, number format, versions, paths,
 * start-up times. room and needed count bytes with the NUL at the end. */
int32_t mlxr_info(mlxr_ranker ranker, char *json, int64_t room, int64_t *needed);

/* Figures since mlxr_open, as a JSON object: calls, pairs, tokens, percentiles of
 * the stages in ms, MLX's memory in bytes. room and needed as of mlxr_info. */
int32_t mlxr_stats(mlxr_ranker ranker, char *json, int64_t room, int64_t *needed);

/* Gives memory that is not in use back to the system: call it on a memory
 * warning. Later calls may be a little slower at first. */
int32_t mlxr_trim(mlxr_ranker ranker);

/* Refuses new calls, waits for those at work, and frees the model. No callback
 * is called afterwards. Cancel calls first if it must not wait for them. */
int32_t mlxr_close(mlxr_ranker ranker);

/* The message of the last call on the ranker that failed: of this thread if that
 * was this thread's last failure, else of any. Pass ranker 0 for mlxr_open and
 * for cancellations. Empty if there was none. room and needed as of mlxr_info. */
int32_t mlxr_last_error(mlxr_ranker ranker, char *text, int64_t room, int64_t *needed);

/* A cancellation may end any number of calls, also such as begin later. */
int32_t mlxr_cancellation_new(mlxr_cancellation *cancellation);

/* Ends the calls that have this cancellation: they return MLXR_CANCELLED at once,
 * also from other threads. What the device has begun runs to its end behind them. */
int32_t mlxr_cancel(mlxr_cancellation cancellation);

/* Frees a cancellation; calls at work with it can then not be cancelled any more. */
int32_t mlxr_cancellation_free(mlxr_cancellation cancellation);

/* The text of a NUL-terminated string. */
static inline mlxr_text mlxr_string(const char *s) {
  mlxr_text text;
  text.data = s;
  text.bytes = 0;
  while (s != NULL && s[text.bytes] != 0) text.bytes++;
  return text;
}

#ifdef __cplusplus
}
#endif

#endif
