// The functions of mlxr.h, which Go implements. Each thread keeps the message of its
// last failure here.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "_cgo_export.h"

#define API __attribute__((visibility("default")))

static _Thread_local struct {
  int64_t handle;
  int32_t failed;
  char text[MLXR_MESSAGE];
} last;

// The number of callbacks, and of log callbacks, that the thread is in.
static _Thread_local int callbacks, logs;

// Keeps the message that Go wrote to text if the call failed. Go does not write to
// last itself, because a callback of the host may make other calls meanwhile.
static int32_t finish(int64_t handle, int32_t status, const char *text) {
  if (status != MLXR_OK) {
    last.handle = handle;
    last.failed = 1;
    memcpy(last.text, text, sizeof last.text);
  }
  return status;
}

API int32_t mlxr_abi(void) { return MLXR_ABI; }

API const char *mlxr_version(void) { return MLXR_VERSION; }

API int32_t mlxr_open(const mlxr_options *options, const mlxr_call *call, mlxr_ranker *ranker) {
  char text[MLXR_MESSAGE];
  return finish(0, mlxrgo_open((mlxr_options *)options, (mlxr_call *)call, ranker, text), text);
}

API int32_t mlxr_score(mlxr_ranker ranker, const mlxr_text *queries, const mlxr_text *documents, int64_t pairs,
                       const mlxr_call *call, float *scores, int64_t room, int64_t *needed, mlxr_figures *figures) {
  char text[MLXR_MESSAGE];
  return finish(ranker,
                mlxrgo_score(ranker, (mlxr_text *)queries, (mlxr_text *)documents, pairs, (mlxr_call *)call, scores,
                             room, needed, figures, text),
                text);
}

API int32_t mlxr_rerank(mlxr_ranker ranker, const mlxr_text *query, const mlxr_text *documents, int64_t count,
                        const mlxr_call *call, mlxr_ranked *ranked, int64_t room, int64_t *needed,
                        mlxr_figures *figures) {
  char text[MLXR_MESSAGE];
  return finish(ranker,
                mlxrgo_rerank(ranker, (mlxr_text *)query, (mlxr_text *)documents, count, (mlxr_call *)call, ranked,
                              room, needed, figures, text),
                text);
}

API int32_t mlxr_info(mlxr_ranker ranker, char *json, int64_t room, int64_t *needed) {
  char text[MLXR_MESSAGE];
  return finish(ranker, mlxrgo_info(ranker, json, room, needed, text), text);
}

API int32_t mlxr_stats(mlxr_ranker ranker, char *json, int64_t room, int64_t *needed) {
  char text[MLXR_MESSAGE];
  return finish(ranker, mlxrgo_stats(ranker, json, room, needed, text), text);
}

API int32_t mlxr_trim(mlxr_ranker ranker) {
  char text[MLXR_MESSAGE];
  return finish(ranker, mlxrgo_trim(ranker, text), text);
}

API int32_t mlxr_close(mlxr_ranker ranker) {
  char text[MLXR_MESSAGE];
  return finish(ranker, mlxrgo_close(ranker, text), text);
}

API int32_t mlxr_last_error(mlxr_ranker ranker, char *text, int64_t room, int64_t *needed) {
  if (last.failed && last.handle == ranker) {
    return mlxrgo_copy(last.text, text, room, needed);
  }
  return mlxrgo_last_error(ranker, text, room, needed);
}

API int32_t mlxr_cancellation_new(mlxr_cancellation *cancellation) {
  char text[MLXR_MESSAGE];
  return finish(0, mlxrgo_cancellation_new(cancellation, text), text);
}

API int32_t mlxr_cancel(mlxr_cancellation cancellation) {
  char text[MLXR_MESSAGE];
  return finish(0, mlxrgo_cancel(cancellation, text), text);
}

API int32_t mlxr_cancellation_free(mlxr_cancellation cancellation) {
  char text[MLXR_MESSAGE];
  return finish(0, mlxrgo_cancellation_free(cancellation, text), text);
}

void mlxrgo_call_log(mlxr_log log, void *context, int32_t level, const char *json, int64_t bytes) {
  callbacks++, logs++;
  log(context, level, json, bytes);
  callbacks--, logs--;
}

void mlxrgo_call_progress(mlxr_progress progress, void *context, int64_t done, int64_t total) {
  callbacks++;
  progress(context, done, total);
  callbacks--;
}

int mlxrgo_in_callback(void) { return callbacks > 0; }

int mlxrgo_in_log(void) { return logs > 0; }

void mlxrgo_own_file(char *path, int64_t room) {
  Dl_info found;
  const char *file = dladdr((const void *)mlxr_abi, &found) != 0 && found.dli_fname != NULL ? found.dli_fname : "";
  snprintf(path, (size_t)room, "%s", file);
}

void mlxrgo_trim_malloc(void) {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}
