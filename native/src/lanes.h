// Lanes: the threads that own MLX streams. MLX binds a stream, and every array
// not yet evaluated on it, to the thread that made it, and never gives a
// stream's thread back; so lanes are pooled for the life of the process.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "mlx/c/mlx.h"

namespace mlxrank {

class Lane;
using LaneJob = std::function<void(mlx_stream)>;

// Takes count idle lanes of the device out of the pool, making what is missing.
std::vector<Lane *> acquire_lanes(int32_t device, int count);
void release_lanes(const std::vector<Lane *> &lanes);

// Starts job on the lane; job must not throw. One job at a time.
void start_on(Lane *lane, LaneJob job);
// Waits until the lane's job has returned.
void wait_for(Lane *lane);

// Runs job on a pooled lane of the device, waits, and rethrows what it threw.
void run_on_device(int32_t device, const LaneJob &job);

int lanes_made();

} // namespace mlxrank
