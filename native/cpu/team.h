// Threads that help with one kernel if there are fewer microbatches than cores.
#pragma once

#include <functional>

namespace mlxrank::cpu {

// Grows the team so that threads, the calling one included, can share a kernel.
// The team never shrinks.
void start_team(int threads);

// Calls job(0) to job(parts - 1), each once, on the calling thread and the team's
// threads, and returns when all have returned. While the team works for another
// caller, the calling thread runs every job.
void run_in_parts(int parts, const std::function<void(int)> &job);

} // namespace mlxrank::cpu
