import MLXRank
import SwiftUI
import UniformTypeIdentifiers

struct ContentView: View {
    @Bindable var search: Search
    @State private var choosing = false

    var body: some View {
        VStack(spacing: 0) {
            HStack {
                TextField("Query", text: $search.query)
                    .textFieldStyle(.roundedBorder)
                Button("Choose Folder…") { choosing = true }
            }
            .padding()
            List(search.hits) { HitRow(hit: $0) }
                .overlay {
                    if search.url == nil {
                        ContentUnavailableView("Drop a folder of text files here", systemImage: "folder")
                    }
                }
            Divider()
            StatusBar(search: search)
        }
        .frame(minWidth: 720, minHeight: 420)
        .dropDestination(for: URL.self) { urls, _ in
            search.url = urls.first
            return !urls.isEmpty
        }
        .fileImporter(isPresented: $choosing, allowedContentTypes: [.folder]) { search.choose($0) }
        .task { await search.open() }
        .task(id: search.url) { await search.read() }
        .task(id: search.question) { await search.rank() }
    }
}

private struct HitRow: View {
    let hit: Search.Hit

    var body: some View {
        VStack(alignment: .leading) {
            HStack {
                Text(hit.name).font(.headline)
                Spacer()
                Text(hit.score, format: .number.precision(.fractionLength(4))).monospacedDigit()
            }
            Text(hit.excerpt).lineLimit(2).foregroundStyle(.secondary)
        }
    }
}

private struct StatusBar: View {
    let search: Search

    var body: some View {
        HStack {
            if let failure = search.failure {
                Label(failure, systemImage: "exclamationmark.triangle").foregroundStyle(.red)
            } else if let progress = search.progress {
                ProgressView(value: progress)
            } else {
                Text(search.status)
            }
            Spacer()
            if let figures = search.figures {
                Stage(name: "latency", ms: figures.latencyMs)
                Stage(name: "inference", ms: figures.inferenceMs)
                Stage(name: "tokenisation", ms: figures.tokenizationMs)
                Stage(name: "queue wait", ms: figures.queueWaitMs)
                Stage(name: "other", ms: figures.otherMs)
            }
        }
        .padding(8)
    }
}

private struct Stage: View {
    let name: String
    let ms: Double

    var body: some View {
        Text("\(name) \(ms, format: .number.precision(.fractionLength(1))) ms")
            .font(.caption)
            .monospacedDigit()
    }
}
