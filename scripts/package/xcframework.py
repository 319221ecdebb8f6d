"""MLXRank.xcframework and the two that it needs, for Swift packages and Xcode; macOS only.

They are in build/xcframeworks, for Package.swift of this checkout. A release has
archives of them in build/dist, beside a Package.swift with its version and checksums.
"""

import os
import re
import shutil
import stat
import zipfile

from setup import capi
from setup.project import MACOS
from setup.steps import SetupError, run, sha256, write_atomic

NAMES = ["MLXRank", "MLXRankNative", "MLXRankMLX"]
# Times in the archives, so that the same files make the same archive.
TIME = (2020, 1, 1, 0, 0, 0)


def build(project):
    """make xcframeworks."""
    if project.host != MACOS:
        raise SetupError("XCFrameworks are made on macOS", advice="run `make check-darwin` to try that on Linux")
    write(project, project.build)


def write(project, source, version=None):
    """Makes build/xcframeworks from the libraries of source; returns the folder. On macOS it signs."""
    folder = project.build / "xcframeworks"
    shutil.rmtree(folder, ignore_errors=True)
    command = ["go", "run", "./scripts/package/xcframework", "-from", source, "-to", folder]
    command += ["-version", version or capi.version_of(project)]
    project.steps.always("making XCFrameworks", lambda: run(command, "making XCFrameworks", cwd=project.root))
    if shutil.which("codesign"):
        for framework in sorted(folder.glob("*/*/*.framework")):
            # Ad hoc: the app's author signs what the app embeds.
            run(["codesign", "--force", "--sign", "-", framework], f"signing {framework.name}")
            run(["codesign", "--verify", "--strict", framework], f"verifying the signature of {framework.name}")
    return folder


def archive(project, folder, dist, version):
    """Archives the XCFrameworks of folder into dist, with a Package.swift; returns the archives."""
    archives = []
    for name in NAMES:
        path = dist / f"{name}.xcframework.zip"
        pack(folder / f"{name}.xcframework", path)
        archives.append(path)
    text = (project.root / "Package.swift").read_text(encoding="utf-8")
    text = filled(text, version, {name: sha256(path) for name, path in zip(NAMES, archives, strict=True)})
    write_atomic(dist / "Package.swift", text.encode())
    return archives


def pack(folder, path):
    """Writes a folder into a zip archive, links as links."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for item in sorted(folder.rglob("*")):
            mode = os.lstat(item).st_mode
            name = item.relative_to(folder.parent).as_posix()
            if stat.S_ISDIR(mode):
                continue
            entry = zipfile.ZipInfo(name, TIME)
            entry.create_system = 3  # Unix, whose modes follow
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            out.writestr(entry, os.readlink(item) if stat.S_ISLNK(mode) else item.read_bytes())


def filled(text, version, checksums):
    """The text of Package.swift with a release's version and checksums put in."""
    changes = {'^let release = ""$': f'let release = "{version}"'}
    changes |= {f'^    "{name}": "",$': f'    "{name}": "{checksum}",' for name, checksum in checksums.items()}
    for pattern, replacement in changes.items():
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        if count != 1:
            raise SetupError(f"Package.swift has {pattern} {count} times, expected once")
    return text
