import CMLXR
import Foundation

/// A model that ranks documents by how well they answer a query.
///
/// One ranker serves a whole app, from any task: concurrent calls share batches. Calls never block
/// the threads of Swift's tasks. A call throws `CancellationError` as soon as its task is cancelled.
///
/// ```swift
/// let ranker = try await Ranker(model: "builtin")
/// let ranking = try await ranker.rerank(query: "how to boil an egg", documents: recipes)
/// print(recipes[ranking.documents[0].index], ranking.figures.latencyMs)
/// ```
public final class Ranker: Sendable {
    private let handle: mlxr_ranker
    private let log: Box<LogHandler>?
    private let calls = Threads()

    /// Loads a model and makes it ready to score.
    ///
    /// - Throws: ``RankerError``, or `CancellationError` if the task is cancelled.
    public convenience init(model: String) async throws {
        try await self.init(Options(model: model))
    }

    /// Loads a model and makes it ready to score.
    ///
    /// - Parameters:
    ///   - options: the model and its settings.
    ///   - progress: receives the progress of each file that is downloaded.
    /// - Throws: ``RankerError``, or `CancellationError` if the task is cancelled.
    public init(_ options: Options, progress: ProgressHandler? = nil) async throws {
        guard mlxr_abi() == MLXR_ABI else {
            let found = "libmlxr \(String(cString: mlxr_version())) has the API \(mlxr_abi())"
            let message = "\(found), expected \(MLXR_ABI): use the library and the Swift package of the same version"
            throw RankerError(code: .library, message: message)
        }
        let log = options.log.map(Box.init)
        self.log = log
        handle = try await cancellable(on: calls, progress) { call in
            var handle: mlxr_ranker = 0
            let status = options.withC(log: log) { mlxr_open(&$0, &call, &handle) }
            try check(status, of: 0)
            return handle
        }
    }

    deinit {
        // No call runs, because each call keeps its ranker. Closing may still wait for the device, and
        // the thread that releases the ranker must not wait.
        DispatchQueue.global(qos: .utility).async { [handle, log] in
            withExtendedLifetime(log) { _ = mlxr_close(handle) }
        }
    }

    /// Ranks documents for a query, best first.
    ///
    /// - Parameters:
    ///   - query: the text that the documents should answer.
    ///   - documents: the texts to rank.
    ///   - topN: the maximum number of documents to return; `nil` and 0 return all.
    ///   - longDocuments: what to do with documents that are too long for the model.
    ///   - progress: receives the progress between batches.
    /// - Throws: ``RankerError``, or `CancellationError` if the task is cancelled.
    public func rerank(
        query: String, documents: [String], topN: Int? = nil, longDocuments: LongDocuments = .truncate,
        progress: ProgressHandler? = nil
    ) async throws -> Ranking {
        try await cancellable(on: calls, progress) { [handle] call in
            call.top_n = Int64(topN ?? documents.count)
            call.long_documents = longDocuments.rawValue
            var figures = mlxr_figures()
            figures.size = Int64(MemoryLayout<mlxr_figures>.size)
            var needed: Int64 = 0
            var ranked = [mlxr_ranked](repeating: mlxr_ranked(), count: documents.count)
            let count = Int64(documents.count)
            let status = Texts([query] + documents).withPointers { texts in
                let query = texts.baseAddress!
                return mlxr_rerank(handle, query, query + 1, count, &call, &ranked, count, &needed, &figures)
            }
            try check(status, of: handle)
            let best = ranked.prefix(Int(needed)).map {
                RankedDocument(index: Int($0.index), score: $0.score, logit: $0.logit)
            }
            return Ranking(documents: best, figures: Figures(figures))
        }
    }

    /// Scores pairs of a query and a document.
    ///
    /// - Parameters:
    ///   - pairs: the pairs to score.
    ///   - progress: receives the progress between batches.
    /// - Throws: ``RankerError``, or `CancellationError` if the task is cancelled.
    public func score(pairs: [Pair], progress: ProgressHandler? = nil) async throws -> Scores {
        try await cancellable(on: calls, progress) { [handle] call in
            var figures = mlxr_figures()
            figures.size = Int64(MemoryLayout<mlxr_figures>.size)
            var scores = [Float](repeating: 0, count: pairs.count)
            let count = Int64(pairs.count)
            let status = Texts(pairs.map(\.query) + pairs.map(\.document)).withPointers { texts in
                let queries = texts.baseAddress
                let documents = queries.map { $0 + pairs.count }
                return mlxr_score(handle, queries, documents, count, &call, &scores, count, nil, &figures)
            }
            try check(status, of: handle)
            return Scores(scores: scores, figures: Figures(figures))
        }
    }

    /// Returns facts about the ranker: model, device, versions, files.
    public func info() async throws -> Info {
        try await decode { mlxr_info($0, $1, $2, $3) }
    }

    /// Returns the figures of all calls since the ranker was opened.
    public func stats() async throws -> Stats {
        try await decode { mlxr_stats($0, $1, $2, $3) }
    }

    /// Returns unused memory to the system. Call it on a memory warning.
    ///
    /// The next calls may be a little slower.
    public func trim() async throws {
        try await offPool { [handle] in try check(mlxr_trim(handle), of: handle) }
    }

    /// Refuses new calls, waits for running ones, and frees the model.
    ///
    /// Cancel the tasks whose calls it should not wait for. The library calls no handler afterwards.
    /// Closing again does nothing. A ranker without references closes itself.
    public func close() async throws {
        try await offPool { [handle, log] in
            try withExtendedLifetime(log) { try check(mlxr_close(handle), of: handle) }
        }
    }

    private func decode<Value: Decodable & Sendable>(
        _ read: @escaping @Sendable (
            mlxr_ranker, UnsafeMutablePointer<CChar>?, Int64, UnsafeMutablePointer<Int64>?
        ) -> Int32
    ) async throws -> Value {
        try await offPool { [handle] in
            let (status, json) = copyText { read(handle, $0, $1, $2) }
            try check(status, of: handle)
            return try JSONDecoder().decode(Value.self, from: Data(json.utf8))
        }
    }
}

/// Makes a call of the library that ends when the task is cancelled, even before the call starts.
private func cancellable<Result: Sendable>(
    on threads: Threads, _ progress: Ranker.ProgressHandler?,
    _ body: @escaping @Sendable (inout mlxr_call) throws -> Result
) async throws -> Result {
    let cancellation = try Cancellation()
    return try await withTaskCancellationHandler {
        try await withCheckedThrowingContinuation { continuation in
            threads.run {
                let box = progress.map(Box.init)
                var call = mlxr_call()
                call.size = Int64(MemoryLayout<mlxr_call>.size)
                call.cancellation = cancellation.handle
                if let box {
                    call.progress_context = box.pointer
                    call.progress = { Box<Ranker.ProgressHandler>.at($0)(Int($1), Int($2)) }
                }
                continuation.resume(with: Swift.Result { try withExtendedLifetime(box) { try body(&call) } })
            }
        }
    } onCancel: {
        cancellation.cancel()
    }
}

/// The threads that calls wait on, a limited number.
///
/// Any thread may use an operation queue, though not every SDK declares it `Sendable`.
private final class Threads: @unchecked Sendable {
    private let queue = OperationQueue()

    init() {
        queue.maxConcurrentOperationCount = 32
        queue.qualityOfService = .userInitiated
    }

    func run(_ work: @escaping @Sendable () -> Void) {
        queue.addOperation(work)
    }
}

/// Makes a short call of the library on a thread that may block.
private func offPool<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
        DispatchQueue.global(qos: .userInitiated).async {
            continuation.resume(with: Swift.Result(catching: body))
        }
    }
}

/// A cancellation of the library, freed with its last reference.
private final class Cancellation: Sendable {
    let handle: mlxr_cancellation

    init() throws {
        var handle: mlxr_cancellation = 0
        try check(mlxr_cancellation_new(&handle), of: 0)
        self.handle = handle
    }

    func cancel() {
        mlxr_cancel(handle)
    }

    deinit {
        mlxr_cancellation_free(handle)
    }
}
