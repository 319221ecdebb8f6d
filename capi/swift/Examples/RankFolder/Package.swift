// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "RankFolder",
    platforms: [.macOS(.v14)],
    dependencies: [.package(name: "MLXRank", path: "../..")],
    targets: [
        .executableTarget(
            name: "RankFolder",
            dependencies: [.product(name: "MLXRank", package: "MLXRank")],
            // Where libmlxr lies in an app bundle. The flags are for this program alone.
            linkerSettings: [.unsafeFlags(["-Xlinker", "-rpath", "-Xlinker", "@executable_path/../Frameworks"])]
        )
    ]
)
