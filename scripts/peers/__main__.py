"""Compares mlxrank with other ways to run the same model on this machine.

All subjects score the same pairs in one run, each in a process of its own, in
the order A B C A B C. One process runs at a time. No figure is printed before all of
them agree about the scores. `make peers` runs this in an environment of its own.
"""

import argparse
import json
import pathlib
import sys

sys.dont_write_bytecode = True

import plot
import report
import report_encoders
import subjects


def arguments():
    parser = argparse.ArgumentParser(prog="peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work",
        type=pathlib.Path,
        default=subjects.ROOT / "build" / "peers",
        metavar="DIR",
        help="models and programs of the peers (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=subjects.ROOT / "docs" / "history",
        metavar="DIR",
        help="where peers.json, peers.md and peers.png go, or peers-encoders.json and .md (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=512, help="pairs of a round (default: %(default)s)")
    parser.add_argument("--agree", type=int, default=3200, help="pairs that scores are compared on (default: %(default)s)")
    parser.add_argument("--only", metavar="TEXT", action="append", help="only mlxrank and the subjects whose name has TEXT")
    parser.add_argument("--encoders", action="store_true", help="compare other encoders, of random weights, not the builtin model")
    parser.add_argument("--report", action="store_true", help="measure nothing: write the page of the last results again")
    args = parser.parse_args()
    if args.rounds < 1 or args.pairs < 64 or not 100 <= args.agree <= 3200:
        parser.error("--rounds must be 1 or more, --pairs 64 or more, --agree 100 to 3200")
    return args


def main():
    args = arguments()
    path = args.out / ("peers-encoders.json" if args.encoders else "peers.json")
    if args.report:
        results = json.loads(path.read_text("utf-8"))
    else:
        import measure

        results = (measure.encoders if args.encoders else measure.builtin)(args)
        path.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    if args.encoders:
        report_encoders.write(results, args.out)
    else:
        report.write(results, args.out)
        plot.write(results, args.out / "peers.png")
    print(f"peers: wrote {path}, and its page beside it", file=sys.stderr)


if __name__ == "__main__":
    main()
