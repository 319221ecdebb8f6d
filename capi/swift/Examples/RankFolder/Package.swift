// swift-tools-version: 6.0
import PackageDescription

// MLXRANK_CHECKOUT names a checkout of mlxrank to take instead of the release, after
// `make xcframeworks` there.
let mlxrank: Package.Dependency =
    if let checkout = Context.environment["MLXRANK_CHECKOUT"] {
        .package(name: "mlxrank", path: checkout)
    } else {
        .package(url: "https://github.com/mlxrank/mlxrank", .upToNextMinor(from: "0.1.0"))
    }

let package = Package(
    name: "RankFolder",
    platforms: [.macOS(.v14)],
    dependencies: [mlxrank],
    targets: [
        .executableTarget(
            name: "RankFolder",
            dependencies: [.product(name: "MLXRank", package: "mlxrank")],
            // Where the frameworks lie in an app bundle. The flags are for this program alone.
            linkerSettings: [.unsafeFlags(["-Xlinker", "-rpath", "-Xlinker", "@executable_path/../Frameworks"])]
        )
    ]
)
