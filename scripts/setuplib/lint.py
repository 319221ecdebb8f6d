"""golangci-lint on the Go code, actionlint on the workflows."""

import shutil
import subprocess

from . import parts
from .gotools import gotool
from .project import LINUX
from .steps import SetupError


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
    return parts.deb(project, "shellcheck") / "usr" / "bin" / "shellcheck"
