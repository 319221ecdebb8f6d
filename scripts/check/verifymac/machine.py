"""Collects the report's facts about the machine."""

import json
import platform
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def facts(root):
    """Texts by name. What cannot be found out is said to be unknown."""
    commit = ask(["git", "-C", root, "describe", "--always", "--dirty", "--tags"])
    found = {"commit": commit, "Python": platform.python_version(), "Go": ask(["go", "version"])}
    if platform.system() != "Darwin":
        return {"system": platform.platform(), **found}
    settings = ask(["pmset", "-g"])
    return {
        "macOS": f"{ask(['sw_vers', '-productVersion'])} ({ask(['sw_vers', '-buildVersion'])})",
        "chip": ask(["sysctl", "-n", "machdep.cpu.brand_string"]),
        "model": ask(["sysctl", "-n", "hw.model"]),
        "GPU cores": gpu_cores(ask(["system_profiler", "-json", "SPDisplaysDataType"])),
        "memory": gigabytes(ask(["sysctl", "-n", "hw.memsize"])),
        "power": ask(["pmset", "-g", "batt"]).splitlines()[0],
        "Low Power Mode": low_power_mode(settings),
        "other GPU use before": gpu_use(ask(["ioreg", "-r", "-d", "1", "-c", "IOAccelerator"])),
        "Xcode": ask(["xcodebuild", "-version"]).replace("\n", ", "),
        **found,
    }


def thermal_level():
    """ "nominal", or what limits the speed; "-" without macOS."""
    return thermal(ask(["pmset", "-g", "therm"])) if platform.system() == "Darwin" else "-"


def thermal(text):
    """Of pmset -g therm: notes of warnings, and limits in percent. Without root it knows no more."""
    limits = [f"{name} {value} %" for name, value in re.findall(r"(\w+_Limit)\s*=\s*(\d+)", text) if value != "100"]
    levels = [f"thermal level {value}" for value in re.findall(r"[Tt]hermal.*[Ll]evel\s*[=:]?\s*(\d+)", text) if value != "0"]
    return ", ".join(limits + levels) or ("nominal" if "No thermal" in text or "_Limit" in text else "unknown")


def low_power_mode(settings):
    found = re.search(r"\b(?:lowpowermode|powermode)\s+(\d)", settings)
    return "unknown" if found is None else {"0": "off", "1": "on", "2": "off"}[found[1]]  # 2: High Power


def gpu_use(text):
    found = re.search(r'"Device Utilization %"=(\d+)', text)
    return f"{found[1]} %" if found else "unknown"


def read_power(text):
    """Means of the samples that powermetrics printed, in milliwatts."""
    found = {}
    for name, value in re.findall(r"^(CPU|GPU|ANE|Combined) Power[^:]*: (\d+) mW", text, re.MULTILINE):
        found.setdefault(name, []).append(int(value))
    if "GPU" not in found:
        raise ValueError("powermetrics printed no power of the GPU")
    return [{"name": name, "mW": sum(values) / len(values), "n": len(values)} for name, values in found.items()]


def uses_newer_mlx():
    """Reports whether the product loads the build of MLX for macOS 26.2, by its own word."""
    return "macos26" in ask([ROOT / "build" / "bin" / "mlxrank", "doctor", "--device", "gpu"])


def gpu_facts(native, engine):
    """Facts that measure and the benchmark found: the GPU, libmlx, NAX, the variant."""
    architecture = native.get("architecture", "") if native.get("device") == "gpu" else ""
    generation = re.match(r"applegpu_g(\d+)", architecture)
    return {
        "GPU architecture": architecture or "-",
        "GPU generation": int(generation[1]) if generation else None,
        "MLX": native.get("mlx", "-"),
        "libmlx": native.get("libmlx", "-"),
        "working set": gigabytes(str(native.get("working_set") or "-")),
        "build of MLX": engine.get("mlx_build") or "-",
        "NAX": "-" if not engine else "yes" if engine.get("nax") else "no",
        "variant": engine.get("variant") or "-",
        "kernels": engine.get("kernels", "-"),
        "launches": launches(engine.get("variant")),
    }


def variant_of(doctor):
    """The variant that doctor's output names, "" if it names none."""
    found = re.search(r"^\w+ +variant +([\w-]+)", doctor, re.MULTILINE)
    return found[1] if found else ""


def launches(variant):
    """Kernel launches of a pass of 20 pairs of 128 tokens, as counted in docs/dev/metal.md; None if they are not."""
    path = ROOT / "docs" / "dev" / "metal.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = re.search(rf"^\| `{re.escape(variant or '')}` \| (\d+), \d+", text, re.MULTILINE)
    return int(found[1]) if found else None


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
