#!/usr/bin/env python3
"""Makes fixtures.zip and signed.zip again: small files in the places of real ones.

    python3 internal/bundle/testdata/make.py path/to/zig path/to/rcodesign

zig is the compiler that make check-darwin unpacks, build/darwin/zig/ziglang/zig.
Its linker signs ad hoc for arm64, and not for x86_64. rcodesign, which signs the
app in signed.zip with a certificate made for it, is of the crate apple-codesign,
0.29.0. The certificate and its key are thrown away.
"""

import os
import plistlib
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
OLD, NEW, INTEL = "aarch64-macos.14.0", "aarch64-macos.26.2", "x86_64-macos.14.0"
MLX_NAME = "-Wl,-install_name,@rpath/libmlx.dylib"


def main():
    zig, rcodesign = (Path(word).resolve() for word in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as folder:
        cache = {"ZIG_GLOBAL_CACHE_DIR": f"{folder}/cache", "ZIG_LOCAL_CACHE_DIR": f"{folder}/cache"}
        out = Path(folder) / "out"

        def compile_to(name, target, source, *options):
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            command = [zig, "cc", "-target", target, "-Os", "-g0", HERE / source, *options, "-o", path.name]
            # In the file's folder, so that no path of this machine gets into it.
            subprocess.run([str(word) for word in command], cwd=path.parent, env={**os.environ, **cache}, check=True)
            return path

        def library(name, target, source, *options):
            install = f"-Wl,-install_name,@rpath/{Path(name).name}"
            return compile_to(name, target, source, "-shared", install, *options)

        mlx = library("old/libmlx.dylib", OLD, "mlx.c")
        library("old/libmlxrank.dylib", OLD, "mlxrank.c", mlx, "-Wl,-rpath,@loader_path")
        engine = library("old/libmlxr.dylib", OLD, "mlxr.c")
        jaccl = library("new/libjaccl.dylib", NEW, "jaccl.c")
        library("new/libmlx.dylib", NEW, "mlx.c", "-DJACCL", jaccl)
        intel = library("intel/libmlxr.dylib", INTEL, "mlxr.c")
        library("intel/libmlx.dylib", INTEL, "mlx.c")
        # Another MLX: of another version, without a symbol that the shim wants.
        library("other/libmlx.dylib", OLD, "mlx.c", "-DOTHER")

        compile_to("program/linked", OLD, "program.c", "-DLINKED", engine)
        compile_to("program/unlinked", OLD, "program.c")
        compile_to("program/newer", NEW, "program.c")
        compile_to("program/found", OLD, "program.c", "-DLINKED", engine, "-Wl,-rpath,@executable_path/../Frameworks")
        other = compile_to("program/intel", INTEL, "program.c", "-DLINKED", intel)
        universal(out / "program/universal", [(0x01000007, 3, other), (0x0100000C, 0, out / "program/linked")])
        # A name that there is no room to make longer: zig leaves what is said.
        compile_to("program/full", OLD, "program.c", "-DLINKED", engine, "-Wl,-headerpad,0x0")
        (out / "old/mlx.metallib").write_bytes(metallib((14, 0), (3, 1), ["copy", "rms_norm"]))
        nax = "steel_gemm_fused_nax_nn_float16_float16_bm64_bn64_bk256_wm2_wn2"
        (out / "new/mlx.metallib").write_bytes(metallib((26, 2), (4, 0), ["copy", nax]))
        pack(out, HERE / "fixtures.zip")
        pack(signed_app(Path(folder), out, rcodesign), HERE / "signed.zip")


def signed_app(folder, out, rcodesign):
    """An app signed by a team, with the hardened runtime and an entitlement."""
    app = folder / "signed" / "Signed.app"
    places = {
        "program/found": "MacOS/Signed",
        "old/libmlxr.dylib": "Frameworks/libmlxr.dylib",
        "old/libmlxrank.dylib": "Frameworks/libmlxrank.dylib",
        "old/libmlx.dylib": "Frameworks/libmlx.dylib",
        "old/mlx.metallib": "Resources/mlx.metallib",
    }
    files = {place: (out / name).read_bytes() for name, place in places.items()}
    info = {
        "CFBundleExecutable": "Signed",
        "CFBundleIdentifier": "org.example.signed",
        "CFBundlePackageType": "APPL",
        "LSMinimumSystemVersion": "14.0",
    }
    files["Info.plist"] = plistlib.dumps(info)
    for name in ("THIRD_PARTY_NOTICES.txt", "LICENSE"):
        files["Resources/mlxrank/" + name] = b"The licenses.\n"
    for name, data in files.items():
        path = app / "Contents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if data.startswith(b"\xcf\xfa\xed\xfe") else 0o644)

    def rcodesign_does(*words):
        subprocess.run([str(word) for word in (rcodesign, *words)], cwd=folder, check=True, capture_output=True)

    def sign(path, entitlement):
        rights = folder / "entitlements.plist"
        rights.write_bytes(plistlib.dumps({entitlement: True}))
        words = ["--timestamp-url", "none", "--team-name", "MLXRTEST01", "--code-signature-flags", "runtime"]
        words += ["--pem-file", "test.key", "--pem-file", "test.crt"]
        rcodesign_does("sign", *words, *(["--entitlements-xml-path", rights] if entitlement else []), path)

    person = ["--person-name", "mlxrank test", "--team-id", "MLXRTEST01", "--algorithm", "ecdsa"]
    rcodesign_does("generate-self-signed-certificate", *person, "--pem-filename", "test")
    for name in ("libmlx", "libmlxrank", "libmlxr"):
        sign(app / "Contents/Frameworks" / f"{name}.dylib", "")
    # Beside the app, its executable with another entitlement.
    relaxed = app.parent / "relaxed"
    relaxed.write_bytes(files["MacOS/Signed"])
    sign(relaxed, "com.apple.security.cs.disable-library-validation")
    sign(app, "com.apple.security.app-sandbox")
    return app.parent


def metallib(system, language, names):
    """A library of Metal kernels as far as mlxrank reads it: no kernel is in it."""
    functions = struct.pack("<I", len(names))
    for name in names:
        text = name.encode() + b"\0"
        fields = b"NAME" + struct.pack("<H", len(text)) + text
        fields += b"VERS" + struct.pack("<5H", 8, 2, 6, *language) + b"ENDT"
        functions += struct.pack("<I", 4 + len(fields)) + fields
    body = functions + b"ENDT"
    head = b"MTLB" + struct.pack("<HHHBBHH", 0x8001, 2, 7, 0, 0x81, *system)
    head += struct.pack("<Q", 88 + len(body)) + struct.pack("<2Q", 88, len(functions) - 4)
    return head.ljust(88, b"\0") + body


def pack(folder, target):
    """Zips a folder so that only the files' own bytes and modes matter."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            member = zipfile.ZipInfo(str(path.relative_to(folder)))
            member.external_attr = (path.stat().st_mode & 0xFFFF) << 16
            archive.writestr(member, path.read_bytes(), zipfile.ZIP_DEFLATED)
    print(f"{target}: {target.stat().st_size} bytes")


def universal(path, parts):
    """Joins files for some architectures into one, as lipo does."""
    data = struct.pack(">2I", 0xCAFEBABE, len(parts))
    bodies, at = [], 0x4000
    for cpu, sub, part in parts:
        body = part.read_bytes()
        data += struct.pack(">5I", cpu, sub, at, len(body), 14)
        bodies.append((at, body))
        at = (at + len(body) + 0x3FFF) & ~0x3FFF
    for start, body in bodies:
        data = data.ljust(start, b"\0") + body
    path.write_bytes(data)


if __name__ == "__main__":
    main()
