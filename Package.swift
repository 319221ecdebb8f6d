// swift-tools-version: 6.0
import PackageDescription

// A release fills these in: its version, and the SHA-256 of each of its XCFrameworks.
// Without them the XCFrameworks are in build/xcframeworks, where `make xcframeworks`
// puts them. docs/dev/releasing.md
let release = ""
let checksums = [
    "MLXRank": "",
    "MLXRankNative": "",
    "MLXRankMLX": "",
]

func framework(_ target: String, in artifact: String) -> Target {
    if release.isEmpty {
        return .binaryTarget(name: target, path: "build/xcframeworks/\(artifact).xcframework")
    }
    return .binaryTarget(
        name: target,
        url: "https://github.com/mlxrank/mlxrank/releases/download/v\(release)/\(artifact).xcframework.zip",
        checksum: checksums[artifact]!)
}

// The C API. An app links and embeds all three frameworks: CMLXR loads MLXRankNative,
// and that is linked with MLXRankMLX.
#if os(Linux)
let library: [Target] = [
    .systemLibrary(name: "CMLXR", path: "capi/swift/Sources/CMLXR", pkgConfig: "mlxr")
]
#else
let library = [
    framework("CMLXR", in: "MLXRank"),
    framework("MLXRankNative", in: "MLXRankNative"),
    framework("MLXRankMLX", in: "MLXRankMLX"),
]
#endif

let package = Package(
    name: "MLXRank",
    platforms: [.macOS(.v14)],
    products: [.library(name: "MLXRank", targets: ["MLXRank"])],
    targets: library + [
        .target(
            name: "MLXRank",
            dependencies: library.map { .target(name: $0.name) },
            path: "capi/swift/Sources/MLXRank"),
        .testTarget(name: "MLXRankTests", dependencies: ["MLXRank", .target(name: "CMLXR")], path: "capi/swift/Tests/MLXRankTests"),
    ]
)
