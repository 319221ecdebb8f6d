"""Compiles and links for macOS on arm64 from Linux, with zig as the compiler.

The shim is linked against the libmlx.dylib of the pinned wheel, so that every
symbol it wants from MLX must be there. Apple's own frameworks are stubs
without symbols, and so is the Rust library: the executable links, it does not
run.
"""

import re

from setup import capi, native, parts
from setup.fetch import download, unpack_wheel
from setup.project import LINUX, MACOS, Project
from setup.steps import expect, run, write_atomic

from . import darwin_apps, darwin_frameworks
from .darwin_apps import macho

TARGET = "aarch64-macos.14.0"
SHIM_FRAMEWORKS = ["Metal", "Foundation", "QuartzCore", "Accelerate"]
GO_FRAMEWORKS = ["CoreFoundation", "Security"]
# Go probes the compiler with source on standard input. zig writes the object
# of that to "-.o" in the working folder and ignores -o.
WRAPPER = """#!/bin/sh
here=$(cd "${{0%/*}}" && pwd)
case " $* " in *" - "*) cd "$here" ;; esac
exec "$here/../zig/ziglang/zig" {mode} "$@"
"""
LIBRARIES = {"resolv": "/usr/lib/libresolv.9.dylib"}
# Of Apple's headers zig lacks one, which Prometheus's client includes.
HEADERS = {
    "mach/mach_vm.h": """#include <mach/mach_types.h>
#include <mach/vm_region.h>
kern_return_t mach_vm_region(vm_map_t, mach_vm_address_t *, mach_vm_size_t *, vm_region_flavor_t, vm_region_info_t,
                             mach_msg_type_number_t *, mach_port_t *);
"""
}


def check(project):
    """make check-darwin."""
    if project.host != LINUX:
        project.steps.out.write("check-darwin: this is macOS: make build compiles; here the frameworks are checked\n")
        darwin_frameworks.check(project, project.build)
        return
    mac = cross(project)
    stubs(mac)
    parts.mlx(mac)
    shim(mac)
    env = go_environment(mac)
    executable(mac, env)
    c_api(mac, env)
    darwin_apps.check(project, mac, env)
    darwin_frameworks.check_linked(project, mac, env)
    project.steps.out.write(f"check-darwin: linked for arm64, in {mac.build}\n")


def cross(project):
    """build/darwin as a project of its own, for macOS, with zig in place."""
    mac = Project(project.root, MACOS, project.build / "darwin")
    mac.downloads, mac.mlx_c = project.downloads, project.mlx_c
    tools(mac)
    return mac


def clang(project):
    """build/darwin/zig, which is clang, and pkg-config, for the C API's tests on Linux."""
    if project.host == LINUX:
        parts.deb(project, "pkgconf-bin")
        parts.deb(project, "libpkgconf3")
        cross(project)


def environment(mac):
    """Keeps zig's caches in the build folder too."""
    cache = str(mac.build / "zig-cache")
    return {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}


def tools(mac):
    """zig, and scripts in build/darwin/bin that CMake and go take for compilers."""
    pin = mac.pin("wheel", "ziglang")
    wheel = download(mac, pin)
    zig = mac.build / "zig" / "ziglang" / "zig"

    def unpack_zig():
        unpack_wheel(wheel, lambda name: mac.build / "zig" / name)
        zig.chmod(0o755)
        made = [zig]
        # zig's C++ library and macOS headers together define NAN and INFINITY
        # only where __STRICT_ANSI__ is not defined.
        modes = {"cc": f"cc -target {TARGET}", "c++": f"c++ -target {TARGET} -U__STRICT_ANSI__", "ar": "ar", "ranlib": "ranlib"}
        for name, mode in modes.items():
            path = mac.build / "bin" / name
            write_atomic(path, WRAPPER.format(mode=mode).encode())
            path.chmod(0o755)
            made.append(path)
        return made

    inputs = [pin, TARGET, WRAPPER]
    mac.steps.do("zig", f"unpacking zig {pin['version']}", inputs, unpack_zig)


def stubs(mac):
    """build/darwin/stubs: Apple's libraries by name only, a header, and no tokenizers."""
    folder = mac.build / "stubs"

    def write_stubs():
        made = []
        for name in SHIM_FRAMEWORKS + GO_FRAMEWORKS:
            install = f"/System/Library/Frameworks/{name}.framework/Versions/A/{name}"
            made.append(write_tbd(folder / f"{name}.framework" / f"{name}.tbd", install))
        for name, install in LIBRARIES.items():
            made.append(write_tbd(folder / f"lib{name}.tbd", install))
        for name, text in HEADERS.items():
            path = folder / "include" / name
            write_atomic(path, text.encode())
            made.append(path)
        source = folder / "tokenizers.c"
        write_atomic(source, b"void mlxrank_no_tokenizers(void) {}\n")
        env, compiled = environment(mac), folder / "tokenizers.o"
        archive = folder / "libtokenizers.a"
        run([mac.build / "bin/cc", "-c", source, "-o", compiled], "compiling a stub", env=env)
        run([mac.build / "bin/ar", "rcs", archive, compiled], "archiving a stub", env=env)
        return [*made, archive]

    inputs = [SHIM_FRAMEWORKS, GO_FRAMEWORKS, LIBRARIES, HEADERS]
    mac.steps.do("stubs", "writing stubs of Apple's libraries", inputs, write_stubs)


def write_tbd(path, install_name):
    """A text-based stub library: a name to link to, and no symbols."""
    lines = ["--- !tapi-tbd", "tbd-version: 4", "targets: [ arm64-macos ]"]
    lines += [f"install-name: '{install_name}'", "...", ""]
    write_atomic(path, "\n".join(lines).encode())
    return path


def shim(mac):
    """Links libmlxrank.dylib and checks what it needs and shows."""
    tool = mac.build / "bin"
    defines = {
        "CMAKE_SYSTEM_NAME": "Darwin",
        "CMAKE_SYSTEM_PROCESSOR": "arm64",
        "CMAKE_USER_MAKE_RULES_OVERRIDE": mac.root / "scripts/check/darwin_rules.cmake",
        "CMAKE_C_COMPILER": tool / "cc",
        "CMAKE_CXX_COMPILER": tool / "c++",
        "CMAKE_AR": tool / "ar",
        "CMAKE_RANLIB": tool / "ranlib",
        "CMAKE_SHARED_LINKER_FLAGS": f"-F{mac.build / 'stubs'}",
        # It is only linked: the quickest compilation will do.
        "CMAKE_BUILD_TYPE": "",
        "CMAKE_C_FLAGS": "-O0 -fno-sanitize=all",
        "CMAKE_CXX_FLAGS": "-O0 -fno-sanitize=all",
    }
    native.shim(mac, "native", mac.lib, "mlxrank", defines, environment(mac))
    library = mac.lib / "libmlxrank.dylib"
    found = macho(mac, library)
    expect(library, "architecture and kind", found.kind, "CpuArm64 Dylib")
    expect(library, "name", found.name, "@rpath/libmlxrank.dylib")
    expect(library, "run paths", found.rpaths, ["@loader_path"])
    expect(library, "use of libmlx", "@rpath/libmlx.dylib" in found.dylibs, True)
    # zig does not apply the list of exported symbols, so C++ templates of MLX
    # are left over; of C functions there must be ours and, of mlx-c's, none.
    functions = {name for name in found.exports if not name.startswith("__")}
    header = (mac.root / "native" / "mlxrank.h").read_text(encoding="utf-8")
    declared = {"_" + name for name in re.findall(r"^int32_t (mlxrank_\w+)\(", header, re.MULTILINE)}
    expect(library, "exported functions", sorted(functions), sorted(declared))


def go_environment(mac):
    """Returns the environment in which go builds for macOS on arm64."""
    search = f'"-L{mac.build / "stubs"}" "-F{mac.build / "stubs"}"'
    return {
        "GOOS": "darwin",
        "GOARCH": "arm64",
        "CGO_ENABLED": "1",
        "CC": str(mac.build / "bin/cc"),
        "CXX": str(mac.build / "bin/c++"),
        "CGO_CFLAGS": f"-O2 -I{mac.build / 'stubs' / 'include'}",
        "CGO_LDFLAGS": f"{search} -Wl,-undefined,dynamic_lookup",
        **environment(mac),
    }


def executable(mac, env):
    """Vets the Go code for macOS and links the command. With the same flags, both take the same compiled packages."""
    vet = ["go", "vet", "-trimpath", "./..."]
    mac.steps.always("go vet for macOS", lambda: run(vet, "go vet for macOS on arm64", cwd=mac.root, env=env))
    binary = mac.build / "mlxrank"
    command = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./cmd/mlxrank"]
    what = "linking the executable for macOS on arm64"
    mac.steps.always("go build for macOS", lambda: run(command, what, cwd=mac.root, env=env))
    found = macho(mac, binary)
    expect(binary, "architecture and kind", found.kind, "CpuArm64 Exec")
    ours = [name for name in found.dylibs if "mlx" in name]
    expect(binary, "linked MLX libraries", ours, [])


def c_api(mac, env):
    """Links libmlxr.dylib, the C API, and checks what it needs and shows."""
    library = mac.lib / "libmlxr.dylib"
    mac.steps.always("go build of libmlxr for macOS", lambda: capi.go_build(mac, "c-shared", library, env))
    found = macho(mac, library)
    expect(library, "architecture and kind", found.kind, "CpuArm64 Dylib")
    expect(library, "name", found.name, "@rpath/libmlxr.dylib")
    expect(library, "linked MLX libraries", [name for name in found.dylibs if "mlx" in name], [])
    # As of the shim, zig does not apply the list of exported symbols.
    header = (mac.root / "capi" / "mlxr.h").read_text(encoding="utf-8")
    declared = {"_" + name for name in re.findall(r"^(?:int32_t |const char \*)(mlxr_\w+)\(", header, re.MULTILINE)}
    shown = {name for name in found.exports if name.startswith("_mlxr_")}
    expect(library, "functions of the API", sorted(shown), sorted(declared))
