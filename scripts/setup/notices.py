"""build/THIRD_PARTY_NOTICES.txt: the license of every part that is linked or shipped."""

import re
from pathlib import Path

from .native import CRATE, crate_metadata
from .parts import DEBS, ENCODER
from .project import LINUX
from .steps import SetupError, run, sha256, write_atomic

NAMES = re.compile(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)([-._].*)?$", re.IGNORECASE)
NOT_TEXT = {".rs", ".py", ".html", ".go", ".toml"}


def write(project):
    """Collects the texts out of the parts themselves, after the build."""
    binary = project.build / "bin" / "mlxrank"
    linked = run(["go", "version", "-m", binary], f"reading which modules {binary} is linked from")
    modules = re.findall(r"^\tdep\t(\S+)\t(\S+)", linked, re.MULTILINE)
    target = project.build / "THIRD_PARTY_NOTICES.txt"

    def collect_notices():
        parts = [*unpacked(project), *crates(project), *go_modules(project, modules)]
        write_atomic(target, render(parts).encode())
        return [target]

    lock = sha256(project.root / CRATE / "Cargo.lock")
    pins = {name: dict(section) for name, section in project.pins.items()}
    project.steps.do("notices", "collecting license texts", [modules, lock, pins], collect_notices)


def render(parts):
    """The notices file: an index, and each text once with the parts it is for."""
    texts = {}
    for name, files in parts:
        text = "\n\n".join(path.read_text("utf-8", errors="replace").strip() for path in files)
        texts.setdefault(text, []).append(name)
    rule = "=" * 78
    head = "mlxrank contains or is built from these parts of others:\n\n"
    index = "".join(f"  {name}\n" for name in sorted(name for name, _ in parts))
    bodies = (f"\n{rule}\n{', '.join(names)}\n{rule}\n\n{text}\n" for text, names in texts.items())
    return head + index + "".join(bodies)


def unpacked(project):
    """What set-up unpacked: MLX, the encoder, Debian packages, mlx-c."""
    encoder = project.pin("wheel", ENCODER)
    parts = [
        (f"MLX {project.pins['mlx']['version']}", [project.mlx / "LICENSE"]),
        ("mlx-c", [project.mlx_c / "LICENSE", project.mlx_c / "ACKNOWLEDGMENTS.md"]),
        (
            f"all-MiniLM-L6-v2, from {ENCODER} {encoder['version']}",
            [project.build / "models" / "all-MiniLM-L6-v2" / "LICENSE.wheel", project.root / encoder["license"]],
        ),
    ]
    parts += [(name, named_text(project, "npm", name)) for name in named(project, "npm")]
    if project.host == LINUX:
        for name in DEBS:
            pin = project.pin("deb", name)
            source = pin.get("license", name)
            text = project.build / "debs" / source / "usr/share/doc" / source / "copyright"
            parts.append((f"{name} {pin['version']}", [text]))
        parts += [(name, named_text(project, "linux", name)) for name in named(project, "linux")]
    for name, files in parts:
        for path in files:
            if not path.exists():
                raise SetupError(f"{name} should carry its license text in {path}")
    return parts


def crates(project):
    """The crates linked into the tokenizer archive: no build scripts, no macros."""
    command = ["cargo", "tree", "--locked", "--offline", "--edges=normal,no-proc-macro", "--prefix=none", "--format={p}"]
    tree = run(command, "listing the crates that are linked", cwd=project.root / CRATE)
    linked = {tuple(line.split()[:2]) for line in tree.splitlines()[1:]}  # after our own
    parts = []
    for crate in crate_metadata(project)["packages"]:
        if (crate["name"], "v" + crate["version"]) in linked:
            files = texts_of(project, "crate", crate["name"], Path(crate["manifest_path"]).parent)
            parts.append((f"{crate['name']} {crate['version']} (Rust)", files))
    return parts


def go_modules(project, modules):
    """The Go modules that the executable is linked from, and Go itself."""
    goroot = run(["go", "env", "GOROOT"], "asking go for its folder").strip()
    parts = [("the Go standard library", [Path(goroot) / "LICENSE"])]
    command = ["go", "list", "-m", "-f", "{{.Dir}}", *(f"{path}@{version}" for path, version in modules)]
    folders = run(command, "finding the Go modules that are linked", cwd=project.root).splitlines()
    for (path, version), folder in zip(modules, folders):
        parts.append((f"{path} {version} (Go)", texts_of(project, "go", path, Path(folder))))
    return parts


def texts_of(project, kind, name, folder):
    """The license texts in a part's folder, else what pins.ini names for it."""
    files = [path for path in sorted(folder.rglob("*")) if is_license(path, folder)]
    if files:
        return files
    if name in named(project, kind):
        return named_text(project, kind, name)
    raise SetupError(
        f"{name}: no license text in {folder}", advice=f"find its text and name it in scripts/pins.ini under [notice:{kind}:{name}]"
    )


def is_license(path, folder):
    depth = len(path.relative_to(folder).parts)
    return bool(depth <= 2 and NAMES.match(path.name) and path.suffix.lower() not in NOT_TEXT and path.is_file())


def named(project, kind):
    """The parts of a kind whose license texts pins.ini names."""
    prefix = f"notice:{kind}:"
    sections = project.pins.sections()
    return [section[len(prefix) :] for section in sections if section.startswith(prefix)]


def named_text(project, kind, name):
    words = project.pins[f"notice:{kind}:{name}"]["text"].split()
    return [project.root / word for word in words]
