"""The run: agreement first, then rounds."""

import dataclasses
import json
import subprocess
import sys
import time

import arithmetic
import environment
import pairs as texts
import processes
import rows
import subjects

LIMIT = 1e-3  # of the deviation of our logits: float32 peers
REDUCED_TAU = 0.8  # below this it is another model, not another precision
SLOW, SLOW_PART = 0.35, 4  # of mlxrank's rate: who is slower gets each set's first quarter
STARTS = 5


def say(text):
    print(f"peers: {text}", file=sys.stderr, flush=True)


class Run:
    """The measurements of a row."""

    def __init__(self, args, row):
        self.args, self.row = args, row
        self.folder = args.work / "run"
        self.folder.mkdir(parents=True, exist_ok=True)
        model = args.work / row.folder
        self.lengths = texts.Lengths(model)
        self.config = json.loads((model / "config.json").read_text("utf-8"))
        everything = texts.read(subjects.ROOT)
        self.sets = row.sets(everything, args.pairs, self.lengths.maximum)
        self.first = next(iter(self.sets.values()))
        self.all = (everything if row.agree_on_all else self.first)[: args.agree]
        chosen = [s for s in row.subjects(args.work, model) if s.ours or not args.only or any(part in s.name for part in args.only)]
        self.processes = {}
        for s in chosen:
            say(f"starting {s.name}")
            self.processes[s.name] = processes.Process(s, self.folder)
        self.found = {s.name: {"precision": s.precision, "settings": s.settings, "ours": s.ours} for s in chosen}

    def file(self, name, value):
        path = self.folder / (name + ".json")
        path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
        return path

    def work(self, pairs):
        """The floating-point operations that pairs need."""
        return sum(arithmetic.flops(self.config, n) for n in self.lengths.cut(pairs))

    def part(self, name, pairs):
        """Returns the pairs that the subject called name scores."""
        slow = self.found[name]["slow"]
        return pairs[: max(4, len(pairs) // SLOW_PART)] if slow else pairs

    def tune(self):
        """Warms each subject up; gives those that take one their fastest batch size."""
        tune = self.first[:64]
        path = self.file("tune", tune)
        for name, process in self.processes.items():
            seconds = {}
            for size in self.row.sizes if process.subject.tuned else (0,):
                if size:
                    process.ask("batch", size=size)
                process.ask("score", pairs=self.file("warm", tune[:16]))
                seconds[size] = process.ask("score", pairs=path)["seconds"]
            size = min(seconds, key=seconds.get)
            if size:
                self.processes[name] = self.again(process, size)
            self.found[name] |= {"batch": size or None, "warm": len(tune) / seconds[size]}
            self.found[name]["slow"] = self.found[name]["warm"] < SLOW * self.found[subjects.OURS]["warm"]
            say(f"{name}: warm" + (f", batches of {size}" if size else ""))

    def again(self, process, size):
        """A new process of the subject, in whose memory is no other batch size."""
        process.close()
        process = processes.Process(process.subject, self.folder)
        process.ask("batch", size=size)
        process.ask("score", pairs=self.folder / "warm.json")
        return process

    def agree(self):
        """Compares everyone's scores with ours in float32, and reads the memory that took."""
        ours = self.processes[subjects.OURS].ask("score", pairs=self.file("all", self.all))["logits"]
        whole = self.lengths.whole(self.all)
        wrong = []
        for name, process in self.processes.items():
            keep = list(range(min(len(self.all), max(100, len(self.all) // 8)) if self.found[name]["slow"] else len(self.all)))
            if not process.subject.whole:
                keep = [i for i in keep if whole[i] < self.lengths.maximum - 1]
            pairs = [self.all[i] for i in keep]
            got = process.ask("score", pairs=self.file(f"agree-{len(keep)}", pairs))["logits"]
            found = arithmetic.agreement(got, [ours[i] for i in keep], [p[0] for p in pairs])
            self.found[name] |= {"agreement": found, "memory": process.memory()}
            if found["tau"] < REDUCED_TAU or not process.subject.reduced and found["worst"] > LIMIT:
                wrong.append(f"{name}: worst difference {found['worst']:.2g} deviations, Kendall tau {found['tau']:.4f}")
            say(f"{name}: compared on {len(keep)} pairs")
        if wrong:
            raise SystemExit("peers: no figures, since not all agree with mlxrank's float32 scores:\n" + "\n".join(wrong))

    def rounds(self):
        """Everyone's seconds for each set, round by round, and the peak rates of GEMMs."""
        peaks = []
        gemm = processes.Process(gemm_subject(), self.folder)
        requests = self.file("requests", texts.requests(self.all, self.row.requests))
        fewer = self.file("requests-fewer", texts.requests(self.all, self.row.requests // SLOW_PART))
        for n in range(self.args.rounds):
            say(f"round {n + 1} of {self.args.rounds}")
            peaks.append(gemm.ask("peaks"))
            for label, pairs in self.sets.items():
                for name, process in self.processes.items():
                    part = self.part(name, pairs)
                    got = process.ask("score", pairs=self.file(f"{label}-{len(part)}", part))
                    rates = self.found[name].setdefault("rounds", {}).setdefault(label, [])
                    # Pairs per second, scaled by what the part needs where it is not the whole.
                    rates.append(self.share(label, part) * len(pairs) / got["seconds"])
            for name, process in self.processes.items() if self.row.requests else ():
                got = process.ask("requests", pairs=fewer if self.found[name]["slow"] else requests)
                self.found[name].setdefault("requests", []).append(got["seconds"])
        gemm.close()
        return {name: max(p[name] for p in peaks) for name in peaks[0]}

    def share(self, label, part):
        if len(part) == len(self.sets[label]):
            return 1
        return self.work(part) / self.work(self.sets[label])

    def starts(self):
        query, document = self.sets["short"][0]
        for n in range(min(STARTS, self.args.rounds) + 1):
            for name, process in self.processes.items():
                seconds = processes.first_score(process.subject, query, document)
                if n:  # the first fills the page cache
                    self.found[name].setdefault("starts", []).append(seconds)


def gemm_subject():
    library = next((subjects.ROOT / "build" / "lib").glob("libblas-*"))
    command = [sys.executable, "-B", subjects.HERE / "gemm.py", library]
    return subjects.Subject("peak", "float32", command, [], "", env={"LD_LIBRARY_PATH": str(library.parent)})


def measured(args, row):
    """The measurements of a row, and the run, whose processes have ended."""
    run = Run(args, row)
    run.tune()
    run.agree()
    peaks = run.rounds()
    found = {
        "environment": environment.describe(run.processes),
        "rounds": args.rounds,
        "sets": {label: describe(run, pairs) for label, pairs in run.sets.items()},
        "peaks": peaks,
        "subjects": run.found,
    }
    for process in run.processes.values():
        process.close()
    return found, run


def builtin(args):
    start = time.time()
    found, run = measured(args, rows.BUILTIN)
    run.starts()
    return {
        **found,
        "seconds": time.time() - start,
        "request": {"documents": 20, "per_round": run.row.requests, "mean_flops": run.work(run.all[:20]) / 20},
        "profile": profile(args.work),
    }


def encoders(args):
    """The rows of other encoders: throughput and agreement alone."""
    found = []
    for row in rows.ENCODERS:
        start = time.time()
        say(row.title)
        results, _ = measured(args, row)
        goals = [dataclasses.asdict(goal) for goal in row.goals]
        found.append({"title": row.title, "goals": goals, "seconds": time.time() - start, **results})
    return {"rows": found}


def describe(run, pairs):
    lengths = run.lengths.cut(pairs)
    return {
        "pairs": len(pairs),
        "mean_tokens": sum(lengths) / len(pairs),
        "least": min(lengths),
        "most": max(lengths),
        "flops_per_pair": run.work(pairs) / len(pairs),
    }


def profile(work):
    """The profile of a short benchmark by precision, as results.json has it."""
    out = {}
    for dtype in ("float32", "bfloat16", "int8"):
        folder = work / "run" / f"profile-{dtype}"
        command = [subjects.ROOT / "build" / "bin" / "mlxrank", "bench", "--profile", "--requests", "32", "--log-level", "warn"]
        command += ["--model", work / "model", "--dtype", dtype, "--results", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (path,) = folder.glob("*.json")
        out[dtype] = json.loads(path.read_text("utf-8"))["points"][0]["runs"][0]["profile"]
    return out
