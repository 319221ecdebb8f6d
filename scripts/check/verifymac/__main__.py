"""Runs every check that needs a GPU, and measures the device and the product.

It writes build/verify-mac.md, and the same as JSON to build/verify-mac.json. The
report ends with what to change and why. Exit status: 0 when every suite passed, 1 when
one failed, 3 when MLX finds no GPU it can use, so that nothing was verified.
docs/dev/verify-on-a-mac.md says what the suites are.
"""

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

import decisions
import machine
import measures
import report
import suites

PASSED, FAILED, NO_GPU = 0, 1, 3


def main(arguments):
    parser = argparse.ArgumentParser(prog="verify-mac", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--device", choices=["gpu", "cpu"], default="gpu", help="what to verify; cpu tries this program itself (default: gpu)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer suites and figures, in at most 5 minutes")
    parser.add_argument("--limit", metavar="MINUTES", type=float, help="when to end in any case (default: 25, with --quick 5)")
    parser.add_argument("--soak", metavar="TIME", default="120s", help="how long the soak is (default: 120s)")
    parser.add_argument("--only", metavar="SUITE", action="append", help="run this suite only, and measure nothing; can be given again")
    args = parser.parse_args(arguments)
    root = Path(__file__).resolve().parents[3]
    every = suites.every(root, args.device, args.soak, args.quick)
    unknown = set(args.only or []) - {suite.name for suite in every}
    if unknown:
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in every)}")
    clock = suites.Clock(args.limit or (5 if args.quick else 25))
    return verify(root, args.device, every, args.only, sys.stdout, clock, args.quick)


def verify(root, device, every, only, out, clock, quick=False, measure=measures.everything):
    """Runs the suites, measures, and writes the report. doctor comes first: it finds the device.

    Measurements come before the other suites, while the device is cool.
    """
    logs = root / "build" / "verify-mac"
    logs.mkdir(parents=True, exist_ok=True)

    def say(text):
        out.write(text)
        out.flush()

    def run(suite):
        say(f"verify-mac: {suite.name}: {suite.shows} ... ")
        result = suite.run(root, logs, clock)
        say(f"{result.verdict}, {result.seconds:.0f} s\n")
        return result

    chosen = [suite for suite in every if not only or suite.name in only or suite.name == suites.DOCTOR]
    before = machine.thermal_level()
    results, parts = [run(chosen[0])], {}
    if not results[0].no_gpu:
        if not only:
            for name, part in measure(device, quick, logs, clock, machine.variant_of(results[0].details)):
                parts[name] = part
                say(f"verify-mac: measured {name}{': -, ' + part['missing'] if 'missing' in part else ''}\n")
        results += [run(suite) for suite in chosen[1:]]
    engine = next((result.facts for result in results if result.facts), {})
    facts = machine.facts(root) | machine.gpu_facts(parts.get("native", {}), engine)
    facts |= {"thermal level before": before, "thermal level after": machine.thermal_level()}
    data = {
        "schema": report.SCHEMA,
        "device": device,
        "quick": quick,
        "partial": bool(only),
        "summary": report.summary(device, results),
        "facts": facts,
        "suites": [result.to_json() for result in results],
        **parts,
    }
    if parts:
        data["decisions"] = [dataclasses.asdict(decision) for decision in decisions.decide(data)]
    write(root / "build", data)
    say(f"verify-mac: {data['summary']}\nverify-mac: the report is {root / 'build' / 'verify-mac.md'}\n")
    return judge(results)


def write(folder, data):
    """Writes both forms of the report, without the name of the home folder."""
    home = os.path.expanduser("~") + "/"
    forms = {"verify-mac.md": report.render(data), "verify-mac.json": json.dumps(data, indent=1, ensure_ascii=False) + "\n"}
    for name, text in forms.items():
        (folder / name).write_text(text.replace(home, "~/"), encoding="utf-8")


def judge(results):
    if any(result.no_gpu for result in results):
        return NO_GPU
    return PASSED if results and all(result.passed for result in results) else FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
