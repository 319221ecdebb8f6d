"""Checks what build/native/measure prints.

measured.py     runs it on the CPU, with failing work too, and checks both
"""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[3] / "build" / "native" / "measure"
HEAD = {"schema": int, "device": str, "quick": bool, "mlx": str, "libmlx": str, "name": str, "architecture": str, "rows": list}
ROW = {"item": int, "group": str, "name": str, "dtype": str, "n": int}
# The names that the group beginning so must have.
NAMES = {
    "anchors, first": {"triad"},
    "anchors, last": {"triad"},
    "GEMM, ": {"384 to 1152", "384 to 384", "384 to 1536", "1536 to 384"},
    "elementwise, ": {"GELU", "softmax", "LayerNorm", "merge heads"},
    "attention, width ": {"fallback", "qpad", "own"},
    "GELU, ": {"chain", "compiled", "kernel"},
    "fixed costs": {"empty eval", "dependent kernel", "synchronize, idle"}
    | {"pass: " + part for part in ("whole", "build", "encode", "wait", "synchronize")},
    "shapes": {"repeated", "jittered"},
    "microbatches": set(),
    "streams": {"one, depth 2", "two, depth 1"},
}
# Rows without a time are allowed: a build may lack our kernels, and MLX compiles with the system's compiler on the CPU.
MAY_BE_MISSING = {"own", "kernel", "compiled"}
OUTCOMES = {"error", "not finite", "right scores", "wrong scores"}


def problems(data):
    """Returns what is wrong with a measurement, as texts."""
    found = [f"{key} is not of type {kind.__name__}" for key, kind in HEAD.items() if not isinstance(data.get(key), kind)]
    if found or data["schema"] != 1:
        return found or [f"schema {data['schema']}, expected 1"]
    groups = {}
    for row in data["rows"]:
        bad = [key for key, kind in ROW.items() if not isinstance(row.get(key), kind)]
        if bad:
            found.append(f"row {row}: wrong or missing {', '.join(bad)}")
            continue
        groups.setdefault((row["group"], row["dtype"]), {})[row["name"]] = row
        found += row_problems(row)
    for begin, names in NAMES.items():
        matching = {group: rows for group, rows in groups.items() if group[0].startswith(begin)}
        if not matching:
            found.append(f"no group {begin!r}")
        for (group, dtype), rows in matching.items():
            found += [f"{group} {dtype} lacks {name!r}" for name in sorted(names - rows.keys())]
    return found


def row_problems(row):
    name = f"{row['group']}, {row['name']}, {row['dtype']}"
    if row.get("median_us") is None:
        if not row.get("missing"):
            return [f"{name}: neither a time nor a reason"]
        return [] if row["name"] in MAY_BE_MISSING else [f"{name}: {row['missing']}"]
    if row["n"] < 3 or not 0 < row["p5_us"] <= row["median_us"] <= row["p95_us"] or row["mad_us"] < 0:
        return [f"{name}: {row} is no distribution of at least 3 times"]
    return []


def fault_problems(data):
    """Returns what is wrong with a report of failing work."""
    if data.get("outcome") not in OUTCOMES or not data.get("next") or "message" not in data:
        return [f"fault: {data}"]
    return []


def main():
    data = json.loads(run("cpu", "--quick"))
    fault = json.loads(run("cpu", "--fault", "inverse"))
    found = problems(data) + fault_problems(fault)
    if fault["outcome"] != "error" or fault["next"] != "right":
        found.append(f"failing work on the CPU: {fault}")
    for problem in found:
        print(f"measured: {problem}", file=sys.stderr)
    print(f"measured: {len(data['rows'])} rows, {len(found)} problems")
    return 1 if found else 0


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
