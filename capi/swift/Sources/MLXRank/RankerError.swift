import CMLXR
import Foundation

/// Why a call failed.
///
/// A call that ends because its task was cancelled throws `CancellationError` instead.
public struct RankerError: LocalizedError, Sendable, Hashable {
    /// The kinds of failure. The numbers are the statuses of the C API.
    public enum Code: Int32, Sendable, CaseIterable {
        /// An argument is wrong. Nothing was done.
        case invalid = 1
        /// The ranker is closed.
        case closed = 2
        /// A buffer was too small: a fault of this package.
        case room = 3
        /// A text was not UTF-8: a fault of this package, since every `String` is.
        case notUTF8 = 4
        /// The model is not there, or is not one that can be used.
        case model = 5
        /// libmlxr, libmlxrank or MLX is not there, or does not fit.
        case library = 6
        /// The device asked for is not there, or has failed.
        case device = 7
        /// Too much is waiting now. Try again later.
        case overloaded = 8
        /// The call is larger than the queue. Split it.
        case tooLarge = 9
        /// Never thrown: a cancelled call throws `CancellationError`.
        case cancelled = 10
        /// Anything else. ``RankerError/message`` says what.
        case failed = 11
    }

    /// What kind of failure it was.
    public let code: Code
    /// What failed, on what, and what to do, in English.
    public let message: String

    public var errorDescription: String? { message }
}

/// Throws the error of a call that did not return `MLXR_OK`.
///
/// The message must be read on the thread that made the call, so this is called right after it.
func check(_ status: Int32, of ranker: mlxr_ranker) throws {
    if status == MLXR_OK { return }
    if status == MLXR_CANCELLED { throw CancellationError() }
    let (read, text) = copyText { mlxr_last_error(ranker, $0, $1, $2) }
    let message = read == MLXR_OK && !text.isEmpty ? text : "libmlxr answered with status \(status) and no message"
    throw RankerError(code: RankerError.Code(rawValue: status) ?? .failed, message: message)
}

/// Reads a text of the library whose length is not known before, and the status of the last try.
func copyText(
    _ read: (UnsafeMutablePointer<CChar>?, Int64, UnsafeMutablePointer<Int64>?) -> Int32
) -> (status: Int32, text: String) {
    var room = 1024
    while true {
        var buffer = [CChar](repeating: 0, count: room)
        var needed: Int64 = 0
        let status = read(&buffer, Int64(room), &needed)
        // It may have grown since its length was told, so more than one round may be needed.
        if status == MLXR_ROOM && needed > room {
            room = Int(needed)
            continue
        }
        let bytes = buffer.prefix { $0 != 0 }
        return (status, String(decoding: bytes.lazy.map(UInt8.init(bitPattern:)), as: UTF8.self))
    }
}
