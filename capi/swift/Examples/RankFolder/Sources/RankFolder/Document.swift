import Foundation

/// A text file.
struct Document: Sendable {
    let name: String
    let text: String
}

/// The text files of a folder and its subfolders.
struct Folder: Sendable {
    let url: URL
    var documents: [Document] = []
    /// Text files left out because they exceed the limit or cannot be read.
    var skipped = 0

    private static let kinds: Set = ["txt", "text", "md", "markdown", "rst", "org", "tex", "csv", "tsv", "log"]
    private static let largest = 4 << 20

    /// Reads a folder, away from the main actor.
    static func read(_ url: URL) async throws -> Folder {
        try Folder(reading: url)
    }

    private init(reading url: URL) throws {
        self.url = url
        _ = try FileManager.default.contentsOfDirectory(atPath: url.path)  // throws if it cannot be read
        let keys: [URLResourceKey] = [.isRegularFileKey, .fileSizeKey]
        let files = FileManager.default.enumerator(
            at: url, includingPropertiesForKeys: keys, options: [.skipsHiddenFiles])
        while let file = files?.nextObject() as? URL {
            try Task.checkCancellation()
            let facts = try file.resourceValues(forKeys: Set(keys))
            guard facts.isRegularFile == true, Folder.kinds.contains(file.pathExtension.lowercased()) else { continue }
            guard facts.fileSize ?? 0 <= Folder.largest, let data = try? Data(contentsOf: file) else {
                skipped += 1
                continue
            }
            documents.append(Document(name: file.lastPathComponent, text: String(decoding: data, as: UTF8.self)))
        }
    }
}
