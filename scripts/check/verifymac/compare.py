"""Prints two reports of verify-mac side by side: compare.py A.json B.json

Each figure has a line with its value in A, in B, and B/A.
"""

import json
import sys

import report

# Keys that identify a row of a list.
KEYS = ("group", "name", "program", "dtype", "length", "tokens", "idle_s", "process", "max_batch_tokens", "kind", "suite")
FIGURES = (
    "median_us",
    "error",
    "peak_bytes",
    "p50_ms",
    "p95_ms",
    "p50_s",
    "p50_pairs_per_s",
    "worst",
    "tau",
    "ties",
    "top10",
    "outcome",
    "next",
)


def figures(data):
    """The figures of a report by what they are of."""
    found = {f"facts, {name}": value for name, value in data["facts"].items()}
    found |= {f"suite {s['name']}": s["verdict"] for s in data["suites"]}
    native = data.get("native", {})
    lists = {"": native.get("rows", []), **{k: v for k, v in data.items() if isinstance(v, list) and k != "suites"}}
    for part, rows in lists.items():
        for row in rows:
            name = ", ".join(str(row[key]) for key in KEYS if key in row and not isinstance(row[key], list))
            found |= {f"{part} {name}: {key}".strip(): row[key] for key in FIGURES if row.get(key) is not None}
            for more in row.get("by_length", []):
                found[f"{part} {name}, {more['tokens']} tokens: worst"] = more["worst"]
    return found


def lines(a, b):
    a, b = figures(a), figures(b)
    rows = []
    for name in [*a, *(name for name in b if name not in a)]:
        x, y = a.get(name), b.get(name)
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (x, y))
        ratio = f"{y / x:.2f}" if numbers and x else "" if x == y else "differs"
        rows.append([name, show(x), show(y), ratio])
    return report.table(["figure", "A", "B", "B/A"], rows)


def show(value):
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments):
    if len(arguments) != 2:
        sys.exit(__doc__)
    read = []
    for path in arguments:
        try:
            with open(path, encoding="utf-8") as f:
                data = json.load(f)
        except (OSError, ValueError) as error:
            sys.exit(f"{path}: {error}; give it build/verify-mac.json of two runs of make verify-mac")
        schema = data.get("schema") if isinstance(data, dict) else None
        if schema != report.SCHEMA:
            sys.exit(f"{path}: found schema {schema}, expected {report.SCHEMA}; measure again with make verify-mac")
        read.append(data)
    print("\n".join(lines(*read)))


if __name__ == "__main__":
    main(sys.argv[1:])
