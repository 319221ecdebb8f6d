"""build/capi: the C API as an installed tree has it, for make capi.

include/mlxr.h
lib/libmlxr.so or .dylib, with the tokenizer inside; lib/libmlxr-static.a
lib/mlxrank/    what libmlxr loads, and the tokenizer that the archive wants
lib/pkgconfig/  mlxr.pc, mlxr-static.pc
share/mlxrank/models/
"""

import os
import re

from .project import LINUX
from .steps import copy_atomic, run, write_atomic

# Go interrupts goroutines by signals, which a host's own handlers may not bear:
# they would run on the small stacks of Go's threads.
NO_SIGNALS = "-X=runtime.godebugDefault=asyncpreemptoff=1"
# Libraries that a program needs beside libmlxr-static.a and the tokenizer.
STATIC_LINUX = "-lstdc++ -lm -ldl -lresolv -lpthread"
STATIC_MACOS = "-lc++ -lresolv -framework CoreFoundation -framework Security"

PKG_CONFIG = """\
prefix=${{pcfiledir}}/../..
includedir=${{prefix}}/include
libdir=${{prefix}}/lib

Name: {name}
Description: Ranks passages for a query with cross-encoders on MLX
URL: https://github.com/mlxrank/mlxrank
Version: {version}
Cflags: -I${{includedir}}
Libs: {libs}
"""
SHARED = "-L${libdir} -lmlxr"
STATIC = "-L${{libdir}} -lmlxr-static -L${{libdir}}/mlxrank -ltokenizers {more}"


def build(project):
    """Builds build/capi. go build decides what to compile again."""
    tree = project.build / "capi"
    copy_atomic(project.root / "capi" / "mlxr.h", tree / "include" / "mlxr.h")
    project.steps.always("building libmlxr", lambda: libraries(project, tree / "lib"))
    version = version_of(project)
    more = STATIC_LINUX if project.host == LINUX else STATIC_MACOS
    for name, libs in (("mlxr", SHARED), ("mlxr-static", STATIC.format(more=more))):
        text = PKG_CONFIG.format(name=name, version=version, libs=libs)
        write_atomic(tree / "lib" / "pkgconfig" / f"{name}.pc", text.encode())
    parts = [*project.lib.iterdir(), project.build / "tokenizers" / "libtokenizers.a"]
    for part in parts:
        link(part, tree / "lib" / "mlxrank" / part.name)
    for model in (project.build / "models").iterdir():
        link(model, tree / "share" / "mlxrank" / "models" / model.name)


def libraries(project, folder):
    folder.mkdir(parents=True, exist_ok=True)
    shared = "libmlxr.so" if project.host == LINUX else "libmlxr.dylib"
    go_build(project, "c-shared", folder / shared)
    go_build(project, "c-archive", folder / "libmlxr-static.a")


def go_build(project, mode, output, env=None):
    """Builds package capi, with no symbols shown but the API's."""
    command = ["go", "build", "-trimpath", f"-buildmode={mode}", "-o", output]
    command += [f"-ldflags={link_flags(project, mode)}", "./capi"]
    run(command, f"building {output}", cwd=project.root, env={"CGO_ENABLED": "1", **(env or {})})
    output.with_suffix(".h").unlink()  # of cgo's making: ours is mlxr.h


def link_flags(project, mode):
    flags = f"-s -w {NO_SIGNALS}"
    if mode != "c-shared":
        return flags
    exports = project.root / "capi"
    if project.host == LINUX:
        names = f"-Wl,--version-script={exports / 'exports.map'} -Wl,-soname,libmlxr.so"
    else:
        names = f"-Wl,-exported_symbols_list,{exports / 'exports.txt'}"
        names += " -Wl,-install_name,@rpath/libmlxr.dylib"
    return f"{flags} -extldflags '{names}'"


def version_of(project):
    source = (project.root / "engine" / "doc.go").read_text(encoding="utf-8")
    return re.search(r'Version = "(.+)"', source).group(1)


def link(target, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = os.path.relpath(target, path.parent)
    if path.is_symlink() and os.readlink(path) == wanted:
        return
    path.unlink(missing_ok=True)
    path.symlink_to(wanted)
