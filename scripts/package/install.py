"""make install: the program, the C library, their native parts and the model, under a prefix."""

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path

from setup.parts import BUILTIN
from setup.project import LINUX
from setup.steps import SetupError, copy_atomic, files_under, run


def layout(project):
    """What is installed: pairs of a path under the prefix and the file that goes there.

    The release archives and the Homebrew formula have this layout too.
    """
    build, capi = project.build, project.build / "capi"
    library = "libmlxr.so" if project.host == LINUX else "libmlxr.dylib"
    return [
        ("bin/mlxrank", build / "bin" / "mlxrank"),
        ("include/mlxr.h", capi / "include" / "mlxr.h"),
        (f"lib/{library}", capi / "lib" / library),
        ("lib/libmlxr-static.a", capi / "lib" / "libmlxr-static.a"),
        ("lib/pkgconfig/mlxr.pc", capi / "lib/pkgconfig/mlxr.pc"),
        ("lib/pkgconfig/mlxr-static.pc", capi / "lib/pkgconfig/mlxr-static.pc"),
        *tree("lib/mlxrank", project.lib),
        ("lib/mlxrank/libtokenizers.a", build / "tokenizers" / "libtokenizers.a"),
        *tree(f"share/mlxrank/models/{BUILTIN}", build / "models" / BUILTIN),
        ("share/mlxrank/THIRD_PARTY_NOTICES.txt", build / "THIRD_PARTY_NOTICES.txt"),
        ("share/mlxrank/LICENSE", project.root / "LICENSE"),
    ]


def tree(target, folder):
    """Every file of a folder, at the same place below target."""
    files = [path for path in files_under(folder) if not path.name.startswith(".")]
    return [(f"{target}/{path.relative_to(folder).as_posix()}", path) for path in files]


def is_program(path):
    """Reports whether a path of the layout is installed as executable."""
    return path.startswith("bin/") or path.endswith((".so", ".dylib")) or ".so." in path


def destination():
    """DESTDIR and PREFIX, joined: where the files are put."""
    prefix = os.environ.get("PREFIX") or "/usr/local"
    if not os.path.isabs(prefix):
        raise SetupError(f"PREFIX={prefix} is not an absolute path")
    return Path(os.environ.get("DESTDIR", "") + prefix)


def install(project):
    place(project, destination())


def place(project, folder):
    """Installs into folder. A file that it replaces stays whole for programs that have it open."""
    files = layout(project)
    missing = [str(source) for _, source in files if not source.is_file()]
    if missing:
        raise SetupError(
            "\n".join(["files to install were not built:", *(f"  {path}" for path in missing)]), advice="run `make build capi`"
        )
    old = os.umask(0o022)  # new folders are for everyone
    try:
        for path, source in files:
            copy_atomic(source, folder / path)
            (folder / path).chmod(0o755 if is_program(path) else 0o644)
    except OSError as err:
        raise SetupError(
            f"installing into {folder}: {err}", advice="choose another place (make install PREFIX=$HOME/.local), or become root"
        ) from err
    finally:
        os.umask(old)
    project.steps.out.write(f"installed {len(files)} files into {folder}\n")


def uninstall(project):
    """Removes what install puts there, and the folders that this leaves empty."""
    folder = destination()
    folders = set()
    for path, _ in layout(project):
        with contextlib.suppress(FileNotFoundError):
            (folder / path).unlink()
        folders.update((folder / path).parents)
    ours = [path for path in folders if path.is_relative_to(folder) and "mlxrank" in path.parts]
    for path in sorted(ours, reverse=True):
        with contextlib.suppress(OSError):  # absent, or something of others is in it
            path.rmdir()


def check(project):
    """An installed tree ranks in an empty environment, under a path with a space."""
    capi = project.build / "capi"
    made = {path for path in files_under(capi) if not path.is_symlink()}
    left = made - {source for _, source in layout(project)}
    if left:
        names = ", ".join(sorted(str(path) for path in left))
        raise SetupError(f"make install leaves out {names}, which make capi makes")
    with tempfile.TemporaryDirectory(prefix="mlxrank ") as folder:
        prefix = Path(folder) / "pre fix"
        place(project, prefix)
        # On a Mac, auto is the GPU.
        for device in ("cpu", "auto"):
            title = f"ranking from an installed tree on device {device}"
            project.steps.always(title, lambda device=device: rank(project, prefix, device))


def rank(project, prefix, device="auto"):
    """Ranks with the program of an installed tree, in an empty environment."""
    documents = project.root / "scripts" / "demo" / "documents.jsonl"
    command = [prefix / "bin/mlxrank", "rerank", "--model", "builtin", "--device", device, "--top-n", "1"]
    command += ["--documents", documents, "--query", "monitor changes to configuration files"]
    command = [str(word) for word in command]
    # In / there is no go.mod whose build folder would be searched.
    done = subprocess.run(command, cwd="/", env={}, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0 or "File::Modified" not in done.stdout:
        raise SetupError(f"ranking from {prefix}, exit status {done.returncode}", command, done.stdout + done.stderr)
    doctor = run(["env", "-i", prefix / "bin/mlxrank", "doctor", "--device", device], "doctor of an installed tree", cwd="/")
    for part in ("lib/mlxrank", f"share/mlxrank/models/{BUILTIN}"):
        if str(prefix / part) not in doctor:
            raise SetupError(f"doctor does not name {prefix / part}", output=doctor)
