// Workers: the threads that compute fused graphs, each with an MLX stream. MLX binds a stream, and
// every array not yet evaluated on it, to the thread that made it, and never frees a stream's
// thread. Workers are therefore pooled and live as long as the process.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "mlx/c/mlx.h"

namespace mlxrank {

class Worker;
using Job = std::function<void(mlx_stream)>;

// Takes count idle workers from the pool and starts those missing.
std::vector<Worker *> acquire_workers(int count);
void release_workers(const std::vector<Worker *> &workers);

// Starts a job on the worker, one at a time. The job must not throw.
void start_on(Worker *worker, Job job);
// Waits until the worker's job has returned.
void wait_for(Worker *worker);

// Runs the job on a pooled worker, waits, and rethrows what it threw.
void run_on_worker(const Job &job);

int workers_started();

} // namespace mlxrank
