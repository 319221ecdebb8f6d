extension Ranker {
    /// Figures of a ``Ranker`` since it was made.
    public struct Stats: Sendable, Hashable, Codable {
        /// Calls that were answered, and calls that were not, by reason.
        public let requests, failed, cancelled, overloaded, tooLarge: Int
        /// Pairs scored, how many were longer than the maximum, and the batches they made.
        public let pairs, truncated, batches: Int
        /// Tokens of the pairs, without padding and with it.
        public let tokens, computedTokens: Int
        /// From a call's acceptance until its scores were ready.
        public let latencyMs: Distribution
        /// The four stages of it, as in ``Figures``.
        public let inferenceMs, tokenizationMs, queueWaitMs, otherMs: Distribution
        public let memory: Memory
        /// Whether the model is in memory: it is not after ``Ranker/Options/idleUnload``.
        public let loaded: Bool
        /// How often its memory was given back for want of calls.
        public let unloads: Int
        /// Seconds since the ranker was made.
        public let elapsedS: Double

        /// How a stage's times were distributed over calls, in milliseconds.
        public struct Distribution: Sendable, Hashable, Codable {
            /// Calls counted. Without any, the other figures are 0.
            public let count: Int
            public let mean, p50, p95, p99, max: Double
        }

        /// MLX's memory in bytes, of the whole process.
        public struct Memory: Sendable, Hashable, Codable {
            public let active, cache, peak, limit: Int

            enum CodingKeys: String, CodingKey {
                case active = "active_bytes"
                case cache = "cache_bytes"
                case peak = "peak_bytes"
                case limit = "limit_bytes"
            }
        }

        enum CodingKeys: String, CodingKey {
            case requests, failed, cancelled, overloaded, pairs, truncated, batches, tokens, memory, loaded, unloads
            case tooLarge = "too_large"
            case computedTokens = "computed_tokens"
            case latencyMs = "latency_ms"
            case inferenceMs = "inference_ms"
            case tokenizationMs = "tokenization_ms"
            case queueWaitMs = "queue_wait_ms"
            case otherMs = "other_ms"
            case elapsedS = "elapsed_s"
        }
    }

    /// What a ``Ranker`` runs.
    public struct Info: Sendable, Hashable, Codable {
        /// Version of libmlxr.
        public let version: String
        /// The model as it was named, and the directory of its files.
        public let model, dir: String
        /// `gpu` or `cpu`, and the device's own name.
        public let device, deviceName: String
        /// The number format, and whose kernels compute: MLX's, or ours for an instruction set.
        public let dtype, kernels: String
        /// Tokens of a query and a document together.
        public let maxLength: Int
        /// `raw`, `sigmoid`, `softmax`, or another function that the model's files name.
        public let activation: String
        /// The label scored by, empty where the model has but one.
        public let label: String
        /// The file of libmlxrank.
        public let library: String
        /// Version and file of MLX.
        public let mlx, mlxPath: String
        /// How long it took to make the ranker.
        public let startupMs: Double

        enum CodingKeys: String, CodingKey {
            case version, model, dir, device, dtype, kernels, activation, label, library, mlx
            case deviceName = "device_name"
            case maxLength = "max_length"
            case mlxPath = "mlx_path"
            case startupMs = "startup_ms"
        }
    }
}
