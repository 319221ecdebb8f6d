// Counts the matmuls of a graph by the types of their operands, as they are when the graph
// is built or a kernel runs. What a session reports as its dtype is read from these counts.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <mutex>

#include "../mlxrank.h"

namespace mlxrank::cpu {

// Matmuls that are alike; see mlxrank_matmul.
struct Operands {
  int32_t part, left, right, computed, bits;

  auto operator<=>(const Operands &) const = default;
};

class Matmuls {
 public:
  // Adds a matmul. After begin_head all are the head's.
  void add(Operands o) {
    std::lock_guard<std::mutex> lock(mutex_);
    o.part = head_ ? MLXRANK_IN_HEAD : o.part;
    counts_[o]++;
  }

  void begin_head() {
    std::lock_guard<std::mutex> lock(mutex_);
    head_ = true;
  }

  std::map<Operands, int64_t> counts() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return counts_;
  }

 private:
  mutable std::mutex mutex_; // threads that share a kernel count too
  std::map<Operands, int64_t> counts_;
  bool head_ = false;
};

} // namespace mlxrank::cpu
