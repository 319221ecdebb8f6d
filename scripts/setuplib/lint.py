"""golangci-lint on the Go code, actionlint on the workflows."""

import shutil
import subprocess

from .fetch import download
from .gotools import gotool
from .project import LINUX
from .steps import SetupError, files_under, run


def lint(project):
    """Runs every linter, each built or fetched at its pinned version."""
    linter = gotool(project, "golangci-lint")
    for module in (project.root, project.root / "examples" / "rag"):
        check("golangci-lint", [linter, "run", "./..."], module)
    shell = shellcheck(project)
    actionlint = [gotool(project, "actionlint"), f"-shellcheck={shell}", "-pyflakes="]
    check("actionlint", actionlint, project.root)


def check(name, command, folder):
    if subprocess.run(command, cwd=folder, check=False).returncode != 0:
        raise SetupError(f"{name} found the faults above", advice="mend them")


def shellcheck(project):
    """shellcheck, for the scripts in the workflows: Debian's; on a Mac the user's, if any."""
    if project.host != LINUX:
        return shutil.which("shellcheck") or ""
    pin = project.pin("deb", "shellcheck")
    package = download(project, pin)
    folder = project.build / "debs" / "shellcheck"

    def unpack_shellcheck():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run(["dpkg-deb", "-x", package, folder], f"unpacking {package.name}")
        return files_under(folder)

    inputs = [pin, str(folder)]
    project.steps.do("unpack-shellcheck", "unpacking shellcheck", inputs, unpack_shellcheck)
    return folder / "usr" / "bin" / "shellcheck"
