// Threads that help with one kernel when there are fewer shards than cores.
#pragma once

#include <functional>

namespace mlxrank::cpu {

// Makes the team large enough for threads to share a kernel, the caller's
// thread among them. It never shrinks.
void start_team(int threads);

// Calls job(0) to job(parts - 1), each once, on the calling thread and the
// team's, and returns when all have. While the team is at work for another
// caller, the calling thread does everything.
void run_in_parts(int parts, const std::function<void(int)> &job);

} // namespace mlxrank::cpu
