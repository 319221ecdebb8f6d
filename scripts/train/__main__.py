"""The steps of training: clones, prepare, collect, train, evaluate. README.md beside this file has the commands."""

import argparse
import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASE = ROOT / "build" / "models" / "all-MiniLM-L6-v2"
BUILTIN = ROOT / "weights" / "builtin"


def encoder_of(args):
    import encoder

    return encoder.Encoder(args.base, args.work / "cache")


def clones_of(args):
    import sources

    return sources.Clones(args.data)


def clones(args):
    import sources

    for repository in sources.COMMITS:
        print(f"https://github.com/{repository} {repository.replace('/', '+')}")


def prepare(args):
    import prepare

    prepare.write(args.work / "groups.jsonl", clones_of(args), args.debian, encoder_of(args))
    prepare.write_more(args.work / "more.jsonl", clones_of(args), args.debian)


def collect(args):
    import collect

    out = args.work / "collections"
    collect.collect(out, clones_of(args))
    collect.debian(out, args.debian, encoder_of(args))


def train(args):
    import collect
    import evaluate
    import train

    out = args.work / "adapter"
    out.mkdir(parents=True, exist_ok=True)

    def after(model, step):
        if step % args.every == 0 or step == args.steps:
            for name in list(collect.DEVELOPMENT)[train.RANK :: train.WORLD]:
                found = evaluate.report(args.work / "collections" / name, model, args.base, limit=args.questions, precise=False)
                print(f"step {step} {name} {json.dumps(found)}", flush=True)

    train.train(args.base, args.start, args.groups or args.work / "groups.jsonl", out, args.steps, args.fall, args.long, args.resume, after)


def evaluate(args):
    import evaluate
    import train

    model = train.start(args.base, args.adapter).merge_and_unload()
    for folder in args.collections:
        found = evaluate.report(folder, model, args.base, args.depth, args.questions, not args.bfloat16)
        print(json.dumps({"collection": folder.name, **found}), flush=True)


def main():
    parser = argparse.ArgumentParser(prog="scripts/train", description="train and measure the adapter of builtin")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("work"), help="folder for what the steps make")
    parser.add_argument("--base", type=pathlib.Path, default=BASE, help="the trunk (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    steps = parser.add_subparsers(required=True)
    steps.add_parser("clones", help="print what to clone, and the folder's name").set_defaults(run=clones)
    for name, run in {"prepare": prepare, "collect": collect}.items():
        step = steps.add_parser(name)
        step.set_defaults(run=run)
        step.add_argument("--data", type=pathlib.Path, required=True, help="folder of clones, OWNER+NAME each")
        step.add_argument("--debian", type=pathlib.Path, required=True, help="descriptions of Debian packages, JSON lines, gzip")
    step = steps.add_parser("train")
    step.set_defaults(run=train)
    step.add_argument("--start", type=pathlib.Path, default=BUILTIN, help="the adapter to start from")
    step.add_argument("--steps", type=int, required=True)
    step.add_argument("--groups", type=pathlib.Path, help="file of groups (default: groups.jsonl of the folder)")
    step.add_argument("--fall", type=int, default=0, help="last steps, over which the rate falls to zero")
    step.add_argument("--long", type=float, default=0.0, help="share of groups with longer texts")
    step.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    step.add_argument("--every", type=int, default=500, help="steps from one look at the development collections to the next")
    step.add_argument("--questions", type=int, default=40, help="of each development collection")
    step = steps.add_parser("evaluate")
    step.set_defaults(run=evaluate)
    step.add_argument("collections", type=pathlib.Path, nargs="+")
    step.add_argument("--adapter", type=pathlib.Path, default=BUILTIN)
    step.add_argument("--depth", type=int, default=20)
    step.add_argument("--questions", type=int)
    step.add_argument("--bfloat16", action="store_true", help="faster, less exact")
    args = parser.parse_args()
    if args.run is not clones:
        import torch

        torch.set_num_threads(args.threads)
    args.run(args)


if __name__ == "__main__":
    main()
