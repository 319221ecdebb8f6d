// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "MLXRank",
    platforms: [.macOS(.v14)],
    products: [.library(name: "MLXRank", targets: ["MLXRank"])],
    targets: [
        .systemLibrary(name: "CMLXR", pkgConfig: "mlxr", providers: [.brew(["mlxrank"])]),
        .target(name: "MLXRank", dependencies: ["CMLXR"]),
        .testTarget(name: "MLXRankTests", dependencies: ["MLXRank", "CMLXR"]),
    ]
)
