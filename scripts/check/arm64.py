"""Builds and tests for Linux on arm64, on x86_64: a cross compiler and an emulator.

The native library, its C tests and the tests against PyTorch's logits run
under qemu, with the libmlx.so of the pinned arm64 wheel. What needs a
tokenizer does not: the Rust library is a stub that aborts.
"""

import re

from setup import native, parts
from setup.fetch import download
from setup.gotools import go_module
from setup.project import LINUX, LINUX_ARM64, Project
from setup.steps import SetupError, copy_atomic, files_under, run, write_atomic

# A processor with NEON and AES and without SVE, as many servers have one.
PROCESSOR = "neoverse-n1"
# All are unpacked into one folder, where gcc finds its parts.
DEBS = [f"{name}-aarch64-linux-gnu" for name in ("binutils", "cpp-12", "gcc-12", "g++-12")]
DEBS += ["libgcc-12-dev-arm64-cross", "libgcc-s1-arm64-cross"]
DEBS += ["libstdc++-12-dev-arm64-cross", "libstdc++6-arm64-cross"]
DEBS += ["linux-libc-dev-arm64-cross", "libc6-dev-arm64-cross", "libc6-arm64-cross"]
LIBRARIES = ["libopenblas0-pthread:arm64", "libgfortran5:arm64", "libhwy1:arm64"]
# Scripts in build/arm64/bin, which find build/arm64/root beside them.
COMPILER = """#!/bin/sh
root=$(cd "${{0%/*}}/../root" && pwd)
export LD_LIBRARY_PATH="$root/usr/lib/x86_64-linux-gnu"
exec "$root/usr/bin/aarch64-linux-gnu-{name}" --sysroot="$root" "$@"
"""
EMULATE = """#!/bin/sh
here=$(cd "${{0%/*}}" && pwd)
exec "$here/../debs/qemu-user-static/usr/bin/qemu-aarch64-static" -cpu {processor} -L "$here/../root/usr/aarch64-linux-gnu" "$@"
"""
STUB = """#include <stdio.h>
#include <stdlib.h>
#define STUB(name) void name(void) { fputs(#name ": no tokenizer here\\n", stderr); abort(); }
"""
# Patterns that the output of the C and the Go tests must match, each at least this often.
SAID_BY_C = {r"NEON, panels of.*": 1, r"SCALAR, panels of.*": 1, r"smoke: ok.*": 1, r"100% tests passed.*": 1}
GO_TESTS = {"./mlx": "PairScoresTheSameInAnyCompany|SeveralLabels|GraphIsOfThisProcessorsKernels", "./engine": "TinyModelsMatchPyTorch"}
SAID_BY_GO = {r"computed by NEON\b.*": 1, r"float32: off by.*": 7, r"control .* is off by.*": 35, r"(?m)^--- PASS: Test.*": 4}


def check(project):
    """make check-arm64."""
    if project.host != LINUX:
        project.steps.out.write("check-arm64: it needs Debian on x86_64\n")
        return
    arm = Project(project.root, LINUX_ARM64, project.build / "arm64")
    arm.downloads, arm.mlx_c = project.downloads, project.mlx_c
    toolchain(arm)
    libraries(arm)
    headers = project.build / "debs"
    shim(arm, headers / "libfmt-dev/usr/include", headers / "libhwy-dev/usr/include")
    c_tests(arm)
    tokenizers(arm)
    go_tests(arm)
    project.steps.out.write(f"check-arm64: passed under emulation of {PROCESSOR}, in {arm.build}\n")


def toolchain(arm):
    """build/arm64/root, a file system with the cross compiler; and wrappers in bin."""
    parts.deb(arm, "qemu-user-static")
    names = [*DEBS, *LIBRARIES]
    packages = {name: download(arm, arm.pin("deb", name)) for name in names}
    root, tools = arm.build / "root", arm.build / "bin"

    def unpack_toolchain():
        root.mkdir(parents=True, exist_ok=True)
        for name in names:
            run(["dpkg-deb", "-x", packages[name], root], f"unpacking {name}")
        wrappers = {
            "cc": COMPILER.format(name="gcc-12"),
            "c++": COMPILER.format(name="g++-12"),
            "emulate": EMULATE.format(processor=PROCESSOR),
        }
        for name, text in wrappers.items():
            write_atomic(tools / name, text.encode())
            (tools / name).chmod(0o755)
        return [*files_under(root), *files_under(tools)]

    inputs = [[arm.pin("deb", name) for name in names], PROCESSOR, COMPILER, EMULATE]
    arm.steps.do("toolchain", "unpacking the cross compiler", inputs, unpack_toolchain)


def libraries(arm):
    """build/arm64/mlx and lib: as for x86_64, with OpenBLAS for the wheel's BLAS."""
    blas = arm.pins["blas:arm64"]["file"]
    parts.mlx(arm, skip=blas)
    found = arm.build / "root/usr/lib/aarch64-linux-gnu"

    def place_libraries():
        made = []
        for source, target in {
            "openblas-pthread/libopenblasp-r0.3.21.so": blas,
            "libgfortran.so.5": "libgfortran.so.5",
            "libhwy.so.1": "libhwy.so.1",
        }.items():
            copy_atomic(found / source, arm.lib / target)
            made.append(arm.lib / target)
        return made

    inputs = [[arm.pin("deb", name) for name in LIBRARIES], blas]
    arm.steps.do("system-libraries", "placing OpenBLAS and Highway", inputs, place_libraries)


def shim(arm, fmt, highway):
    """Cross-compiles libmlxrank.so and the C tests."""
    defines = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_C_COMPILER": arm.build / "bin/cc",
        "CMAKE_CXX_COMPILER": arm.build / "bin/c++",
        # gcc 12.2 for arm64 fails in its vectorizer on the C test's reference;
        # the code under test is C++, which keeps its flags.
        "CMAKE_C_FLAGS": "-fno-tree-vectorize",
        "CMAKE_CROSSCOMPILING_EMULATOR": arm.build / "bin/emulate",
        "MLXRANK_FMT_INCLUDE": fmt,
        "MLXRANK_HWY_INCLUDE": highway,
        "MLXRANK_HWY_LIBRARY": arm.lib / "libhwy.so.1",
    }
    native.shim(arm, "native", arm.lib, "all", defines)
    native.shim(arm, "native", arm.lib, "tests", defines)


def c_tests(arm):
    """The kernels against double precision, and the smoke test on them.

    The test takes two minutes under qemu, and longer on the unfused graph, which
    runs only MLX's code for this processor: that graph is left out.
    """
    command = ["ctest", "--test-dir", arm.build / "native", "--verbose"]
    command += ["--exclude-regex", "plain_graph"]
    title, what = "testing native under qemu", "the C tests under qemu"
    output = arm.steps.always(title, lambda: run(command, what))
    expect_lines(arm, what, output, SAID_BY_C)


def tokenizers(arm):
    """build/arm64/stubs/libtokenizers.a: every function that Go calls, each aborts."""
    with open(go_module(arm, native.TOKENIZERS)["Dir"] + "/tokenizer.go", encoding="utf-8") as source:
        names = set(re.findall(r"\b(tokenizers_\w+)\(", source.read()))
    text = STUB + "".join(f"STUB({name})\n" for name in sorted(names))
    folder = arm.build / "stubs"

    def write_stub():
        source, compiled = folder / "tokenizers.c", folder / "tokenizers.o"
        archive = folder / "libtokenizers.a"
        write_atomic(source, text.encode())
        run([arm.build / "bin/cc", "-c", source, "-o", compiled], "compiling a stub")
        run(["ar", "rcs", archive, compiled], "archiving a stub")
        return [archive]

    arm.steps.do("stub", "stubbing the tokenizer library", [text], write_stub)


def go_tests(arm):
    """The tiny models against PyTorch's logits, and their negative controls."""
    env = {
        "GOOS": "linux",
        "GOARCH": "arm64",
        "CGO_ENABLED": "1",
        "CC": str(arm.build / "bin/cc"),
        "CXX": str(arm.build / "bin/c++"),
        "CGO_LDFLAGS": f'"-L{arm.build / "stubs"}"',
        "MLXRANK_LIBRARY": str(arm.lib / "libmlxrank.so"),
    }
    command = ["go", "test", "-count=1", "-v", "-timeout=30m", "-exec", arm.build / "bin/emulate"]
    what = "the tests against PyTorch under qemu"
    output = ""
    for package, tests in GO_TESTS.items():
        command_of = [*command, "-run", f"^Test({tests})$", package]
        output += arm.steps.always(f"testing {package} under qemu", lambda command=command_of: run(command, what, cwd=arm.root, env=env))
    expect_lines(arm, what, output, SAID_BY_GO)


def expect_lines(arm, what, output, wanted):
    """Prints the lines that match wanted; fails if there are too few of a pattern."""
    for pattern, least in wanted.items():
        found = re.findall(pattern, output)
        if len(found) < least:
            raise SetupError(f"{what}: {len(found)} lines match {pattern!r}, want {least}", None, output)
        for line in found:
            arm.steps.out.write(f"  {line}\n")
