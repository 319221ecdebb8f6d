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
 * Statuses. Every call except mlxr_abi and mlxr_version returns MLXR_OK or another
 * MLXR_ status, for which mlxr_last_error has a message. No call exits or prints.
 * An error inside the library does not end the host.
 *
 * Handles. Rankers and cancellations are numbers. A number is never reused; 0 is
 * no handle. A call with a handle that is closed or never existed returns
 * MLXR_CLOSED. Closing a closed handle does nothing and returns MLXR_OK.
 *
 * Memory. The library keeps no pointer after the call that received it, except the
 * log callback and its context, which it keeps until mlxr_close returns or
 * mlxr_open fails. The caller owns all buffers and passes the room of each. If the
 * room is too small, the call does nothing, returns MLXR_ROOM and sets *needed to
 * the room it needs. On success it sets *needed to what it wrote. needed may be
 * NULL.
 *
 * Texts are UTF-8 with a length in bytes. They may contain NULs and need no NUL at
 * the end. The library refuses texts that are not UTF-8. Limits: 2^28 bytes per
 * text, 2^30 bytes for all texts of a call, 2^16 bytes per option, and 2^24 texts
 * per call.
 *
 * Structs begin with their size, which the caller sets to sizeof the struct. Zero
 * is the default of every other field.
 *
 * Threads. Any thread may make any call at any time. Concurrent calls on one ranker
 * share batches, so one ranker serves a whole app. A call blocks until its result
 * is ready: do not make it on a thread that must not block.
 *
 * Callbacks. A progress callback may call the library, but must not close a ranker.
 * A log callback may call mlxr_last_error and the functions of cancellations; any
 * other call returns MLXR_INVALID, because the ranker waits for the callback. For
 * the same reason a log callback must not wait for a thread that calls the ranker.
 * A callback must return: longjmp, C++ and Objective-C exceptions and pthread_exit
 * must not leave it, because nothing can unwind the Go frames below it.
 *
 * Exit. Any thread may call exit() or return from main at any time. exit() waits
 * for the running computation; calls on other threads then no longer return.
 *
 * Processes. The library contains a Go runtime, which does not survive fork without
 * exec. It installs handlers for signals such as SIGSEGV, which call the handlers
 * installed before. Handlers that the host installs need SA_ONSTACK, because
 * signals may arrive on threads with small stacks.
 */
#ifndef MLXR_H
#define MLXR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Number of this API, raised when a change of a function, struct or meaning requires
 * that programs are recompiled. mlxr_abi returns the library's number. */
#define MLXR_ABI 1

/* mlxrank version of this header. */
#define MLXR_VERSION "0.1.0"

/* Statuses. */
enum {
  MLXR_OK = 0,
  MLXR_INVALID = 1,    /* an argument is wrong; nothing was done */
  MLXR_CLOSED = 2,     /* the handle is not open */
  MLXR_ROOM = 3,       /* a buffer is too small; nothing was done */
  MLXR_NOT_UTF8 = 4,   /* a text is not UTF-8; nothing was done */
  MLXR_MODEL = 5,      /* the model was not found or cannot be used */
  MLXR_LIBRARY = 6,    /* libmlxrank or MLX was not found or has the wrong version */
  MLXR_DEVICE = 7,     /* the device asked for was not found or has failed */
  MLXR_OVERLOADED = 8, /* too many requests are waiting; try again later */
  MLXR_TOO_LARGE = 9,  /* a text or the call exceeds a limit: split it */
  MLXR_CANCELLED = 10, /* by mlxr_cancel */
  MLXR_FAILED = 11     /* any other failure; see the message */
};

/* Devices. Auto is a GPU if MLX can use one, else the CPU. */
enum { MLXR_DEVICE_AUTO = 0, MLXR_DEVICE_GPU = 1, MLXR_DEVICE_CPU = 2 };

/* Number formats. Auto is float16 on a GPU and float32 on the CPU, with the weights as the
   model has them. INT8 is for the CPU only. INT8W and INT4W keep weights in 8 or 4 bits. */
enum {
  MLXR_DTYPE_AUTO = 0,
  MLXR_DTYPE_FLOAT32 = 1,
  MLXR_DTYPE_FLOAT16 = 2,
  MLXR_DTYPE_BFLOAT16 = 3,
  MLXR_DTYPE_INT8 = 4,
  MLXR_DTYPE_INT8W = 5,
  MLXR_DTYPE_INT4W = 6
};

/* Scores. Auto is the function that the model's configuration names, as in
 * sentence-transformers; without one, sigmoid for one label and raw for several.
 * Raw scores are logits. Sigmoid maps them to numbers from 0 to 1. Softmax, only for
 * several labels, gives the probability of the label. */
enum { MLXR_SCORES_AUTO = 0, MLXR_SCORES_RAW = 1, MLXR_SCORES_SIGMOID = 2, MLXR_SCORES_SOFTMAX = 3 };

/* Log levels. Each includes the levels before it. */
enum {
  MLXR_LOG_OFF = 0,
  MLXR_LOG_ERROR = 1,
  MLXR_LOG_WARN = 2,
  MLXR_LOG_INFO = 3,  /* also one event per second of activity */
  MLXR_LOG_DEBUG = 4, /* also one event per call */
  MLXR_LOG_TRACE = 5  /* also one event per batch */
};

/* Ways to rank a document that is too long for the model. */
enum {
  MLXR_LONG_TRUNCATE = 0, /* cut off its end */
  MLXR_LONG_PASSAGES = 1  /* score overlapping passages and take the best score */
};

/* Older name of MLXR_LONG_PASSAGES. */
#define MLXR_LONG_WINDOW MLXR_LONG_PASSAGES

typedef int64_t mlxr_ranker;
typedef int64_t mlxr_cancellation;

/* A text in UTF-8. data may be NULL if bytes is 0. */
typedef struct mlxr_text {
  const char *data;
  int64_t bytes;
} mlxr_text;

/* Receives a log event: one JSON object without a line end. Several threads of the
 * library may call it at the same time. It must not call a ranker. The library never
 * logs the texts that are ranked. */
typedef void (*mlxr_log)(void *context, int32_t level, const char *json, int64_t bytes);

/* Receives the progress of a call: bytes of the file that mlxr_open downloads, else
 * pairs, where equal pairs count once. The thread that made the call calls it between
 * batches. Only the call's return means that everything is done. */
typedef void (*mlxr_progress)(void *context, int64_t done, int64_t total);

/* The model to open and its settings. */
typedef struct mlxr_options {
  int64_t size;           /* sizeof(mlxr_options) */
  mlxr_text model;        /* "builtin", a directory, or a model of the Hugging Face hub, org/name[@revision],
                             downloaded if it is not in the cache; empty: cross-encoder/ms-marco-MiniLM-L6-v2 */
  mlxr_text adapter;      /* directory of a PEFT LoRA adapter to merge; empty: none */
  mlxr_text label;        /* label to score, by name or zero-based index; empty: the model's only label */
  mlxr_text library;      /* file of libmlxrank; empty: searched beside libmlxr, then where mlxrank searches */
  int32_t device;         /* MLXR_DEVICE_ */
  int32_t dtype;          /* MLXR_DTYPE_ */
  int32_t scores;         /* MLXR_SCORES_ */
  int32_t max_length;     /* max tokens of a pair, at least 3; 0: the model's own */
  int32_t threads;        /* CPU threads; 0: one per processor */
  int32_t log_level;      /* MLXR_LOG_ */
  int64_t cache_limit;    /* bytes of freed buffers that MLX keeps for reuse; 0: 512 MiB on a GPU, 8 MiB on
                             the CPU; negative: MLX's own limit */
  int64_t memory_limit;   /* bytes above which new work waits for running work; 0: MLX's own limit */
  int64_t idle_unload_ms; /* ms without a call after which the model is unloaded; the next call loads it
                             again. 0: never */
  mlxr_log log;           /* NULL: no log at any log_level */
  void *log_context;
} mlxr_options;

/* Settings of one call. */
typedef struct mlxr_call {
  int64_t size;                   /* sizeof(mlxr_call) */
  mlxr_cancellation cancellation; /* ends the call when it is cancelled; 0: none */
  mlxr_progress progress;         /* NULL: none */
  void *progress_context;
  int64_t top_n;          /* mlxr_rerank: max documents to return; 0: all */
  int32_t long_documents; /* mlxr_rerank: MLXR_LONG_ */
  int32_t reserved;       /* 0 */
} mlxr_call;

/* A ranked document. */
typedef struct mlxr_ranked {
  int64_t index; /* zero-based index into the given documents */
  float score;
  float logit; /* output of the classifier; with MLXR_SCORES_SOFTMAX the log-odds of the label */
} mlxr_ranked;

/* Figures of a call. The four stages add up to latency_ms. */
typedef struct mlxr_figures {
  int64_t size;           /* in: sizeof(mlxr_figures) */
  double latency_ms;      /* from acceptance until the scores were ready */
  double inference_ms;    /* while a batch with pairs of the call ran */
  double tokenization_ms; /* else, while pairs of the call were tokenised */
  double queue_wait_ms;   /* else, while pairs of the call waited for a batch */
  double other_ms;        /* the rest */
  int64_t pairs;          /* scored: documents or their passages */
  int64_t truncated;      /* pairs longer than the maximum length */
  int64_t tokens;         /* of all pairs, without padding */
} mlxr_figures;

/* Returns the library's MLXR_ABI: compare it with the header's before any other call. */
int32_t mlxr_abi(void);

/* Returns the library's MLXR_VERSION. Do not free it. */
const char *mlxr_version(void);

/* Loads a model and makes it ready to score. It uses only cancellation and progress
 * of call. */
int32_t mlxr_open(const mlxr_options *options, const mlxr_call *call, mlxr_ranker *ranker);

/* Scores pairs: writes the score of queries[i] with documents[i] to scores[i]. */
int32_t mlxr_score(mlxr_ranker ranker, const mlxr_text *queries, const mlxr_text *documents, int64_t pairs,
                   const mlxr_call *call, float *scores, int64_t room, int64_t *needed, mlxr_figures *figures);

/* Ranks documents for a query, best first. Equal scores keep the given order. room
 * and needed count documents. */
int32_t mlxr_rerank(mlxr_ranker ranker, const mlxr_text *query, const mlxr_text *documents, int64_t count,
                    const mlxr_call *call, mlxr_ranked *ranked, int64_t room, int64_t *needed, mlxr_figures *figures);

/* Writes a JSON object about the ranker: model, device, number format, versions,
 * paths, start-up times. room and needed count bytes, with the NUL at the end. */
int32_t mlxr_info(mlxr_ranker ranker, char *json, int64_t room, int64_t *needed);

/* Writes the figures since mlxr_open as a JSON object: calls, pairs, tokens,
 * percentiles of the stages in ms, MLX's memory in bytes. room and needed count bytes,
 * with the NUL at the end. */
int32_t mlxr_stats(mlxr_ranker ranker, char *json, int64_t room, int64_t *needed);

/* Returns unused memory to the system: call it on a memory warning. The next calls
 * may be a little slower. */
int32_t mlxr_trim(mlxr_ranker ranker);

/* Refuses new calls, waits for running ones, and frees the model. The library calls
 * no callback afterwards. Cancel running calls first if it must not wait for them. */
int32_t mlxr_close(mlxr_ranker ranker);

/* Writes the message of the last failed call on the ranker: this thread's if its last
 * failure was on this ranker, else any thread's. Pass ranker 0 for mlxr_open and for
 * cancellations. The message is empty if no call failed. room and needed count bytes,
 * with the NUL at the end. */
int32_t mlxr_last_error(mlxr_ranker ranker, char *text, int64_t room, int64_t *needed);

/* Makes a cancellation, which can end any number of calls, including later ones. */
int32_t mlxr_cancellation_new(mlxr_cancellation *cancellation);

/* Ends the calls with this cancellation, on any thread: they return MLXR_CANCELLED at
 * once. Work that the device has started still runs to its end. */
int32_t mlxr_cancel(mlxr_cancellation cancellation);

/* Frees a cancellation. Running calls with it can then no longer be cancelled. */
int32_t mlxr_cancellation_free(mlxr_cancellation cancellation);

/* Returns the text of a NUL-terminated string. */
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
