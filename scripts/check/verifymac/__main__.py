"""Runs every check that needs a GPU, and writes build/verify-mac.md.

Exit status: 0 when every suite passed, 1 when one failed, 3 when MLX finds no
GPU it can use, so that nothing was verified; a report is written each time.
docs/dev/verify-on-a-mac.md says what the suites are.
"""

import argparse
import os
import sys
from pathlib import Path

import machine
import report
import suites

PASSED, FAILED, NO_GPU = 0, 1, 3


def main(arguments):
    parser = argparse.ArgumentParser(prog="verify-mac", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--device", choices=["gpu", "cpu"], default="gpu", help="what to verify; cpu tries this program itself (default: gpu)"
    )
    parser.add_argument("--soak", metavar="TIME", default="120s", help="how long the soak is (default: 120s)")
    parser.add_argument("--only", metavar="SUITE", action="append", help="run this suite only; can be given again")
    args = parser.parse_args(arguments)
    root = Path(__file__).resolve().parents[3]
    every = suites.every(root, args.device, args.soak)
    unknown = set(args.only or []) - {suite.name for suite in every}
    if unknown:
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in every)}")
    return verify(root, args.device, every, args.only, sys.stdout)


def verify(root, device, every, only, out):
    """Runs the suites and writes the report. doctor comes first: it finds the device."""
    logs = root / "build" / "verify-mac"
    results = []
    for suite in every:
        if only and suite.name not in only and suite.name != suites.DOCTOR:
            continue
        out.write(f"verify-mac: {suite.name}: {suite.shows} ... ")
        out.flush()
        result = suite.run(root, logs)
        results.append(result)
        out.write(f"{result.verdict}, {result.seconds:.0f} s\n")
        if result.no_gpu:
            break
    text = report.render(device, machine.facts(root), results, partial=bool(only))
    path = root / "build" / "verify-mac.md"
    path.write_text(text.replace(os.path.expanduser("~") + "/", "~/"), encoding="utf-8")
    status = judge(results)
    out.write(f"verify-mac: {report.summary(device, results)}\nverify-mac: the report is {path}\n")
    return status


def judge(results):
    if any(result.no_gpu for result in results):
        return NO_GPU
    return PASSED if results and all(result.passed for result in results) else FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
