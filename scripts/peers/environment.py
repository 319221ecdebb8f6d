"""What the figures were taken on: machine, load, versions."""

import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import time

import subjects

PACKAGES = ("torch", "transformers", "sentence-transformers", "tokenizers", "onnxruntime", "openvino", "mlx", "mlx-cpu", "onnx", "numpy")
FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def describe(processes):
    cpu = pathlib.Path("/proc/cpuinfo").read_text("utf-8")
    fields = dict(line.split("\t: ", 1) for line in cpu.split("\n\n")[0].replace("\t\t: ", "\t: ").splitlines() if "\t: " in line)
    flags = fields.get("flags", "").split()
    memory = pathlib.Path("/proc/meminfo").read_text("utf-8").split()[1]
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": fields.get("model name", platform.machine()),
        "cores": subjects.CORES,
        "instructions": [f for f in FLAGS if f in flags],
        "memory_bytes": int(memory) * 1024,
        "system": platform.freedesktop_os_release()["PRETTY_NAME"] + ", Linux " + platform.release().split("-")[0],
        # Well over 1 means that other processes ran too.
        "load": list(os.getloadavg()),
        "commit": subprocess.run(
            ["git", "-C", subjects.ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        "kernels": {name: p.facts["kernels"] for name, p in processes.items() if "kernels" in p.facts},
        "versions": versions(),
    }


def versions():
    found = {"Python": platform.python_version()}
    found |= {name: importlib.metadata.version(name) for name in PACKAGES}
    module = json.loads(
        subprocess.run(["go", "mod", "edit", "-json"], cwd=subjects.HERE / "hugot", capture_output=True, text=True, check=True).stdout
    )
    found["hugot"] = next(r["Version"] for r in module["Require"] if r["Path"].endswith("/hugot"))
    return found
