import CMLXR
import Foundation

/// The error of a call.
///
/// A call that ends because its task was cancelled throws `CancellationError` instead.
public struct RankerError: LocalizedError, Sendable, Hashable {
    /// The kinds of failure. The numbers are the statuses of the C API.
    public enum Code: Int32, Sendable, CaseIterable {
        /// An argument is wrong. Nothing was done.
        case invalid = 1
        /// The ranker is closed.
        case closed = 2
        /// A buffer was too small: a bug of this package.
        case room = 3
        /// A text was not UTF-8: a bug of this package, because every `String` is UTF-8.
        case notUTF8 = 4
        /// The model was not found or cannot be used.
        case model = 5
        /// libmlxr, libmlxrank or MLX was not found or has the wrong version.
        case library = 6
        /// The device asked for was not found or has failed.
        case device = 7
        /// Too many requests are waiting. Try again later.
        case overloaded = 8
        /// A text or the call exceeds a limit. Split it.
        case tooLarge = 9
        /// Never thrown: a cancelled call throws `CancellationError`.
        case cancelled = 10
        /// Any other failure. See ``RankerError/message``.
        case failed = 11
    }

    /// The kind of failure.
    public let code: Code
    /// What failed and what to do, in English.
    public let message: String

    public var errorDescription: String? { message }
}

/// Throws the error of a call that did not return `MLXR_OK`.
///
/// Call it right after the call, on the same thread: the library keeps the message per thread.
func check(_ status: Int32, of ranker: mlxr_ranker) throws {
    if status == MLXR_OK { return }
    if status == MLXR_CANCELLED { throw CancellationError() }
    let (read, text) = copyText { mlxr_last_error(ranker, $0, $1, $2) }
    let message = read == MLXR_OK && !text.isEmpty ? text : "libmlxr returned status \(status) without a message"
    throw RankerError(code: RankerError.Code(rawValue: status) ?? .failed, message: message)
}

/// Reads a text of unknown length from the library. It returns the status of the last attempt.
func copyText(
    _ read: (UnsafeMutablePointer<CChar>?, Int64, UnsafeMutablePointer<Int64>?) -> Int32
) -> (status: Int32, text: String) {
    var room = 1024
    while true {
        var buffer = [CChar](repeating: 0, count: room)
        var needed: Int64 = 0
        let status = read(&buffer, Int64(room), &needed)
        // The text may have grown since the previous attempt.
        if status == MLXR_ROOM && needed > room {
            room = Int(needed)
            continue
        }
        let bytes = buffer.prefix { $0 != 0 }
        return (status, String(decoding: bytes.lazy.map(UInt8.init(bitPattern:)), as: UTF8.self))
    }
}
