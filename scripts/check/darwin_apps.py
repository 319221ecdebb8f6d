"""Puts the libraries for macOS into an app with mlxrank bundle, on Linux.

The apps have what was linked for macOS and the real MLX of both wheels; what
comes of it is read back here, by other code than mlxrank's own.
"""

import json
import plistlib
import shutil
import subprocess
from types import SimpleNamespace

from setup import parts
from setup.steps import SetupError, copy_atomic, expect, run, write_atomic

MINIMUMS = {"14.0": "lib", "26.2": "lib/macos26"}  # and the MLX that goes with it
RUN_PATH = "@executable_path/../Frameworks"
# Checks of doctor that fail, since the app is not signed.
UNSIGNED = {"seal"}
LIBRARIES = ["libmlxr.dylib", "libmlxrank.dylib", "libmlx.dylib"]


def check(project, mac, env):
    """Bundles into an app for the oldest macOS, and into one for M5's kernels.

    env is what the compiler needs.
    """
    parts.newer_mlx(mac)
    folder = mac.build / "apps"
    shutil.rmtree(folder, ignore_errors=True)
    release = source(project, mac, folder)
    executable(mac, env, folder / "linked")
    for minimum, mlx in MINIMUMS.items():
        app = folder / f"Minimum {minimum}.app"
        make_app(mac, app, minimum)
        title = f"bundling into an app for macOS {minimum}"
        mac.steps.always(title, lambda app=app, mlx=mlx: bundle(project, mac, app, release, mlx))
    shutil.rmtree(folder)  # half a gigabyte


def source(project, mac, folder):
    """The layout of a release, of links to what was built."""
    release = folder / "release"
    shared = release / "share" / "mlxrank"
    for path, target in {
        release / "lib" / "libmlxr.dylib": mac.lib / "libmlxr.dylib",
        release / "lib" / "mlxrank": mac.lib,
        shared / "THIRD_PARTY_NOTICES.txt": project.build / "THIRD_PARTY_NOTICES.txt",
        shared / "LICENSE": project.root / "LICENSE",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    return release


def executable(mac, env, path):
    """The executable of bundle's own tests, linked with libmlxr."""
    program = mac.root / "internal/bundle/testdata/program.c"
    command = [mac.build / "bin/cc", program, "-DLINKED", mac.lib / "libmlxr.dylib", "-o", path]
    run(command, "linking an executable with libmlxr for macOS", cwd=path.parent, env=env)


def make_app(mac, app, minimum):
    """An app whose executable is linked with libmlxr, and which has the command too."""
    contents = app / "Contents"
    copy_atomic(app.parent / "linked", contents / "MacOS" / "App")
    copy_atomic(mac.build / "mlxrank", contents / "MacOS" / "mlxrank")
    info = {"CFBundleExecutable": "App", "CFBundleIdentifier": "org.mlxrank.check", "LSMinimumSystemVersion": minimum}
    write_atomic(contents / "Info.plist", plistlib.dumps(info))


def bundle(project, mac, app, release, mlx):
    command = [project.build / "bin" / "mlxrank", "bundle", "--app", app, "--from", release]
    lines = run(command, f"putting the libraries into {app}").splitlines()
    libraries = sorted(path.name for path in (app / "Contents/Frameworks").iterdir())
    wanted = LIBRARIES + (["libjaccl.dylib"] if "26" in mlx else [])
    expect(app, "libraries", libraries, sorted(wanted))
    signed = [line.rpartition("/")[2].strip("'") for line in lines]
    expect(app, "what to sign, the app last", sorted(signed[:-1]) + signed[-1:], libraries + [app.name])
    for name in libraries:
        read_library(mac, app / "Contents/Frameworks" / name, libraries)
    program = macho(mac, app / "Contents/MacOS/App")
    expect(app, "run paths of the executable", program.rpaths, [RUN_PATH])
    expect(app, "its library", "@rpath/libmlxr.dylib" in program.dylibs, True)
    same_bytes(mac.build / mlx / "mlx.metallib", app / "Contents/Resources/mlx.metallib")
    expect(app, "failures of doctor", failures(project, app), UNSIGNED)
    before = marks(app)
    run(command, f"putting the libraries into {app} again")
    expect(app, "files written by a second run", marks(app) ^ before, set())


def macho(mac, path):
    """Returns what a Mach-O file says about itself: kind, name, dylibs, rpaths, exports."""
    command = ["go", "run", "./scripts/check/macho", path]
    return SimpleNamespace(**json.loads(run(command, f"reading {path}", cwd=mac.root)))


def read_library(mac, path, libraries):
    """Its names must lead to what lies beside it, and to macOS."""
    found = macho(mac, path)
    expect(path, "architecture and kind", found.kind, "CpuArm64 Dylib")
    expect(path, "name", found.name, f"@rpath/{path.name}")
    for name in found.dylibs:
        start, _, base = name.rpartition("/")
        beside = start == "@loader_path" and base in libraries
        if not beside and not name.startswith(("/usr/lib/", "/System/Library/")):
            raise SetupError(f"{path}: linked with {name}, which is not in the app")


def failures(project, app):
    """The checks of doctor that fail."""
    command = [str(project.build / "bin" / "mlxrank"), "doctor", "--app", str(app)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    words = [line.split() for line in done.stdout.splitlines()]
    if done.stderr or not words or (done.returncode != 0) != any(w[0] == "FAIL" for w in words):
        raise SetupError(f"doctor of {app}", command, done.stdout + done.stderr)
    return {word[1] for word in words if word[0] == "FAIL"}


def same_bytes(source, copy):
    if run(["cmp", source, copy], f"comparing {copy} with {source}"):
        raise SetupError(f"{copy} is no copy of {source}")


def marks(app):
    """Returns the inode and time of every file, which change when a file is written again."""
    found = [(path, path.stat()) for path in app.rglob("*") if path.is_file()]
    return {(str(path), stat.st_ino, stat.st_mtime_ns) for path, stat in found}
