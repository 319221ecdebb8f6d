import CMLXR

/// A query and a document.
public struct Pair: Sendable, Hashable, Codable {
    public var query: String
    public var document: String

    public init(query: String, document: String) {
        self.query = query
        self.document = document
    }
}

/// The result of ``Ranker/score(pairs:progress:)``.
public struct Scores: Sendable, Hashable, Codable {
    /// One score per pair, in the given order.
    public let scores: [Float]
    public let figures: Figures
}

/// The result of ``Ranker/rerank(query:documents:topN:longDocuments:progress:)``.
public struct Ranking: Sendable, Hashable, Codable {
    /// The documents, best first. Equal scores keep the given order.
    public let documents: [RankedDocument]
    public let figures: Figures
}

/// A document of a ``Ranking``.
public struct RankedDocument: Sendable, Hashable, Codable {
    /// The zero-based index into the given documents.
    public let index: Int
    public let score: Float
    /// The output of the classifier, before the ``Ranker/Activation``.
    public let logit: Float
}

/// The time that a call took. The four stages add up to `latencyMs`.
public struct Figures: Sendable, Hashable, Codable {
    /// The time from the call's acceptance until its scores were ready, in milliseconds.
    public let latencyMs: Double
    /// The time while a batch with pairs of the call ran.
    public let inferenceMs: Double
    /// The time, of the rest, while pairs of the call were tokenised.
    public let tokenizationMs: Double
    /// The time, of the rest, while pairs of the call waited for a batch.
    public let queueWaitMs: Double
    /// The rest.
    public let otherMs: Double
    /// Pairs scored: documents or their passages.
    public let pairs: Int
    /// Pairs longer than the maximum length.
    public let truncated: Int
    /// Tokens of all pairs, without padding.
    public let tokens: Int

    init(_ c: mlxr_figures) {
        latencyMs = c.latency_ms
        inferenceMs = c.inference_ms
        tokenizationMs = c.tokenization_ms
        queueWaitMs = c.queue_wait_ms
        otherMs = c.other_ms
        pairs = Int(c.pairs)
        truncated = Int(c.truncated)
        tokens = Int(c.tokens)
    }
}
