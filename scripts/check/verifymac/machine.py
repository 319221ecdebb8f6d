"""Collects the report's facts about the machine."""

import json
import platform
import subprocess


def facts(root):
    """Pairs of a name and a text. What cannot be found out is said to be unknown."""
    commit = ask(["git", "-C", root, "describe", "--always", "--dirty", "--tags"])
    found = [("commit", commit), ("Python", platform.python_version()), ("Go", ask(["go", "version"]))]
    if platform.system() != "Darwin":
        return [("system", platform.platform()), *found]
    return [
        ("macOS", ask(["sw_vers", "-productVersion"])),
        ("chip", ask(["sysctl", "-n", "machdep.cpu.brand_string"])),
        ("model", ask(["sysctl", "-n", "hw.model"])),
        ("GPU cores", gpu_cores(ask(["system_profiler", "-json", "SPDisplaysDataType"]))),
        ("memory", gigabytes(ask(["sysctl", "-n", "hw.memsize"]))),
        ("power", ask(["pmset", "-g", "batt"]).splitlines()[0]),
        ("Xcode", ask(["xcodebuild", "-version"]).replace("\n", ", ")),
        *found,
    ]


def ask(command):
    """The output of a command, "unknown" if there is none."""
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, encoding="utf-8", timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"


def gpu_cores(profile):
    """The GPU's cores, of what system_profiler prints of displays."""
    try:
        gpus = json.loads(profile)["SPDisplaysDataType"]
        return ", ".join(f"{gpu['sppci_cores']} ({gpu['sppci_model']})" for gpu in gpus if "sppci_cores" in gpu) or "unknown"
    except (ValueError, KeyError, TypeError):
        return "unknown"


def gigabytes(text):
    return f"{int(text) / 2**30:.0f} GiB" if text.isdigit() else text
