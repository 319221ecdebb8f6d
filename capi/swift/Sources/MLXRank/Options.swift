import CMLXR

extension Ranker {
    /// Where a model runs.
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
    }

    /// What a score is.
    public enum Activation: Int32, Sendable, CaseIterable {
        /// What the model's configuration names, as sentence-transformers does, else `sigmoid` for
        /// one label and `raw` for several.
        case auto = 0
        /// The logit of the classifier.
        case raw = 1
        /// A number from 0 to 1.
        case sigmoid = 2
        /// The probability of the label, of a model with several.
        case softmax = 3
    }

    /// What becomes of a document too long for the model.
    public enum LongDocuments: Int32, Sendable, CaseIterable {
        /// Its end is cut off.
        case truncate = 0
        /// Overlapping parts of it are scored, and the best one counts.
        case window = 1
    }

    /// How much the log tells. Each level includes those before it.
    public enum LogLevel: Int32, Sendable, CaseIterable {
        case off = 0
        case error = 1
        case warn = 2
        /// Also one event for each second of activity.
        case info = 3
        /// Also one event for each call.
        case debug = 4
        /// Also one event for each batch.
        case trace = 5
    }

    /// Takes an event of the log, a JSON object. It is called from threads of the library, by
    /// several at once. Texts that are ranked are never logged.
    public typealias LogHandler = @Sendable (_ level: LogLevel, _ json: String) -> Void

    /// Told between batches how many of a call's distinct pairs are scored, or, while a ``Ranker``
    /// is made, how many bytes of a file are downloaded. That all are is told by the result. The
    /// call waits for it, on a thread of its own.
    public typealias ProgressHandler = @Sendable (_ done: Int, _ total: Int) -> Void

    /// What to open, and how.
    public struct Options: Sendable {
        /// `builtin`, a directory, or a model of the Hugging Face hub, `org/name[@revision]`, which
        /// is downloaded first if need be. Empty: `cross-encoder/ms-marco-MiniLM-L-6-v2`.
        public var model: String
        /// The directory of a PEFT LoRA adapter to merge. Empty: none.
        public var adapter = ""
        /// Of a model with several labels, the one to score by, by name or number.
        public var label = ""
        /// The file of libmlxrank. Empty: beside libmlxr, then where mlxrank looks.
        public var library = ""
        public var device = Device.auto
        public var dtype = DType.auto
        public var activation = Activation.auto
        /// Tokens of a query and a document together, at least 3. 0: the model's own maximum.
        public var maxLength = 0
        /// CPU threads. 0: one for each processor.
        public var threads = 0
        /// Bytes of freed buffers that MLX keeps for reuse. 0: 512 MiB on a GPU; negative: MLX's own
        /// limit.
        public var cacheLimit = 0
        /// Bytes over which work waits for running work. 0: MLX's own limit.
        public var memoryLimit = 0
        /// After so long without a call the model's memory is given back; the next call loads the
        /// model again. Zero: never.
        public var idleUnload = Duration.zero
        /// How much `log` is told.
        public var logLevel = LogLevel.info
        /// Takes the log. `nil`: there is none.
        public var log: LogHandler?

        public init(model: String = "") {
            self.model = model
        }
    }
}

extension Ranker.Options {
    /// Calls body with the options as the C API takes them, valid until it returns.
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
            // Rounded up, since 0 would be never.
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

/// Gives a closure an address, for C to hand back. Whoever hands it to C keeps the box alive.
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
