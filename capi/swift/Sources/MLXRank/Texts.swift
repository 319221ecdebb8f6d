import CMLXR

/// Texts for the C API: the bytes of all texts in one buffer, and each text's length.
struct Texts {
    private var utf8: [UInt8] = []
    private var lengths: [Int] = []

    init(_ strings: [String]) {
        utf8.reserveCapacity(strings.reduce(0) { $0 + $1.utf8.count })
        lengths.reserveCapacity(strings.count)
        for string in strings {
            let start = utf8.count
            utf8.append(contentsOf: string.utf8)
            lengths.append(utf8.count - start)
        }
    }

    /// Calls body with the texts. Their pointers are valid until it returns.
    func withPointers(_ body: (UnsafeBufferPointer<mlxr_text>) -> Int32) -> Int32 {
        utf8.withUnsafeBufferPointer { bytes in
            bytes.withMemoryRebound(to: CChar.self) { characters in
                var start = 0
                let texts = lengths.map { length in
                    defer { start += length }
                    return mlxr_text(data: characters.baseAddress.map { $0 + start }, bytes: Int64(length))
                }
                return texts.withUnsafeBufferPointer(body)
            }
        }
    }
}
