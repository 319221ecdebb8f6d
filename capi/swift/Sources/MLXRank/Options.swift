import CMLXR

extension Ranker {
    /// The device that a model runs on.
    public enum Device: Int32, Sendable, CaseIterable {
        /// The GPU if MLX can use one, else the CPU.
        case auto = 0
        case gpu = 1
        case cpu = 2
    }

    /// The number format that a model computes in.
    public enum DType: Int32, Sendable, CaseIterable {
        /// float16 on a GPU, float32 on the CPU.
        case auto = 0
        case float32 = 1
        case float16 = 2
        /// Slow on M1 and M2, which emulate it.
        case bfloat16 = 3
        /// For the CPU only.
        case int8 = 4
        /// Weights of 8 bits: less memory. The rest is float16 on a GPU, float32 on the CPU.
        case int8w = 5
        /// Weights of 4 bits.
        case int4w = 6
    }

    /// The function that turns logits into scores.
    public enum Activation: Int32, Sendable, CaseIterable {
        /// The function that the model's configuration names, as in sentence-transformers. Without
        /// one, `sigmoid` for one label and `raw` for several.
        case auto = 0
        /// The logit of the classifier.
        case raw = 1
        /// A number from 0 to 1.
        case sigmoid = 2
        /// The probability of the label. Only for a model with several labels.
        case softmax = 3
    }

    /// What to do with a document that is too long for the model.
    public enum LongDocuments: Int32, Sendable, CaseIterable {
        /// Cut off its end.
        case truncate = 0
        /// Score overlapping passages and take the best score.
        case passages = 1

        /// The older name of ``passages``.
        @available(*, deprecated, renamed: "passages")
        public static var window: LongDocuments { .passages }
    }

    /// The level of the log. Each level includes the levels before it.
    public enum LogLevel: Int32, Sendable, CaseIterable {
        case off = 0
        case error = 1
        case warn = 2
        /// Also one event per second of activity.
        case info = 3
        /// Also one event per call.
        case debug = 4
        /// Also one event per batch.
        case trace = 5
    }

    /// Receives a log event, a JSON object. Several threads of the library may call it at the same
    /// time. The library never logs the texts that are ranked.
    public typealias LogHandler = @Sendable (_ level: LogLevel, _ json: String) -> Void

    /// Receives the progress of a call between batches: how many distinct pairs are scored, or, while
    /// a ``Ranker`` opens, how many bytes of a file are downloaded. Only the result means that
    /// everything is done. The call waits for it, on a thread of the package.
    public typealias ProgressHandler = @Sendable (_ done: Int, _ total: Int) -> Void

    /// The model to open and its settings.
    public struct Options: Sendable {
        /// `builtin`, a directory, or a model of the Hugging Face hub, `org/name[@revision]`, which
        /// is downloaded if it is not in the cache. Empty: `cross-encoder/ms-marco-MiniLM-L6-v2`.
        public var model: String
        /// The directory of a PEFT LoRA adapter to merge. Empty: none.
        public var adapter = ""
        /// The label to score, by name or zero-based index, of a model with several labels.
        public var label = ""
        /// The file of libmlxrank. Empty: searched beside libmlxr, then where mlxrank searches.
        public var library = ""
        public var device = Device.auto
        public var dtype = DType.auto
        public var activation = Activation.auto
        /// The maximum tokens of a query and a document together, at least 3. 0: the model's own.
        public var maxLength = 0
        /// CPU threads. 0: one per processor.
        public var threads = 0
        /// Bytes of freed buffers that MLX keeps for reuse. 0: 512 MiB on a GPU; negative: MLX's own
        /// limit.
        public var cacheLimit = 0
        /// Bytes above which new work waits for running work. 0: MLX's own limit.
        public var memoryLimit = 0
        /// The time without a call after which the model is unloaded. The next call loads it again.
        /// Zero: never.
        public var idleUnload = Duration.zero
        /// The level of the events that `log` receives.
        public var logLevel = LogLevel.info
        /// Receives the log. `nil`: no log.
        public var log: LogHandler?

        public init(model: String = "") {
            self.model = model
        }
    }
}

extension Ranker.Options {
    /// Calls body with the options of the C API, which are valid until it returns.
    func withC(log box: Box<Ranker.LogHandler>?, _ body: (inout mlxr_options) -> Int32) -> Int32 {
        Texts([model, adapter, label, library]).withPointers { texts in
            var c = mlxr_options()
            c.size = Int64(MemoryLayout<mlxr_options>.size)
            (c.model, c.adapter, c.label, c.library) = (texts[0], texts[1], texts[2], texts[3])
            (c.device, c.dtype, c.scores) = (device.rawValue, dtype.rawValue, activation.rawValue)
            c.max_length = Int32(clamping: maxLength)
            c.threads = Int32(clamping: threads)
            c.cache_limit = Int64(cacheLimit)
            c.memory_limit = Int64(memoryLimit)
            // Rounded up, because 0 means never.
            let ms = (idleUnload / .milliseconds(1)).rounded(.up)
            c.idle_unload_ms = Int64(max(-1, min(ms, 1e15)))
            if let box {
                c.log_level = logLevel.rawValue
                c.log_context = box.pointer
                c.log = { context, level, json, bytes in
                    let text = UnsafeRawBufferPointer(start: json, count: Int(bytes))
                    let handler = Box<Ranker.LogHandler>.at(context)
                    handler(Ranker.LogLevel(rawValue: level) ?? .trace, String(decoding: text, as: UTF8.self))
                }
            }
            return body(&c)
        }
    }
}

/// Gives a closure an address that C can pass back. The caller keeps the box alive while C has it.
final class Box<Value: Sendable>: Sendable {
    private let value: Value

    init(_ value: Value) {
        self.value = value
    }

    var pointer: UnsafeMutableRawPointer { Unmanaged.passUnretained(self).toOpaque() }

    static func at(_ pointer: UnsafeMutableRawPointer?) -> Value {
        Unmanaged<Box<Value>>.fromOpaque(pointer!).takeUnretainedValue().value
    }
}
