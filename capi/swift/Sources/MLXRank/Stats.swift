extension Ranker {
    /// The figures of a ``Ranker`` since it was opened.
    public struct Stats: Sendable, Hashable, Codable {
        /// Calls that succeeded, and calls that did not, by reason.
        public let requests, failed, cancelled, overloaded, tooLarge: Int
        /// Pairs scored, how many of them were longer than the maximum, and their batches.
        public let pairs, truncated, batches: Int
        /// Tokens of the pairs, without and with padding.
        public let tokens, computedTokens: Int
        /// The time from a call's acceptance until its scores were ready.
        public let latencyMs: Distribution
        /// The four stages of the latency, as in ``Figures``.
        public let inferenceMs, tokenizationMs, queueWaitMs, otherMs: Distribution
        public let memory: Memory
        /// Whether the model is in memory. ``Ranker/Options/idleUnload`` unloads it.
        public let loaded: Bool
        /// How often the model was unloaded because no call came.
        public let unloads: Int
        /// Seconds since the ranker was opened.
        public let elapsedS: Double

        /// The distribution of a stage's times over calls, in milliseconds.
        public struct Distribution: Sendable, Hashable, Codable {
            /// The number of calls. If it is 0, so are the other figures.
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

    /// Facts about a ``Ranker``.
    public struct Info: Sendable, Hashable, Codable {
        /// Version of libmlxr.
        public let version: String
        /// The model's name as given, and the directory of its files.
        public let model, dir: String
        /// `gpu` or `cpu`, and the device's own name.
        public let device, deviceName: String
        /// The number format, and the kernels: `MLX`, or the instruction set of our own kernels.
        public let dtype, kernels: String
        /// The maximum tokens of a query and a document together.
        public let maxLength: Int
        /// `raw`, `sigmoid`, `softmax`, or another function that the model's files name.
        public let activation: String
        /// The label to score, empty if the model has only one.
        public let label: String
        /// The file of libmlxrank.
        public let library: String
        /// Version and file of MLX.
        public let mlx, mlxPath: String
        /// The time that opening the ranker took.
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
