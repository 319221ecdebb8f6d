"""golangci-lint on the Go code, actionlint and zizmor on the workflows."""

import shutil
import subprocess

from setup import parts
from setup.fetch import download, unpack_wheel
from setup.gotools import gotool
from setup.project import LINUX
from setup.steps import SetupError


def lint(project):
    """Runs every linter, each built or fetched at its pinned version."""
    linter = gotool(project, "golangci-lint")
    for module in (project.root, project.root / "examples" / "rag"):
        check("golangci-lint", [linter, "run", "./..."], module)
    shell = shellcheck(project)
    actionlint = [gotool(project, "actionlint"), f"-shellcheck={shell}", "-pyflakes="]
    check("actionlint", actionlint, project.root)
    if project.host == LINUX:  # its pinned wheel is for Linux
        audit = [zizmor(project), "--offline", "--no-progress", "--min-severity=medium", "--min-confidence=medium"]
        check("zizmor", [*audit, ".github"], project.root)


def check(name, command, folder):
    if subprocess.run(command, cwd=folder, check=False).returncode != 0:
        raise SetupError(f"{name} found the faults above", advice="mend them")


def zizmor(project):
    """zizmor, which finds actions without a hash, credentials left behind and the like in workflows."""
    pin = project.pin("wheel", "zizmor")
    wheel = download(project, pin)
    tool = project.build / "tools" / "zizmor"

    def place(name):
        return tool if name.endswith("/scripts/zizmor") else None

    def unpack():
        made = unpack_wheel(wheel, place)
        tool.chmod(0o755)
        return made

    project.steps.do("zizmor", "unpacking zizmor", pin, unpack)
    return tool


def shellcheck(project):
    """shellcheck, for the scripts in the workflows: Debian's; on a Mac the user's, if any."""
    if project.host != LINUX:
        return shutil.which("shellcheck") or ""
    return parts.deb(project, "shellcheck") / "usr" / "bin" / "shellcheck"
