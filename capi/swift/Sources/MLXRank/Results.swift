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

/// The answer to ``Ranker/score(pairs:progress:)``.
public struct Scores: Sendable, Hashable, Codable {
    /// One for each pair, in the order given.
    public let scores: [Float]
    public let figures: Figures
}

/// The answer to ``Ranker/rerank(query:documents:topN:longDocuments:progress:)``.
public struct Ranking: Sendable, Hashable, Codable {
    /// Best first. Equal scores keep the order given.
    public let documents: [RankedDocument]
    public let figures: Figures
}

/// A document of a ``Ranking``.
public struct RankedDocument: Sendable, Hashable, Codable {
    /// Which of the documents given it is, from 0.
    public let index: Int
    public let score: Float
    /// The score as the classifier gave it, whatever the ``Ranker/Activation``.
    public let logit: Float
}

/// Where the time of a call went. The four stages add up to `latencyMs`.
public struct Figures: Sendable, Hashable, Codable {
    /// From the call's acceptance until its scores were ready, in milliseconds.
    public let latencyMs: Double
    /// A batch with pairs of the call was executing.
    public let inferenceMs: Double
    /// Else: pairs of the call were being tokenised.
    public let tokenizationMs: Double
    /// Else: pairs of the call were waiting for a batch.
    public let queueWaitMs: Double
    /// What is left.
    public let otherMs: Double
    /// Pairs scored: documents, or their parts.
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
