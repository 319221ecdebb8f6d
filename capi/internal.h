// Functions between api.c, which is the C API, and its implementation in Go. They do
// not have the API's prefix, so the library does not export them.
#ifndef MLXR_INTERNAL_H
#define MLXR_INTERNAL_H

#include "mlxr.h"

// Room for a message with its NUL.
enum { MLXR_MESSAGE = 1024 };

// Both call the host's callback. The thread counts the callbacks that it is in.
void mlxrgo_call_log(mlxr_log log, void *context, int32_t level, const char *json, int64_t bytes);
void mlxrgo_call_progress(mlxr_progress progress, void *context, int64_t done, int64_t total);

// Reports whether the thread is in a callback.
int mlxrgo_in_callback(void);

// Reports whether the thread is in a log callback.
int mlxrgo_in_log(void);

// Writes the file that this code was loaded from, "" if unknown, to room bytes.
void mlxrgo_own_file(char *path, int64_t room);

// Returns the C library's free memory to the system.
void mlxrgo_trim_malloc(void);

#endif
