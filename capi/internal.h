// Between api.c, which is the C API, and the Go behind it. The prefix is not the
// API's, so that the library does not show these.
#ifndef MLXR_INTERNAL_H
#define MLXR_INTERNAL_H

#include "mlxr.h"

// Room for a message, with its NUL.
enum { MLXR_MESSAGE = 1024 };

// Call the host, which the thread remembers while it is there.
void mlxrgo_call_log(mlxr_log log, void *context, int32_t level, const char *json, int64_t bytes);
void mlxrgo_call_progress(mlxr_progress progress, void *context, int64_t done, int64_t total);

// Whether the thread is in such a call.
int mlxrgo_in_callback(void);

// Whether the thread is in a log callback.
int mlxrgo_in_log(void);

// The file that this code was loaded from, to room bytes; "" if not known.
void mlxrgo_own_file(char *path, int64_t room);

// Gives the C library's free memory back to the system.
void mlxrgo_trim_malloc(void);

#endif
