"""Compiles and tests capi/swift: with Xcode on macOS, with Debian's Swift on Linux.

Debian 12 has no Swift. The compiler of Debian 13 is unpacked and not installed.
It needs the C and C++ libraries of Debian 13, so the loader of that C library
starts the compiler and the tests. swiftc and SwiftPM cannot start programs that
way; here the compiler proper is called, as they call it.
"""

import re

from setup import parts
from setup.project import LINUX
from setup.steps import SetupError, run, write_atomic

from . import swift_package

PACKAGE = "capi/swift"
# The modules that the sources import are in these.
LIBRARIES = ["swiftCore", "swiftSwiftOnoneSupport", "swift_Concurrency", "swift_StringProcessing", "swiftDispatch", "dispatch"]
LIBRARIES += ["BlocksRuntime", "Foundation", "FoundationEssentials", "Testing"]
# SwiftPM writes this file for its tests.
MAIN = "import Testing\n@main struct Main { static func main() async { await Testing.__swiftPMEntryPoint() as Never } }\n"


def test(project):
    """make test-swift."""
    tests = debian(project, project.build / "capi" / "lib") if project.host == LINUX else xcode(project)
    ran = project.steps.always("compiling and testing the Swift package", tests)
    count = re.search(r"Test run with [1-9]\d* tests.* passed after .*", ran)
    if count is None:
        raise SetupError(f"swift test ran no test of {PACKAGE}", output=ran)
    project.steps.out.write(f"test-swift: {count[0]}\n")


def xcode(project):
    """Returns a function that tests with SwiftPM."""
    swift_package.check(project)
    command = ["swift", "test", "--package-path", project.root, "--scratch-path", project.build / "swift" / "package"]
    return lambda: report(command)


def report(command, **env):
    """Runs the tests; returns what they print, which is on standard error."""
    what, advice = "testing the Swift package", "on macOS, install Xcode 16 or newer"
    return run(["sh", "-c", 'exec "$0" "$@" 2>&1', *command], what, advice, env={"NO_COLOR": "1", **env})


def debian(project, library):
    """Returns a function that compiles, links and tests; fetches what that needs."""
    swift, shared = (parts.deb(project, name) / "usr/libexec/swift" for name in ("swiftlang", "libswiftlang"))
    resources, runtime = swift / "lib/swift", shared / "lib/swift/linux"
    c, cxx = (parts.deb(project, name) / "usr/lib/x86_64-linux-gnu" for name in ("libc6-trixie", "libstdc++6-trixie"))
    search = ":".join(str(path) for path in (c, cxx, runtime, shared / "lib/swift/host", library))
    load = [c / "ld-linux-x86-64.so.2", "--library-path", search]
    out, package = project.build / "swift", project.root / PACKAGE

    def compile_swift(module, sources, *options):
        command = [*load, swift / "bin/swift-frontend", "-frontend", *options, "-module-name", module, "-parse-as-library"]
        command += ["-swift-version", "6", "-warnings-as-errors", "-enable-cross-import-overlays"]
        command += ["-resource-dir", resources, "-module-cache-path", out / "modules", "-I", package / "Sources/CMLXR", "-I", out]
        for name in ("Testing", "Observation"):
            command += ["-load-plugin-library", resources / f"host/plugins/lib{name}Macros.so"]
        run([*command, *sorted(sources)], f"compiling the Swift module {module}")

    def compile_object(module, sources):
        compile_swift(module, sources, "-c", "-emit-module", "-emit-module-path", out / f"{module}.swiftmodule", "-o", out / f"{module}.o")

    def compile_and_test():
        write_atomic(out / "Main.swift", MAIN.encode())
        compile_object("MLXRank", (package / "Sources/MLXRank").glob("*.swift"))
        compile_object("MLXRankTests", [*(package / "Tests/MLXRankTests").glob("*.swift"), out / "Main.swift"])
        example = package / "Examples/RankFolder/Sources/RankFolder"
        compile_swift("RankFolder", [example / "Document.swift", example / "Search.swift"], "-typecheck")
        compile_swift("RankFolder", example.glob("*.swift"), "-parse")  # its views need SwiftUI
        program, objects = out / "tests", [out / "MLXRank.o", out / "MLXRankTests.o"]
        command = ["c++", "-o", program, resources / "linux/x86_64/swiftrt.o", *objects, f"-L{library}", "-lmlxr"]
        # These libraries want symbols of Debian 13's C library.
        command += [f"-L{runtime}", *(f"-l{name}" for name in LIBRARIES), "-Wl,--allow-shlib-undefined"]
        run(command, "linking the tests of the Swift package")
        return report([*load, program, "--testing-library", "swift-testing"])

    return compile_and_test
