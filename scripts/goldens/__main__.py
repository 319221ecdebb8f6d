"""Makes the golden files of engine, weights, bench/stats, cli/records and internal/measures, in their folders testdata.

    python3 -m venv /tmp/goldens
    /tmp/goldens/bin/pip install -r scripts/requirements/goldens.txt
    /tmp/goldens/bin/python scripts/goldens all

A second run writes the same bytes and says "unchanged" of every file; with
another version or processor, the last digits of logits may differ. What is
printed beside that judges the goldens: how far float32 is from float64, and how
far wrong models are from the right one, where 1 is the limit of the engine's
tests. After a change, read those figures.
"""

import argparse
import importlib
import pathlib
import sys

sys.dont_write_bytecode = True

import common

# name -> (module, function, what it writes, needs --base, takes --texts)
GOLDENS = {
    "tokens": ("tokens", "make", "engine/testdata/tokens.jsonl.gz", True, True),
    "tokenkinds": ("token_kinds", "make", "engine/testdata/tokenkinds.json.gz", False, False),
    "settings": ("settings", "make", "engine/testdata/settings.json.gz", False, False),
    "left": ("left", "make", "engine/testdata/left.json.gz", True, False),
    "longwords": ("longwords", "make", "engine/testdata/longwords.json.gz", True, False),
    "tiny": ("tiny", "make", "engine/testdata/tiny.json.gz", False, False),
    "activations": ("activations", "make", "engine/testdata/activations.json.gz", False, False),
    "family": ("family", "make", "engine/testdata/family.json.gz", False, False),
    "encoders": ("encoders", "make", "engine/testdata/encoders.json.gz", False, False),
    "shapes": ("encoders", "make_shapes", "engine/testdata/shapes.json.gz", False, False),
    "cased": ("cased", "make", "engine/testdata/cased.json.gz", False, False),
    "builtin": ("builtin", "make", "engine/testdata/builtin.jsonl.gz", True, True),
    "randomhead": ("builtin", "make_head", "engine/testdata/randomhead.json.gz", True, False),
    "peft": ("adapters", "make", "weights/testdata/peft", False, False),
    "statistics": ("statistics", "make", "bench/stats/testdata/numpy.json.gz", False, False),
    "trec": ("trec", "make", "cli/records/testdata/trec.json.gz", False, False),
    "measures": ("measures", "make", "internal/measures/testdata/measures.json.gz", False, False),
    "comparisons": ("comparisons", "make", "internal/measures/testdata/comparisons.json.gz", False, False),
    "quantized": ("quantized", "make", "weights/testdata/quantized.json.gz", False, False),
    "merged": ("adapters", "make_builtin", "weights/testdata/builtin_merged.json.gz", True, False),
}


def arguments():
    parser = argparse.ArgumentParser(prog="goldens", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(base=None, texts=None)
    commands = parser.add_subparsers(dest="golden", required=True, metavar="GOLDEN")
    for name, (_, _, path, needs_base, takes_texts) in GOLDENS.items():
        add(commands, name, path, needs_base, takes_texts)
    add(commands, "all", "all of these", True, False)
    return parser.parse_args()


def add(commands, name, path, needs_base, takes_texts):
    command = commands.add_parser(name, help=path, description="Writes " + path + ".")
    if needs_base:
        command.add_argument(
            "--base",
            type=pathlib.Path,
            default=common.BASE,
            metavar="DIR",
            help="the encoder all-MiniLM-L6-v2 (default: where the set-up puts it, %(default)s)",
        )
    if takes_texts:
        command.add_argument(
            "--texts",
            metavar="FILE",
            help='JSONL of {"query", "document"} to take the real texts from (default: those of the present golden)',
        )


def main():
    args = arguments()
    if args.base and not (args.base / "model.safetensors").exists():
        raise SystemExit(f"goldens: no model.safetensors in {args.base}: run the set-up first, or give --base")
    for name in GOLDENS if args.golden == "all" else [args.golden]:
        module, function, *_ = GOLDENS[name]
        getattr(importlib.import_module(module), function)(args)


if __name__ == "__main__":
    main()
