"""Has SwiftPM read Package.swift as a Mac and a release have it: with XCFrameworks, and
with archives of them. Needs Swift; make test-swift runs it."""

import json
import os
import shutil

from package import xcframework
from setup.project import LINUX
from setup.steps import SetupError, expect, run, sha256, write_atomic

LOCAL = 'path: "build/xcframeworks/\\(artifact).xcframework"'
TARGETS = {"CMLXR": "MLXRank", "MLXRankNative": "MLXRankNative", "MLXRankMLX": "MLXRankMLX"}


def check(project):
    if project.host == LINUX:
        frameworks = project.build / "darwin" / "xcframeworks"
        if not frameworks.is_dir():
            raise SetupError(f"{frameworks} is missing", advice="run `make check-darwin`, which makes it")
    else:
        xcframework.build(project)
        frameworks = project.build / "xcframeworks"
    project.steps.always("reading Package.swift with SwiftPM", lambda: read(project, frameworks))


def read(project, frameworks):
    package = project.build / "swift" / "manifest"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(project.root / "capi/swift", package / "capi/swift", ignore=shutil.ignore_patterns(".build", "*.app"))
    shutil.copytree(frameworks, package / "build/xcframeworks", symlinks=True)
    text = (project.root / "Package.swift").read_text(encoding="utf-8")
    text = replaced(text, "#if os(Linux)", "#if os(Windows)")
    expect(
        package,
        "binary targets",
        described(package, text),
        {name: f"build/xcframeworks/{artifact}.xcframework" for name, artifact in TARGETS.items()},
    )
    for archive in xcframework.archive(project, frameworks, package / "dist", "1.2.3"):
        found = swift(package, "compute-checksum", archive).strip()
        expect(archive, "checksum by SwiftPM", found, sha256(archive))
    write_atomic(package / "Package.swift", replaced(text, LOCAL, 'path: "dist/\\(artifact).xcframework.zip"').encode())
    swift(package, "resolve")
    for name, artifact in TARGETS.items():
        unpacked = package / ".build/artifacts/manifest" / name / f"{artifact}.xcframework"
        expect(unpacked, "entries", entries(unpacked), entries(frameworks / f"{artifact}.xcframework"))
    # A file of another kind in the place of a framework is refused.
    (package / "build/xcframeworks/MLXRank.xcframework/Info.plist").write_text("<plist/>", encoding="utf-8")
    try:
        described(package, text)
    except SetupError:
        return
    raise SetupError("SwiftPM accepts an XCFramework with a damaged Info.plist: this checks nothing")


def described(package, text):
    """Returns the binary targets of a manifest and their paths."""
    write_atomic(package / "Package.swift", text.encode())
    targets = json.loads(swift(package, "describe", "--type", "json"))["targets"]
    return {target["name"]: target["path"] for target in targets if target["type"] == "binary"}


def swift(package, *words):
    command = ["swift", "package", "--package-path", package, *words]
    return run(command, f"swift package {words[0]}", "install Swift 6 or newer; on a Mac, Xcode 16")


def entries(folder):
    return {
        item.relative_to(folder).as_posix(): os.readlink(item) if item.is_symlink() else item.is_dir() or sha256(item)
        for item in folder.rglob("*")
    }


def replaced(text, old, new):
    if text.count(old) != 1:
        raise SetupError(f"Package.swift has {old} {text.count(old)} times, expected once")
    return text.replace(old, new)
