"""The tools that a newcomer installs by hand, checked before anything else."""

import importlib.util
import re
import shutil
import subprocess

from .project import LINUX
from .steps import SetupError


def check(project):
    """Raises an error that names every missing or too old tool at once."""
    faults = []
    for section in project.pins.sections():
        if section.startswith("tool:"):
            fault = tool_fault(section[5:], dict(project.pins[section]))
            if fault:
                faults.append(f"{fault}: {install(project, dict(project.pins[section]))}")
    if importlib.util.find_spec("pip") is None:
        faults.append(f"pip for python3 is missing: {install(project, PIP)}")
    if faults:
        raise SetupError(
            "\n".join(["tools are missing or too old:", *(f"  {fault}" for fault in faults)]),
            advice="install them, then run the same command again",
        )


PIP = {"debian": "apt-get install python3-pip", "macos": "brew install python"}


def install(project, tool):
    return tool["debian"] if project.host == LINUX else tool["macos"]


def tool_fault(name, tool):
    """Returns what is wrong with a tool, or None. One of the tool's commands suffices."""
    commands = tool.get("commands", name).split()
    found = next((command for command in commands if shutil.which(command)), None)
    if found is None:
        return f"{' or '.join(commands)} is missing"
    wanted = tool.get("minimum")
    if wanted is None:
        return None
    command = [found, *tool.get("version", "--version").split()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    got = re.search(r"\d+(\.\d+)+", done.stdout)
    if done.returncode != 0 or got is None:
        return f"{' '.join(command)} does not work ({(done.stderr or done.stdout).strip()})"
    if version(got.group()) < version(wanted):
        return f"{found} {got.group()} is too old, {wanted} is needed"
    return None


def version(text):
    return [int(part) for part in text.split(".")]
