"""Every linter of make lint, each at the version that scripts/pins.ini names.

golangci-lint checks Go, ruff checks Python, oxlint JavaScript,
clang-format C and C++, Vale prose, actionlint and zizmor the workflows, and
kubernetes-validate the manifest of scripts/service.
make check runs them on the files that differ from the main branch.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setup import parts
from setup.fetch import download, unpack_wheel
from setup.gotools import gotool
from setup.project import LINUX
from setup.steps import SetupError, run, sha256

C = (".c", ".h", ".cpp", ".metal")
PROSE = (".md", ".go", ".c", ".h", ".cpp", ".swift", ".py", ".js")
MANIFEST = "scripts/service/kubernetes.yaml"
KUBERNETES = ("1.29", "1.37")  # the oldest and the newest version that the manifest is checked for
# Code of other projects, and files that tests compare byte by byte.
NOT_OURS = ("/uplot/", "/axe-core/", "/testdata/")


def lint(project):
    """Lints the whole tree."""
    failed = file_linters(project, tracked(project))
    for module in (project.root, project.root / "examples" / "rag"):
        failed += golangci_lint(project, module, "./...")
    report(failed)


def lint_changed(project):
    """Lints the files that differ from the main branch; golangci-lint takes their packages."""
    changed = changes(project)
    failed = file_linters(project, changed)
    folders = {path.rpartition("/")[0] for path in changed if path.endswith(".go")}
    packages = sorted(f"./{folder}" for folder in folders if not folder.startswith("examples/rag"))
    if packages:
        failed += golangci_lint(project, project.root, *packages)
    report(failed)


def report(failed):
    if failed:
        raise SetupError(f"{', '.join(failed)}: see the findings above", advice="correct them, then run make lint")


def file_linters(project, paths):
    """Runs the linters that take files; returns the names of those that found something."""
    ours = [path for path in paths if not any(part in f"/{path}" for part in NOT_OURS)]
    failed = []

    def on(name, suffixes, *command):
        files = [path for path in ours if path.endswith(suffixes)]
        if files:
            failed.extend(fails(name, [*command, *files], project.root))

    workflows = any(path.startswith(".github/") for path in paths)
    on("Vale", PROSE, gotool(project, "vale"), "--output=line")
    if workflows:
        command = [gotool(project, "actionlint"), f"-shellcheck={shellcheck(project)}", "-pyflakes="]
        failed += fails("actionlint", command, project.root)
    if MANIFEST in paths:
        failed += manifest(project)
    if project.host != LINUX:
        project.steps.out.write("lint: ruff, clang-format, oxlint and zizmor run on Linux only\n")
        return failed
    ruff = wheel_tool(project, "ruff")
    on("ruff", ".py", ruff, "check", "--quiet", "--force-exclude")
    on("ruff format", ".py", ruff, "format", "--quiet", "--check", "--force-exclude")
    on("oxlint", ".js", wheel_tool(project, "oxlint"), "--quiet")
    on("clang-format", C, wheel_tool(project, "clang-format"), "--dry-run", "--Werror")
    if workflows:
        options = ["--offline", "--no-progress", "--min-severity=medium", "--min-confidence=medium"]
        failed += fails("zizmor", [wheel_tool(project, "zizmor"), *options, ".github"], project.root)
    return failed


def golangci_lint(project, module, *packages):
    """Runs golangci-lint on packages of a module. Its cache lies beside Go's, also where GOCACHE moves that."""
    go_cache = run(["go", "env", "GOCACHE"], "asking go for its build cache").strip()
    env = {"GOLANGCI_LINT_CACHE": os.path.join(os.path.dirname(go_cache), "golangci-lint"), **os.environ}
    return fails("golangci-lint", [gotool(project, "golangci-lint"), "run", *packages], module, env)


def manifest(project):
    """Validates the manifest strictly. A copy with a misspelt field must fail, as a control."""
    text = (project.root / MANIFEST).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        control = Path(folder) / "control.yaml"
        control.write_text(text.replace("readinessProbe:", "readynessProbe:"), encoding="utf-8")
        for version in KUBERNETES:
            command = [*kubernetes_validate(project), "--strict", "--quiet", "--kubernetes-version", version]
            if subprocess.run([*command, control], capture_output=True, check=False).returncode == 0:
                raise SetupError(f"kubernetes-validate accepts readynessProbe in {MANIFEST} for Kubernetes {version}")
            if failed := fails("kubernetes-validate", [*command, MANIFEST], project.root):
                return failed
    return []


def kubernetes_validate(project):
    """The command of kubernetes-validate in build/kubernetes, a virtual environment."""
    requirements = project.root / "scripts/requirements/kubernetes.txt"
    folder = project.build / "kubernetes"
    python = folder / "bin" / "python"

    def install_kubernetes_validate():
        what = "kubernetes-validate, from the Python package index, through pip"
        run([sys.executable, "-m", "venv", "--clear", folder], what)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        run(
            [*command, "--require-hashes", "--only-binary=:all:", "--requirement", requirements],
            what,
            "check the network and pip's configuration",
        )
        return [folder / "bin" / "kubernetes-validate"]

    project.steps.do("kubernetes", "installing kubernetes-validate", sha256(requirements), install_kubernetes_validate)
    return [python, "-m", "kubernetes_validate"]


def fails(name, command, where, env=None):
    """Runs a linter, which prints its findings; returns [name] if there are any."""
    return [name] if subprocess.run(command, cwd=where, env=env, check=False).returncode != 0 else []


def git(project, *words):
    return run(["git", *words], "asking git for files", cwd=project.root)


def tracked(project):
    """Every file of the repository that exists, as paths relative to its root."""
    return existing(project, git(project, "ls-files").splitlines())


def changes(project):
    """The files that differ from where this branch left main, untracked ones included."""
    base = "HEAD"
    for branch in ("origin/main", "main"):
        if git(project, "for-each-ref", f"refs/heads/{branch}", f"refs/remotes/{branch}"):
            base = git(project, "merge-base", "HEAD", branch).strip()
    changed = git(project, "diff", "--name-only", "--diff-filter=d", base).splitlines()
    return existing(project, changed + git(project, "ls-files", "--others", "--exclude-standard").splitlines())


def existing(project, paths):
    return [path for path in paths if (project.root / path).is_file()]


def wheel_tool(project, name):
    """build/tools/NAME: the program of a pinned wheel for Linux."""
    pin = project.pin("wheel", name)
    wheel = download(project, pin)
    tool = project.build / "tools" / name

    def unpack_tool():
        made = unpack_wheel(wheel, lambda member: tool if member.endswith(f"/{name}") else None)
        tool.chmod(0o755)
        return made

    project.steps.do(name, f"unpacking {name}", pin, unpack_tool)
    return tool


def shellcheck(project):
    """The path of shellcheck, for the scripts in the workflows: Debian's; on a Mac the user's, if any."""
    if project.host != LINUX:
        return shutil.which("shellcheck") or ""
    return parts.deb(project, "shellcheck") / "usr" / "bin" / "shellcheck"
