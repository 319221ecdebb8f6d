"""What is compiled: the tokenizer library (cargo) and the shim (CMake)."""

import contextlib
import json
import os
import re
import shutil

from .gotools import go_module
from .project import LINUX
from .steps import copy_atomic, files_under, run, sha256

TOKENIZERS = "github.com/daulet/tokenizers"
CRATE = "scripts/setup/tokenizers"
CRATES = f"the Rust crates of {CRATE}/Cargo.lock, from the crate registry, through cargo"


def crate_inputs(project):
    """What the crates depend on: a manifest, a lock, and a Go module by hash."""
    folder = project.root / CRATE
    sources = sorted((folder / "src").glob("*.rs"))
    files = [folder / "Cargo.toml", folder / "Cargo.lock", *sources]
    sums = (project.root / "go.sum").read_text(encoding="utf-8").splitlines()
    sums = [line for line in sums if line.startswith(TOKENIZERS + " ")]
    wanted = re.findall(rf"{TOKENIZERS} (v\S+)", (project.root / "go.mod").read_text("utf-8"))
    return [[sha256(path) for path in files], sums, wanted]


def crate_metadata(project, *options):
    """cargo metadata of our crate, which has been fetched."""
    command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1", *options]
    return json.loads(run(command, CRATES, cwd=project.root / CRATE))


def mlx_c(project):
    """build/mlx-c: the source of mlx-c, out of the crate that carries it."""

    def place_mlx_c():
        run(["cargo", "fetch", "--locked"], CRATES, "check the network and cargo's configuration, then run again", cwd=project.root / CRATE)
        crates = crate_metadata(project)["packages"]
        manifest = next(crate["manifest_path"] for crate in crates if crate["name"] == "mlx-sys")
        shutil.rmtree(project.mlx_c, ignore_errors=True)
        shutil.copytree(os.path.join(os.path.dirname(manifest), "src", "mlx-c"), project.mlx_c)
        return files_under(project.mlx_c)

    project.steps.do("mlx-c", "fetching crates and the source of mlx-c", crate_inputs(project)[0], place_mlx_c)


def tokenizers(project):
    """build/tokenizers/libtokenizers.a, where engine/tokenizer.go has the linker look."""
    archive = project.build / "tokenizers" / "libtokenizers.a"
    target = project.build / "cargo"

    def build_tokenizers():
        module = go_module(project, TOKENIZERS)
        run(
            ["cargo", "build", "--release", "--locked", "--offline"],
            f"building the tokenizer library from {TOKENIZERS} {module['Version']}",
            "see the compiler's message; scripts/setup/tokenizers/Cargo.toml must name the dependencies "
            "that this version of the module's source uses",
            cwd=project.root / CRATE,
            env={"CARGO_TARGET_DIR": str(target), "MLXRANK_TOKENIZERS_MODULE": module["Dir"]},
        )
        built = target / "release" / "libtokenizers.a"
        copy_atomic(built, archive)
        shutil.rmtree(target)
        link_again(project)
        return [archive]

    inputs = [crate_inputs(project), run(["rustc", "-vV"], "asking rustc for its version")]
    title = "building the tokenizer library (about a minute)"
    project.steps.do("tokenizers", title, inputs, build_tokenizers)


def link_again(project):
    """Go looks at the names of the libraries it links, not at what is in them."""
    (project.build / "bin" / "mlxrank").unlink(missing_ok=True)
    run(["go", "clean", "-testcache"], "go clean", cwd=project.root)


def library(project):
    """build/lib/libmlxrank: the shim, out of native/ and what is unpacked.

    The hash of its sources decides, so that a copied build folder, whose CMake
    files name another path, needs no compiler.
    """

    def build_library():
        shim(project, "native", project.lib)
        if project.host == LINUX:
            return [project.lib / "libmlxrank.so"]
        return [project.lib / "libmlxrank.dylib", for_newer_mlx(project)]

    inputs = {
        "sources": [[str(path.relative_to(project.root)), sha256(path)] for path in files_under(project.root / "native")],
        "mlx": project.pin("wheel", project.mlx_wheel),
        "mlx-c": crate_inputs(project)[0],
        "compiler": [compilers(), run([os.environ.get("CXX", "c++"), "--version"], "asking the compiler for its version")],
    }
    if project.host == LINUX:
        inputs["debs"] = [project.pin("deb", name) for name in ("libfmt-dev", "libhwy-dev", "libhwy1")]
    project.steps.do("native", None, inputs, build_library)


def for_newer_mlx(project):
    """Copies libmlxrank to the newer build of MLX, since it looks for libmlx in its own folder."""
    copy = project.lib / "macos26" / "libmlxrank.dylib"
    copy_atomic(project.lib / "libmlxrank.dylib", copy)
    return copy


def compilers():
    """The environment that CMake takes compilers and flags from."""
    return [os.environ.get(name) for name in ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS")]


def shim(project, folder, lib, target="all", defines=(), env=None):
    """Configures native/ in build/folder if its settings changed, and builds target.

    The shim goes to lib. Ninja decides what is compiled.
    """
    build = project.build / folder
    settings = {
        "CMAKE_BUILD_TYPE": "Release",
        "MLX_ROOT": project.mlx,
        "MLX_VERSION": project.pins["mlx"]["version"],
        "MLX_C_SOURCE": project.mlx_c,
        "MLXRANK_LIB_DIR": lib,
    }
    if project.host == LINUX:
        settings["MLXRANK_FMT_INCLUDE"] = project.build / "debs/libfmt-dev/usr/include"
        settings["MLXRANK_HWY_INCLUDE"] = project.build / "debs/libhwy-dev/usr/include"
        settings["MLXRANK_HWY_LIBRARY"] = project.lib / "libhwy.so.1"
    settings.update(defines)
    command = ["cmake", "-S", project.root / "native", "-B", build, "-G", "Ninja"]
    command += [f"-D{key}={value}" for key, value in settings.items()]

    def configure():
        with contextlib.suppress(FileNotFoundError):
            (build / "CMakeCache.txt").unlink()
        run(command, f"configuring the native library in {build}", env=env)
        return [build / "CMakeCache.txt", build / "build.ninja"]

    # CMake's files name absolute paths: a moved folder is configured again.
    inputs = [[str(word) for word in command], compilers()]
    project.steps.do(f"configure-{folder}", f"configuring {build.name}", inputs, configure)

    command = ["cmake", "--build", build, "--target", target]
    what = f"building the native library in {build}"
    if "no work to do" not in run([*command, "--", "-n"], what, env=env):
        project.steps.always(f"building {build.name}", lambda: run(command, what, env=env))


def faults(project):
    """build/native/faults/libmlxrank, which injects faults that a test asks for."""
    shim(project, "native", project.lib, "mlxrank_faults")


def smoke(project):
    """Builds the shim and its C tests with sanitizers, and runs the tests."""
    lib = project.build / "native-asan" / "lib"
    sanitize = {"MLXRANK_SANITIZE": "ON", "CMAKE_BUILD_TYPE": "RelWithDebInfo"}
    if project.host == LINUX:
        sanitize["MLXRANK_METAL_EMULATOR"] = "ON"
    link_libraries(project, lib)  # the tests are linked with libmlx there
    shim(project, "native-asan", lib, "tests", sanitize)
    command = ["ctest", "--test-dir", project.build / "native-asan", "--output-on-failure", "--parallel", "2"]
    what = "the smoke test of the native library, with address and undefined-behaviour sanitizers"
    project.steps.always("testing native with sanitizers", lambda: run(command, what))


def emulator(project):
    """build/native/emulator/libmlxrank, whose Metal kernels run on the CPU, emulated."""
    shim(project, "native", project.lib, "mlxrank_emulator")


def link_libraries(project, lib):
    """Links what libmlxrank loads into the folder of another build of it."""
    lib.mkdir(parents=True, exist_ok=True)
    for path in project.lib.iterdir():
        link = lib / path.name
        if not link.exists() and "mlxrank" not in link.name:
            link.symlink_to(os.path.relpath(path, lib))


def measure(project):
    """build/native/measure, the native part of make verify-mac."""
    shim(project, "native", project.lib, "measure")
