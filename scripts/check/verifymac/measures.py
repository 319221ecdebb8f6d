"""Measures the product and the device: what a report's decisions are computed from.

Each function returns a part of the report's JSON. What cannot be measured is
{"missing": reason}. Alternatives are measured in turn, A B A B, since a device's
speed changes with heat and load.
"""

import contextlib
import gzip
import json
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import machine
import measured
from suites import run_command

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "scripts" / "peers"))

import arithmetic
import processes
import subjects

PROGRAM = ROOT / "build" / "bin" / "mlxrank"
DRIVER = ROOT / "build" / "peers" / "mlxrank"
VENV = ROOT / "build" / "peers" / "venv" / "bin" / "python"
PLAIN_MODEL = ROOT / "build" / "peers" / "model"
DOCUMENTS = 20
QUERY = "time of the day"
# Each is one token of BERT's vocabulary.
WORDS = ["people", "water", "world", "city", "house", "school", "music", "river", "money", "paper", "language", "summer"]


class Missing(Exception):
    """Why something cannot be measured."""


def missing(reason):
    return {"missing": str(reason).strip() or "unknown"}


def plan(device, quick):
    """Returns how much is measured. The CPU, where float16 is slow, only tries the steps."""
    if device == "cpu":
        return {
            "dtypes": ["float32"],
            "half": "bfloat16",
            "lengths": [64, 128],
            "rounds": 2,
            "requests": 2,
            "idle": {0.1: 1},
            "starts": 1,
            "pairs": 32,
            "batches": [512, 1024],
            "golden_queries": 3,
        }
    return {
        "dtypes": ["float16", "float32"],
        "half": "float16",
        "lengths": [128] if quick else [64, 128, 256],
        "rounds": 3 if quick else 5,
        "requests": 10,
        "idle": {0.1: 3, 1: 1} if quick else {0.1: 4, 1: 2, 5: 1},
        "starts": 2 if quick else 3,
        "pairs": 256,
        "batches": [2048, 8192, 32768] if quick else [1024, 2048, 4096, 8192, 16384, 32768],
        "golden_queries": 12 if quick else 48,
    }


def everything(device, quick, logs, clock, variant):
    """All parts, by name. A part that fails, or for which there is no time, is missing."""
    size = plan(device, quick)
    parts = {
        "native": lambda: native(device, quick, variant, clock),
        "faults": lambda: faults(device, clock),
        "requests": lambda: requests(device, size, logs, clock),
        "cold_start": lambda: cold_start(device, size, clock),
        "batches": lambda: batches(device, size, logs, clock),
        "quality": lambda: quality(device, size, logs),
        "power": lambda: power(device, logs, clock),
    }
    for name, measure in parts.items():
        if clock.is_over():
            yield name, missing("the time was over")
            continue
        try:
            yield name, measure()
        except (Missing, OSError, ValueError, KeyError, SystemExit) as err:
            yield name, missing(err)


def command_output(command, clock, env=None, allowed=(0,)):
    status, output, errors = run_command(command, ROOT, clock.left(), env)
    if status not in allowed:
        raise Missing(f"exit status {status} of {Path(command[0]).name}: {' '.join((errors or output).split()[-30:])}")
    return output


def native_env():
    """The build of MLX that the product loads, which is beside the default one."""
    newer = ROOT / "build" / "lib" / "macos26"
    if platform.system() == "Darwin" and machine.uses_newer_mlx():
        return {"DYLD_LIBRARY_PATH": str(newer)}
    return None


def native(device, quick, variant, clock):
    command = [str(ROOT / "build" / "native" / "measure"), device, *(["--quick"] if quick else []), "--variant", variant]
    data = json.loads(command_output(command, clock, native_env()))
    wrong = [problem for problem in measured.problems(data) if device == "cpu" or "lacks" in problem]
    if wrong:
        raise Missing("measure printed something else than expected: " + "; ".join(wrong))
    return data


def faults(device, clock):
    """Work that fails on the device, in a process of its own, which may end by it."""
    found = []
    for kind in ["inverse"] if device == "cpu" else ["write", "read"]:
        command = [str(ROOT / "build" / "native" / "measure"), device, "--fault", kind]
        status, output, errors = run_command(command, ROOT, min(60, clock.left()), native_env())
        if status == 0:
            found.append(json.loads(output))
        else:
            words = " ".join(errors.split()[-30:])
            found.append({"kind": kind, "outcome": "process ended", "message": f"status {status}: {words}", "next": "-"})
    return found


def text_of(tokens, number):
    """A query and a document that together have so many tokens. The document depends on the number."""
    count = tokens - 3 - len(QUERY.split())
    return [QUERY, " ".join(random.Random(number).choices(WORDS, k=count))]


def driver(dtype, device):
    """scripts/peers' program for mlxrank."""
    command = [DRIVER, "-model", "builtin", "-dtype", dtype, "-device", device]
    return subjects.Subject(f"mlxrank {dtype}", dtype, command, [], "", env=product_env())


def product_env():
    return {"MLXRANK_BUILTIN_DIR": str(ROOT / "build" / "models" / "all-MiniLM-L6-v2")}


def peers(device):
    """PyTorch and Python MLX, if make peers-python was run."""
    torch, mlx = ("mps", "gpu") if device == "gpu" else ("cpu", "cpu")
    for dtype in ["float16", "float32"] if device == "gpu" else ["float32"]:
        for name, script, where in [("PyTorch " + torch.upper(), "peer_torch.py", torch), ("Python MLX", "peer_mlx.py", mlx)]:
            command = [VENV, "-B", ROOT / "scripts" / "peers" / script, PLAIN_MODEL, dtype, where]
            yield subjects.Subject(f"{name} {dtype}", dtype, command, [], "")


def requests(device, size, logs, clock):
    """Latency of one query with 20 documents: back to back, and after the device was idle."""
    with contextlib.ExitStack() as stack:
        asked = [started(subject, logs, stack) for subject in [*(driver(d, device) for d in size["dtypes"]), *peers(device)]]
        running = [process for process in asked if not isinstance(process, dict)]
        seconds = {}
        for number in range(size["rounds"]):
            for length in size["lengths"]:
                for process in running:
                    if clock.is_over():
                        raise Missing("the time was over")
                    ask, name = request_asker(process, length, logs), process.subject.name
                    if number == 0:
                        ask(3)  # warms up
                    seconds.setdefault((name, length, 0), []).extend(ask(size["requests"]))
                    for idle, count in size["idle"].items() if process.subject.ours else ():
                        for _ in range(count):
                            time.sleep(idle)
                            seconds.setdefault((name, length, idle), []).extend(ask(1))
    rows = [
        {"program": name, "length": length, "idle_s": idle, "documents": DOCUMENTS, **spread(values, 1e3, "ms")}
        for (name, length, idle), values in seconds.items()
    ]
    return rows + [process for process in asked if isinstance(process, dict)]


def started(subject, logs, stack):
    """A running process of the subject, or why there is none."""
    if not subject.ours and not (VENV.exists() and PLAIN_MODEL.exists()):
        return {"program": subject.name, **missing("build/peers has no Python environment: run make peers-python")}
    try:
        process = processes.Process(subject, logs)
    except (OSError, SystemExit) as err:
        return {"program": subject.name, **missing(err)}
    stack.callback(process.close)
    return process


def requests_of(length, count):
    """Requests without two equal pairs, since the engine computes those once."""
    return [[text_of(length, DOCUMENTS * i + j) for j in range(DOCUMENTS)] for i in range(count)]


def request_asker(process, length, logs):
    def ask(count):
        path = logs / f"requests-{length}-{count}.json"
        path.write_text(json.dumps(requests_of(length, count)), encoding="utf-8")
        return process.ask("requests", pairs=path)["seconds"]

    return ask


def spread(values, scale=1.0, unit=""):
    values = [scale * v for v in values]
    return {
        "n": len(values),
        f"p50_{unit}": arithmetic.percentile(values, 50),
        f"p5_{unit}": arithmetic.percentile(values, 5),
        f"p95_{unit}": arithmetic.percentile(values, 95),
    }


def cold_start(device, size, clock):
    """Seconds of a process that ranks one document: the first with nothing kept, and the second."""
    seconds = {"first": [], "second": []}
    command = [str(PROGRAM), "rerank", "--model", "builtin", "--device", device, "--query", *text_of(32, 0)]
    for _ in range(size["starts"]):
        with tempfile.TemporaryDirectory() as home:  # where the choice of the variant is kept
            env = {**product_env(), "HOME": home, "XDG_CACHE_HOME": home + "/cache"}
            for process in seconds:
                start = time.perf_counter()
                command_output(command, clock, env)
                seconds[process].append(time.perf_counter() - start)
    return [{"process": name, **spread(values, 1, "s")} for name, values in seconds.items()]


def bench_rounds(name, text, logs, rounds, clock):
    """The points of an experiment, each with a run of every round."""
    experiment = logs / f"{name}.yaml"
    experiment.write_text(text, encoding="utf-8")
    merged = {}
    for number in range(rounds):
        folder = logs / f"{name}-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        command_output([str(PROGRAM), "bench", "--log-level", "warn", "--results", str(folder), str(experiment)], clock, product_env())
        data = json.loads((folder / f"{name}_results.json").read_text(encoding="utf-8"))
        for index, point in enumerate(data["points"]):
            if point.get("error"):
                raise Missing(point["error"])
            merged.setdefault(index, {**point, "runs": []})["runs"] += point["runs"]
    return list(merged.values())


def pairs_per_second(run):
    return sum(r["pairs"] for r in run["requests"]) / run["wall_ms"] * 1e3


def batches(device, size, logs, clock):
    """Throughput by tokens of a batch, which on a GPU is one microbatch up to its maximum."""
    text = (
        f"model: builtin\nmode: inference-only\ndevice: {device}\nbatch: {size['pairs']}\nmax_batch: 4096\nconcurrency: 2\n"
        f"requests: 4\nwarmup: 1\nmax_batch_tokens: {size['batches']}\n"
    )
    points = bench_rounds("batches", text, logs, size["rounds"], clock)
    return [
        {"max_batch_tokens": p["settings"]["max_batch_tokens"], **spread([pairs_per_second(r) for r in p["runs"]], 1, "pairs_per_s")}
        for p in points
    ]


def goldens(queries):
    """Queries of the builtin model's golden, with PyTorch's logits in float32."""
    with gzip.open(ROOT / "engine" / "testdata" / "builtin.jsonl.gz", "rt", encoding="utf-8") as f:
        rows = [json.loads(line) for line in f][1:]
    chosen = list(dict.fromkeys(row["query"] for row in rows))
    chosen = set(chosen[:: max(1, len(chosen) // queries)][:queries])
    return [row for row in rows if row["query"] in chosen]


def quality(device, size, logs):
    """The error of half precision on the goldens: against PyTorch, and ties that float32 has not."""
    rows = goldens(size["golden_queries"])
    lengths = token_counts(rows, logs)
    path = logs / "goldens.json"
    path.write_text(json.dumps([[row["query"], row["document"]] for row in rows]), encoding="utf-8")
    logits = {}
    for dtype in ("float32", size["half"]):
        with contextlib.closing(processes.Process(driver(dtype, device), logs)) as process:
            logits[dtype] = process.ask("score", pairs=path)["logits"]
    queries, want = [row["query"] for row in rows], [row["logit"] for row in rows]
    return [
        {
            "dtype": dtype,
            **arithmetic.agreement(got, want, queries),
            "ties": new_ties(got, logits["float32"], queries),
            "by_length": by_length(got, want, lengths),
        }
        for dtype, got in logits.items()
    ]


def token_counts(rows, logs):
    path = logs / "goldens.jsonl"
    path.write_text("".join(json.dumps({"query": r["query"], "document": r["document"]}) + "\n" for r in rows), encoding="utf-8")
    status, output, errors = run_command([str(PROGRAM), "tokenize", "--model", "builtin", "--input", str(path)], ROOT, 120, product_env())
    if status:
        raise Missing(errors)
    return [len(json.loads(line)["input_ids"]) for line in output.splitlines()]


def new_ties(got, exact, queries):
    """Pairs of one query whose logits are equal, though those in float32 are not."""
    return sum(
        queries[i] == queries[j] and got[i] == got[j] and exact[i] != exact[j] for i in range(len(got)) for j in range(i + 1, len(got))
    )


def by_length(got, want, lengths):
    """The worst difference by tokens of the pair, in deviations of all logits."""
    deviation, found = statistics.pstdev(want), []
    for low, high in [(1, 32), (33, 64), (65, 128), (129, 256), (257, 512)]:
        off = [abs(g - w) / deviation for g, w, n in zip(got, want, lengths, strict=True) if low <= n <= high]
        if off:
            found.append({"tokens": f"{low}-{high}", "pairs": len(off), "worst": max(off)})
    return found


def power(device, logs, clock):
    """Milliwatts while the benchmark runs, from powermetrics, which asks for root."""
    if platform.system() != "Darwin":
        raise Missing("powermetrics is a program of macOS")
    status, _, _ = run_command(["sudo", "-n", "true"], ROOT, 10)
    if status:
        raise Missing("powermetrics needs root, and sudo asks for a password here")
    load = subjects.Subject("load", "", [str(PROGRAM), "bench", "--device", device, "--model", "builtin", "--duration", "8s"], [], "")
    load.command += ["--log-level", "warn", "--results", str(logs / "power")]
    with processes.in_background(load, logs):
        time.sleep(2)
        command = ["sudo", "-n", "powermetrics", "--samplers", "cpu_power,gpu_power", "-i", "1000", "-n", "4"]
        return machine.read_power(command_output(command, clock))
