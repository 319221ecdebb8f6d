import CMLXR
import Foundation
import MLXRank
import Testing

/// The model under test: the builtin one, or the directory or model that MLXRANK_TEST_MODEL names.
private let model = ProcessInfo.processInfo.environment["MLXRANK_TEST_MODEL"] ?? "builtin"

private let query = "monitor changes to configuration files"
private let documents = [
    "full-screen, scrolling, scalable console font viewer",
    "watches configuration files and reports every change that is made to them",
    "a dictionary of medical terms",
    "",
    "caf\u{e9} \u{1F363} NUL:\u{0} and [SEP]",
]

/// So much work that there is something to cancel. Equal documents would be scored but once.
private let long = (0..<2000).map { String(repeating: "monitor configuration changes ", count: 40) + "\($0)" }

/// Raw values in Swift are literals, so the enumerations repeat the numbers of the header.
@Test func numbersAreTheHeaders() {
    #expect(
        RankerError.Code.allCases.map { Int($0.rawValue) } == [
            MLXR_INVALID, MLXR_CLOSED, MLXR_ROOM, MLXR_NOT_UTF8, MLXR_MODEL, MLXR_LIBRARY, MLXR_DEVICE, MLXR_OVERLOADED,
            MLXR_TOO_LARGE, MLXR_CANCELLED, MLXR_FAILED,
        ])
    #expect(Ranker.Device.allCases.map { Int($0.rawValue) } == [MLXR_DEVICE_AUTO, MLXR_DEVICE_GPU, MLXR_DEVICE_CPU])
    #expect(
        Ranker.DType.allCases.map { Int($0.rawValue) } == [
            MLXR_DTYPE_AUTO, MLXR_DTYPE_FLOAT32, MLXR_DTYPE_FLOAT16, MLXR_DTYPE_BFLOAT16, MLXR_DTYPE_INT8,
            MLXR_DTYPE_INT8W, MLXR_DTYPE_INT4W,
        ])
    #expect(
        Ranker.Activation.allCases.map { Int($0.rawValue) } == [
            MLXR_SCORES_AUTO, MLXR_SCORES_RAW, MLXR_SCORES_SIGMOID, MLXR_SCORES_SOFTMAX,
        ])
    #expect(Ranker.LongDocuments.allCases.map { Int($0.rawValue) } == [MLXR_LONG_TRUNCATE, MLXR_LONG_PASSAGES])
    #expect(
        Ranker.LogLevel.allCases.map { Int($0.rawValue) } == [
            MLXR_LOG_OFF, MLXR_LOG_ERROR, MLXR_LOG_WARN, MLXR_LOG_INFO, MLXR_LOG_DEBUG, MLXR_LOG_TRACE,
        ])
}

@Test func ranksTheBestDocumentFirst() async throws {
    let ranker = try await Ranker(model: model)
    let ranking = try await ranker.rerank(query: query, documents: documents)
    #expect(ranking.documents.first?.index == 1)
    #expect(Set(ranking.documents.map(\.index)) == Set(documents.indices))
    #expect(ranking.documents.map(\.score) == ranking.documents.map(\.score).sorted(by: >))

    let scored = try await ranker.score(pairs: documents.map { Pair(query: query, document: $0) })
    for document in ranking.documents {
        #expect(abs(document.score - scored.scores[document.index]) < 1e-3)
    }
    let top = try await ranker.rerank(query: query, documents: documents, topN: 2)
    #expect(top.documents.map(\.index) == ranking.documents.prefix(2).map(\.index))
    try await ranker.close()
}

@Test func figuresAddUp() async throws {
    let ranker = try await Ranker(model: model)
    let figures = try await ranker.rerank(query: query, documents: documents).figures
    let stages = figures.inferenceMs + figures.tokenizationMs + figures.queueWaitMs + figures.otherMs
    #expect(abs(stages - figures.latencyMs) < 0.01)
    #expect(figures.inferenceMs > 0)
    #expect(figures.pairs == documents.count)
    #expect(figures.tokens > documents.count * 3)
    #expect(figures.truncated == 0)
    try await ranker.close()
}

@Test func statsAndInfoAreRead() async throws {
    let ranker = try await Ranker(model: model)
    _ = try await ranker.rerank(query: query, documents: documents)
    let stats = try await ranker.stats()
    #expect(stats.requests == 1)
    #expect(stats.pairs == documents.count)
    #expect(stats.latencyMs.count == 1)
    #expect(stats.latencyMs.p99 >= stats.latencyMs.p50)
    #expect(stats.loaded)
    #expect(stats.memory.active > 0)
    let info = try await ranker.info()
    #expect(info.model == model)
    #expect(["gpu", "cpu"].contains(info.device))
    #expect(info.maxLength >= 3)
    try await ranker.trim()
    _ = try await ranker.rerank(query: query, documents: documents)
    try await ranker.close()
}

@Test func optionsReachTheLibrary() async throws {
    var options = Ranker.Options(model: model)
    options.device = .cpu
    options.dtype = .float32
    options.activation = .raw
    options.maxLength = 64
    options.idleUnload = .milliseconds(300)
    let ranker = try await Ranker(options)
    let info = try await ranker.info()
    #expect([info.device, info.dtype, info.activation] == ["cpu", "float32", "raw"])
    #expect(info.maxLength == 64)
    let ranked = try await ranker.rerank(query: query, documents: documents).documents
    #expect(ranked.allSatisfy { $0.score == $0.logit })
    for _ in 0..<500 where try await ranker.stats().loaded { try await Task.sleep(for: .milliseconds(20)) }
    #expect(try await !ranker.stats().loaded)
    #expect(try await ranker.rerank(query: query, documents: documents).documents.first?.index == 1)
    try await ranker.close()

    options.maxLength = 2
    #expect(await failure { try await Ranker(options) }?.code == .invalid)
}

@Test func longDocumentsAreCutOffOrTakenInParts() async throws {
    let ranker = try await Ranker(model: model)
    let document =
        String(repeating: "medical terms and their history. ", count: 400)
        + String(repeating: documents[1] + ". ", count: 20)
    let cut = try await ranker.rerank(query: query, documents: [document])
    let parts = try await ranker.rerank(query: query, documents: [document], longDocuments: .passages)
    #expect(cut.figures.truncated == 1)
    #expect(parts.figures.pairs > 1)
    #expect(parts.documents[0].logit > cut.documents[0].logit)
    try await ranker.close()
}

@Test func noDocumentsAreNoError() async throws {
    let ranker = try await Ranker(model: model)
    #expect(try await ranker.rerank(query: query, documents: []).documents.isEmpty)
    #expect(try await ranker.score(pairs: []).scores.isEmpty)
    try await ranker.close()
}

@Test func errorsSayWhatFailed() async throws {
    let missing = "/nowhere/such-model"
    let notThere = await failure { try await Ranker(model: missing) }
    #expect(notThere?.code == .model)
    #expect(notThere?.localizedDescription.contains(missing) == true)
    let ranker = try await Ranker(model: model)
    let negative = await failure { try await ranker.rerank(query: query, documents: documents, topN: -1) }
    #expect(negative?.code == .invalid)
    #expect(negative?.message.contains("-1") == true)
    try await ranker.close()
    try await ranker.close()
    let closed = await failure { try await ranker.rerank(query: query, documents: documents) }
    #expect(closed?.code == .closed)
    #expect(closed?.message.isEmpty == false)
    #expect(await failure { try await ranker.stats() }?.code == .closed)
}

@Test func aCancelledTaskEndsItsCall() async throws {
    let ranker = try await Ranker(model: model)
    let (started, start) = AsyncStream.makeStream(of: Void.self)
    let task = Task {
        defer { start.finish() }
        return try await ranker.rerank(query: query, documents: long) { _, _ in start.yield() }
    }
    for await _ in started { break }
    let clock = ContinuousClock.now
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(ContinuousClock.now - clock < .seconds(1))
    // The ranker goes on.
    #expect(try await ranker.rerank(query: query, documents: documents).documents.count == documents.count)
    try await ranker.close()
}

@Test func aTaskCancelledBeforeItsCallMakesNone() async throws {
    let ranker = try await Ranker(model: model)
    let task = Task {
        // Returns as soon as the task is cancelled.
        try? await Task.sleep(for: .seconds(60))
        return try await ranker.rerank(query: query, documents: long)
    }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(try await ranker.stats().pairs == 0)
    try await ranker.close()
}

@Test func manyTasksShareARanker() async throws {
    let ranker = try await Ranker(model: model)
    let alone = try await ranker.rerank(query: query, documents: documents)
    try await withThrowingTaskGroup(of: Ranking.self) { group in
        for _ in 0..<100 {
            group.addTask { try await ranker.rerank(query: query, documents: documents) }
        }
        for try await ranking in group {
            #expect(ranking.documents.first?.index == alone.documents.first?.index)
        }
    }
    #expect(try await ranker.stats().requests == 101)
    try await ranker.close()
}

@Test func progressIsTold() async throws {
    let ranker = try await Ranker(model: model)
    let steps = Recorder<[Int]>()
    _ = try await ranker.rerank(query: query, documents: Array(long.prefix(200))) { steps.add([$0, $1]) }
    #expect(!steps.all.isEmpty)
    #expect(steps.all.allSatisfy { $0[0] < 200 && $0[1] == 200 })
    #expect(zip(steps.all, steps.all.dropFirst()).allSatisfy { $0[0] < $1[0] })
    try await ranker.close()
}

@Test func theLogIsTakenAndLetGoOf() async throws {
    weak var released: Recorder<String>?
    do {
        let events = Recorder<String>()
        released = events
        var options = Ranker.Options(model: model)
        options.logLevel = .debug
        options.log = { level, json in if level != .off { events.add(json) } }
        let ranker = try await Ranker(options)
        _ = try await ranker.rerank(query: query, documents: documents)
        try await ranker.close()
        #expect(!events.all.isEmpty)
        for event in events.all {
            #expect(try JSONSerialization.jsonObject(with: Data(event.utf8)) is [String: Any])
            #expect(!event.contains("console font"))
        }
    }
    // The last ranker's deinit closes on a thread of its own.
    for _ in 0..<100 where released != nil { try await Task.sleep(for: .milliseconds(20)) }
    #expect(released == nil)
}

/// The error of a call, `nil` if there was none.
private func failure<Result>(of call: () async throws -> Result) async -> RankerError? {
    do {
        _ = try await call()
        return nil
    } catch {
        return error as? RankerError
    }
}

/// Keeps what callbacks on other threads were told.
private final class Recorder<Value: Sendable>: @unchecked Sendable {
    private let lock = NSLock()
    private var values: [Value] = []

    func add(_ value: Value) { lock.withLock { values.append(value) } }
    var all: [Value] { lock.withLock { values } }
}
