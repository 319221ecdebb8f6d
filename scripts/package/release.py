"""The release archive of this platform, by GoReleaser, and the check that it works alone."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from setup.capi import version_of
from setup.gotools import gotool
from setup.project import MACOS
from setup.steps import SetupError, run, sha256

from . import formula, xcframework
from .install import layout, place, rank

# As GoReleaser and .goreleaser.yaml name the platforms.
NAMES = {"linux-x86_64": "linux_amd64", "macos-arm64": "darwin_arm64"}


def release(project):
    """Makes the archive of the tag that is checked out."""
    wanted = "v" + version_of(project)
    tags = run(["git", "tag", "--points-at", "HEAD"], "asking git for tags", cwd=project.root).split()
    if wanted not in tags:
        raise SetupError(
            f"engine/doc.go says {wanted[1:]}, and HEAD has the tags {' '.join(tags) or '(none)'}",
            advice=f"tag the commit {wanted}, or correct the version: docs/dev/releasing.md",
        )
    archive = build(project, version_of(project), ["--skip=publish,announce"])
    if project.host == MACOS:
        formula.write(project, version_of(project), archive)
        frameworks(project, version_of(project))


def check(project):
    """make check-release: the same from any state of the tree, tagged or not."""
    archive = build(project, version_of(project) + "-snapshot", ["--snapshot"])
    if project.host == MACOS:
        formula.write(project, version_of(project), archive, trial=True)
        frameworks(project, version_of(project))


def build(project, name, options):
    """Stages, archives, unpacks and tries the release; returns the archive."""
    goreleaser = gotool(project, "goreleaser")
    stage = project.build / "release"
    shutil.rmtree(stage, ignore_errors=True)
    place(project, stage)
    env = {"MLXRANK_VERSION": name}
    run([goreleaser, "check"], "checking .goreleaser.yaml", cwd=project.root, env=env)
    project.steps.always(
        f"archiving {name}", lambda: run([goreleaser, "release", "--clean", *options], "GoReleaser", cwd=project.root, env=env)
    )
    dist = project.build / "dist"
    archive = dist / f"mlxrank_{name}_{NAMES[project.host]}.tar.gz"
    summed(dist / f"checksums_{NAMES[project.host]}.txt", archive)
    project.steps.always("ranking from the archive", lambda: tried(project, archive))
    size = archive.stat().st_size / 1e6
    project.steps.out.write(f"{archive}: {size:.0f} MB, SHA-256 {sha256(archive)}\n")
    return archive


def frameworks(project, version):
    """Archives the XCFrameworks, and adds them to the checksums."""
    dist = project.build / "dist"
    archives = xcframework.archive(project, xcframework.write(project, project.build, version), dist, version)
    with open(dist / f"checksums_{NAMES[project.host]}.txt", "a", encoding="utf-8") as sums:
        sums.writelines(f"{sha256(path)}  {path.name}\n" for path in archives)


def summed(checksums, archive):
    """Raises an error unless the checksums name the archive and its hash."""
    lines = [line.split() for line in checksums.read_text(encoding="utf-8").splitlines()]
    if [sha256(archive), archive.name] not in lines:
        raise SetupError(f"{checksums} has {lines}, and not {archive.name} with its SHA-256")


def tried(project, archive):
    """Unpacks the archive elsewhere, compares it with the layout, and has it rank."""
    with tempfile.TemporaryDirectory(prefix="mlxrank ") as folder:
        run(["tar", "-xzf", archive, "-C", folder], f"unpacking {archive.name}")
        (prefix,) = Path(folder).iterdir()
        found = sorted(path.relative_to(prefix).as_posix() for path in prefix.rglob("*") if path.is_file())
        wanted = sorted(path for path, _ in layout(project))
        if found != wanted:
            odd = ", ".join(sorted(set(found) ^ set(wanted)))
            raise SetupError(f"{archive} and the layout of make install differ in {odd}")
        said = subprocess.run([prefix / "bin/mlxrank", "version"], env={}, capture_output=True, encoding="utf-8", check=True).stdout
        if not said.startswith(f"mlxrank {version_of(project)} "):
            raise SetupError(f"the archive's program says it is {said.strip()}, not {version_of(project)}")
        rank(project, prefix)
