import Foundation
import MLXRank
import Observation

/// The state of the window: the texts of a folder, ranked for a query.
@MainActor @Observable
final class Search {
    struct Hit: Identifiable {
        let id: Int
        let name: String
        let excerpt: String
        let score: Float
    }

    /// The input of a ranking. A change cancels the running search and starts another.
    struct Question: Equatable {
        var query: String
        var reading: Int
        var ready: Bool
    }

    var query = ""
    var url: URL?
    private(set) var hits: [Hit] = []
    private(set) var figures: Figures?
    /// From 0 to 1 while a search runs.
    private(set) var progress: Double?
    private(set) var status = "Loading the model"
    private(set) var failure: String?

    private var folder: Folder?
    private var reading = 0
    private var ranker: Ranker?
    private var search = 0

    var question: Question {
        Question(query: query.trimmingCharacters(in: .whitespacesAndNewlines), reading: reading, ready: ranker != nil)
    }

    /// Loads a model, which the hub has, or the one that `-model` names on the command line.
    func open() async {
        await showingErrors {
            var options = Ranker.Options(model: UserDefaults.standard.string(forKey: "model") ?? "cross-encoder/ms-marco-MiniLM-L6-v2")
            options.activation = .sigmoid
            let ranker = try await Ranker(options) { done, total in
                Task { @MainActor in
                    if self.ranker == nil { self.status = "Downloading the model: \(done) of \(total) bytes" }
                }
            }
            let info = try await ranker.info()
            self.ranker = ranker
            status = "\(info.model) on \(info.deviceName)"
        }
    }

    /// Reads the chosen folder.
    func read() async {
        guard let url else { return }
        if ranker != nil { failure = nil }
        await showingErrors {
            status = "Reading \(url.lastPathComponent)"
            let folder = try await Folder.read(url)
            self.folder = folder
            reading += 1
            status = "\(folder.documents.count) text files in \(url.lastPathComponent)"
            if folder.skipped > 0 { status += ", \(folder.skipped) more too large or not readable" }
        }
    }

    /// Ranks the documents for the query.
    func rank() async {
        search += 1
        progress = nil
        let (question, number) = (question, search)
        guard let ranker, let documents = folder?.documents, !documents.isEmpty, !question.query.isEmpty else {
            hits = []
            figures = nil
            return
        }
        await showingErrors {
            // The user may still be typing.
            try await Task.sleep(for: .milliseconds(200))
            progress = 0
            failure = nil
            let ranking = try await ranker.rerank(
                query: question.query, documents: documents.map(\.text), topN: 100, longDocuments: .passages
            ) { done, total in
                Task { @MainActor in self.show(Double(done) / Double(total), of: number) }
            }
            progress = nil
            figures = ranking.figures
            hits = ranking.documents.map { ranked in
                let document = documents[ranked.index]
                return Hit(
                    id: ranked.index, name: document.name, excerpt: String(document.text.prefix(300)),
                    score: ranked.score)
            }
        }
    }

    /// Returns unused memory to the system.
    func trim() async {
        await showingErrors { try await ranker?.trim() }
    }

    func choose(_ choice: Result<URL, any Error>) {
        switch choice {
        case .success(let url): self.url = url
        case .failure(let error): failure = error.localizedDescription
        }
    }

    /// Shows the progress, unless it is late and belongs to an earlier search or one that has ended.
    private func show(_ part: Double, of number: Int) {
        if number == search && progress != nil { progress = part }
    }

    private func showingErrors(_ work: () async throws -> Void) async {
        do {
            try await work()
        } catch is CancellationError {
            // The search that cancelled it shows its own state.
        } catch {
            progress = nil
            failure = error.localizedDescription
        }
    }
}
