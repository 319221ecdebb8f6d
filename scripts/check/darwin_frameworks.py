"""Makes the XCFrameworks and reads them back, by other code than wrote them.

On Linux it takes the libraries that were linked for macOS, and nothing is signed:
codesign does that on macOS.
"""

import os
import platform
import plistlib
import re
import shutil
import stat
import zipfile

from package import xcframework
from setup.parts import BUILTIN
from setup.steps import SetupError, expect, run, sha256, write_atomic

from . import darwin_apps

FRAMEWORKS = {"MLXRank": "CMLXR", "MLXRankNative": "MLXRankNative", "MLXRankMLX": "MLXRankMLX"}
COMMON = {"Resources/Info.plist", "Resources/LICENSE", "Resources/THIRD_PARTY_NOTICES.txt"}
FILES = {"CMLXR": {"Headers/mlxr.h", "Modules/module.modulemap"}, "MLXRankNative": set(), "MLXRankMLX": {"Resources/mlx.metallib"}}
LINKED = {"CMLXR": [], "MLXRankNative": ["MLXRankMLX"], "MLXRankMLX": []}
VERSION, MINIMUM = "1.2.3-rc.1", "14.0"


def check_linked(project, mac, env):
    """Part of make check-darwin on Linux. env is what the compiler needs."""
    scratch = mac.build / "release"
    shutil.rmtree(scratch, ignore_errors=True)
    check(mac, darwin_apps.source(project, mac, scratch), mac.build / "bin/cc", env)
    shutil.rmtree(scratch)


def check(mac, source, compiler="cc", env=None):
    """Makes the frameworks from the libraries of source; mac is the project for macOS."""
    folder, scratch = xcframework.write(mac, source, VERSION), mac.build / "frameworks"
    shutil.rmtree(scratch, ignore_errors=True)
    for artifact, name in FRAMEWORKS.items():
        read(mac, folder / f"{artifact}.xcframework", name)
    mac.steps.always("linking with the frameworks", lambda: link(mac, [compiler, env], folder, scratch))
    if platform.system() == "Darwin":
        mac.steps.always("ranking with the frameworks", lambda: rank(mac, folder, scratch / "Check.app/Contents"))
    mac.steps.always("archiving the XCFrameworks", lambda: archives(mac, folder, scratch / "dist"))
    shutil.rmtree(scratch)


def read(mac, path, name):
    """One XCFramework: its files, links, property lists and library."""
    (library,) = plist(path / "Info.plist", {"CFBundlePackageType": "XFWK", "XCFrameworkFormatVersion": "1.0"})["AvailableLibraries"]
    expect(path, "platform", (library["SupportedPlatform"], library["SupportedArchitectures"]), ("macos", ["arm64"]))
    bundle = path / library["LibraryIdentifier"] / library["LibraryPath"]
    expect(path, "framework", bundle.name, f"{name}.framework")
    versions = bundle / "Versions"
    expect(bundle, "Current", os.readlink(versions / "Current"), "A")
    current = versions / "A"
    found = {item.relative_to(current).as_posix() for item in current.rglob("*") if item.is_file()} - {"_CodeSignature/CodeResources"}
    expect(bundle, "files", found, COMMON | FILES[name] | {name})
    links = {item.name: os.readlink(item) for item in bundle.iterdir() if item.is_symlink()}
    expect(bundle, "links", links, {top: f"Versions/Current/{top}" for top in {item.split("/")[0] for item in found}})
    # Without the suffix, which Apple's tools refuse.
    keys = {"CFBundleExecutable": name, "CFBundleIdentifier": f"org.mlxrank.{name}", "CFBundleShortVersionString": "1.2.3"}
    plist(current / "Resources/Info.plist", {**keys, "CFBundlePackageType": "FMWK", "LSMinimumSystemVersion": MINIMUM})
    code = bundle.parent / library["BinaryPath"].removeprefix(f"{bundle.parent.name}/")
    expect(path, "BinaryPath", code, current / name)
    read_library(mac, code, name)
    if "Resources/mlx.metallib" in FILES[name]:
        darwin_apps.same_bytes(mac.lib / "mlx.metallib", current / "Resources/mlx.metallib")


def plist(path, wanted):
    found = plistlib.loads(path.read_bytes())
    expect(path, "entries", {key: found.get(key) for key in wanted}, wanted)
    return found


def read_library(mac, path, name):
    found = darwin_apps.macho(mac, path)
    expect(path, "architecture and kind", found.kind, "CpuArm64 Dylib")
    expect(path, "name", found.name, install_name(name))
    others = [other for other in found.dylibs if not other.startswith(("/usr/lib/", "/System/Library/"))]
    expect(path, "libraries that are not macOS's", others, [install_name(other) for other in LINKED[name]])
    expect(path, "run path to the frameworks beside it", "@loader_path/../../.." in found.rpaths, bool(others))
    expect(path, "oldest macOS", found.minimum, MINIMUM)
    # Crash reports and dSYMs name a library by its UUID.
    expect(path, "length of the UUID", len(found.uuid), 32)
    if name == "CMLXR":
        header = (mac.root / "capi" / "mlxr.h").read_text(encoding="utf-8")
        declared = {"_" + name for name in re.findall(r"^(?:int32_t |const char \*)(mlxr_\w+)\(", header, re.MULTILINE)}
        expect(path, "functions of the API that are missing", declared - set(found.exports), set())


def install_name(name):
    return f"@rpath/{name}.framework/Versions/A/{name}"


def link(mac, toolchain, folder, scratch):
    """A program imports the module and is linked as SwiftPM links one; a missing function is refused."""
    flags = [word for place in sorted(folder.glob("*/macos-arm64")) for word in ("-F", place)]
    frameworks = [word for name in FRAMEWORKS.values() for word in ("-framework", name)]

    def compiled(function):
        source = scratch / "use.m"
        write_atomic(source, f"@import CMLXR;\nint main(void) {{ return {function}() != MLXR_ABI; }}\n".encode())
        command = [toolchain[0], "-fmodules", f"-fmodules-cache-path={mac.build / 'modules'}", "-Wall", "-Werror"]
        command += [*flags, *frameworks, source, "-o", scratch / "use"]
        run(command, "linking with the frameworks", env=toolchain[1])

    compiled("mlxr_abi")
    linked = darwin_apps.macho(mac, scratch / "use").dylibs
    expect(scratch / "use", "linked with CMLXR", install_name("CMLXR") in linked, True)
    refused(lambda: compiled("mlxr_no_such"), "mlxr_no_such")


def rank(mac, folder, contents):
    """A program in an app that has the frameworks alone ranks, on macOS."""
    (contents / "MacOS").mkdir(parents=True)
    flags = []
    for framework in sorted(folder.glob("*/macos-arm64/*.framework")):
        shutil.copytree(framework, contents / "Frameworks" / framework.name, symlinks=True)
        flags += ["-framework", framework.stem]
    program = contents / "MacOS" / "Check"
    command = ["cc", mac.root / "capi/test/programs/consumer.c", "-I", mac.root / "capi", "-F", contents / "Frameworks", *flags]
    run([*command, "-Wl,-rpath,@executable_path/../Frameworks", "-o", program], "linking a program with the frameworks")
    command = ["env", "-i", f"HOME={contents}", f"MLXRANK_BUILTIN_DIR={mac.build / 'models' / BUILTIN}", program]
    ranked = run([*command, "edit photos", "A mail reader.", "An image editor."], "ranking with the frameworks", cwd="/")
    expect(program, "the best document", ranked[:2], "1 ")


def archives(mac, folder, dist):
    """The archives hold the same files, modes and links, and Package.swift their hashes."""
    made = xcframework.archive(mac, folder, dist, VERSION)
    for path in made:
        compare(path, folder / path.stem)
    manifest = (dist / "Package.swift").read_text(encoding="utf-8")
    checksums = dict(re.findall(r'^    "(\w+)": "([0-9a-f]{64})",$', manifest, re.MULTILINE))
    expect(dist / "Package.swift", "checksums", checksums, {path.name.split(".")[0]: sha256(path) for path in made})
    expect(dist / "Package.swift", "version", f'let release = "{VERSION}"' in manifest, True)
    refused(lambda: compare(made[0], folder / made[1].stem), made[0].name)


def compare(path, folder):
    found = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            mode = entry.external_attr >> 16
            data = archive.read(entry)
            found[entry.filename] = (mode, data.decode() if stat.S_ISLNK(mode) else hash(data))
    wanted = {}
    for item in folder.rglob("*"):
        mode = item.lstat().st_mode
        if not stat.S_ISDIR(mode):
            content = os.readlink(item) if stat.S_ISLNK(mode) else hash(item.read_bytes())
            wanted[f"{folder.name}/{item.relative_to(folder).as_posix()}"] = (mode, content)
    differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    expect(path, "entries that differ from the folder's", differing, [])


def refused(action, word):
    """Checks that action fails with an error that has the word."""
    try:
        action()
    except SetupError as err:
        if word in str(err):
            return
        raise
    raise SetupError(f"the check of {word} passes what is wrong: it checks nothing")
