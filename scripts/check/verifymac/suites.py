"""What is run: tests of the Go packages on a device, doctor, the bench, the Swift package."""

import dataclasses
import json
import os
import platform
import re
import signal
import subprocess
import time

DOCTOR = "doctor"
TAIL_LINES = 40
# Of the many lines that passing tests log, those with a figure to compare; how
# far the deliberate mistakes are off is none.
FIGURE = re.compile(r"^(?!.*control ).*(off by|footprint|\| b?float16 \|)")
# Where a test logged a line.
PLACE = re.compile(r"^\s*\w+\.go:\d+: ")

PARITY = [
    "TestGraphIsTheOneAskedFor",
    "TestTinyModelsMatchPyTorch",
    "TestFamilyMatchesPyTorch",
    "TestRandomHeadMatchesPyTorch",
    "TestBuiltinMatchesPyTorch",
    "TestBuiltinControlsFail",
    "TestBuiltinPairScoresTheSameInAnyCompany",
    "TestLabels",
]
HALF = ["TestHalfPrecisionKeepsTheOrder", "TestBuiltinInHalfPrecision"]
THREADS = [
    "TestEveryScoreFrom64Goroutines",
    "TestCancellationAtRandomMoments",
    "TestManyCallersWithCancellations",
    "TestReopenedSessionScoresTheSame",
    "TestCloseWaitsAndThenRefuses",
    "TestTwoTicketsInFlight",
    "TestSubmitWhileCollecting",
    "TestManyCallersOneSession",
    "TestCloseEndsTheSession",
    "TestThreadKeepsToOneOSThread",
]
MEMORY = ["TestOpenAndCloseLeaveNothing", "TestUnloadingFreesTheModel", "TestMemoryLimit", "TestMemoryAndLimits"]
SOAK = ["TestSoak"]
# The suites of --quick: what takes few minutes.
QUICK = {DOCTOR, "parity-float32", "parity-half", "bench"}


class Clock:
    """Counts down the time for everything."""

    def __init__(self, minutes):
        self.end = time.monotonic() + 60 * minutes

    def left(self):
        return max(1.0, self.end - time.monotonic())

    def is_over(self):
        return time.monotonic() >= self.end


def run_command(command, root, seconds, env=None):
    """Returns exit status, output and errors; 124 if the command does not end within the time."""
    command = [str(word) for word in command]
    try:
        process = subprocess.Popen(
            command,
            cwd=root,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as err:
        return 127, "", str(err)
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # what it started, too
        output, errors = process.communicate()
        return 124, output, errors + f"\nit did not end within {seconds:.0f} s\n"
    return process.returncode, output, errors


@dataclasses.dataclass
class Result:
    """The result of a suite. figures are lines for the report, details a longer text."""

    name: str
    shows: str
    passed: bool
    seconds: float = 0.0
    tests: int = 0
    problems: list = dataclasses.field(default_factory=list)
    figures: list = dataclasses.field(default_factory=list)
    details: str = ""
    no_gpu: bool = False
    facts: dict = dataclasses.field(default_factory=dict)  # of the engine that ran

    @property
    def verdict(self):
        if self.no_gpu:
            return "NO USABLE GPU"
        return "passed" if self.passed else "FAILED"

    def to_json(self):
        return {**dataclasses.asdict(self), "verdict": self.verdict}


@dataclasses.dataclass
class Suite:
    """A command, and read, which makes a Result of its exit status and output."""

    name: str
    shows: str
    command: list
    read: object
    env: dict = dataclasses.field(default_factory=dict)

    def run(self, root, logs, clock):
        start = time.monotonic()
        status, output, errors = run_command(self.command, root, clock.left(), self.env)
        result = self.read(self, status, output + errors)
        result.seconds = time.monotonic() - start
        logs.mkdir(parents=True, exist_ok=True)
        (logs / f"{self.name}.log").write_text(output + errors, encoding="utf-8")
        return result


def every(root, device, soak, quick=False):
    """The suites, doctor first; fewer if quick. capi and swift test the library that make capi builds."""
    env = {"MLXRANK_TEST_DEVICE": device}

    def go(name, shows, tests, packages, options=(), arguments=()):
        pattern = f"^({'|'.join(tests)})$" if tests else "."
        command = ["go", "test", "-json", "-count", "1", "-timeout", "60m", *options]
        command += ["-run", pattern, *packages, *arguments]
        return Suite(name, shows, command, lambda s, status, out: read_go(s, status, out, tests), env)

    bench = root / "build" / "verify-mac" / "bench"
    experiment = "experiments/14_optimized_production.yaml"
    program = str(root / "build" / "bin" / "mlxrank")
    all_suites = [
        Suite(DOCTOR, "libraries, device and model", [program, "doctor", "--device", device], read_doctor),
        go("parity-float32", "logits in float32 are PyTorch's", PARITY, ["./engine"]),
        go("parity-half", "logits in half precision are near them", HALF, ["./engine"]),
        go("threads", "many callers at once, under the race detector", THREADS, ["./engine", "./mlx"], ["-race"]),
        go("memory", "limits hold, and what is closed is given back", MEMORY, ["./engine", "./mlx"]),
        go(
            "soak",
            f"random shapes for {soak} leave nothing behind",
            SOAK,
            ["./engine"],
            ["-timeout", "0"],  # it ends by itself
            ["-soak-time", soak],
        ),
        go("capi", "the C API, from C, C++ and Python", None, ["./capi/..."]),
        Suite(
            "bench",
            "the experiment of make bench",
            [program, "bench", "--device", device, "--results", str(bench), *(["--runs", "1"] if quick else []), experiment],
            lambda s, status, out: read_bench(s, status, out, bench, device),
        ),
    ]
    if platform.system() == "Darwin":
        all_suites.append(Suite("swift", "the Swift package", ["make", "test-swift"], read_swift, env))
    return [suite for suite in all_suites if not quick or suite.name in QUICK]


def failed(suite, problems, output, **fields):
    tail = "\n".join(output.rstrip().splitlines()[-TAIL_LINES:])
    return Result(suite.name, suite.shows, False, problems=problems, details=tail, **fields)


def read_doctor(suite, status, output):
    """Distinguishes a missing GPU from other failures."""
    device_failed = re.search(r"^FAIL +device ", output, re.MULTILINE)
    no_gpu = bool(device_failed and "GPUs that MLX can use: 0;" in output)
    if status != 0:
        return failed(suite, [f"exit status {status}"], output, no_gpu=no_gpu)
    return Result(suite.name, suite.shows, True, details=output.rstrip())


def read_go(suite, status, output, tests):
    """Every test that is named must have run and passed; of a package, at least one."""
    passed, bad, figures, text = set(), [], [], []
    for event in events(output):
        test = event.get("Test", "")
        line = event.get("Output", "")
        text.append(line)
        if PLACE.match(line) and FIGURE.match(line):
            figures.append(f"{test}: {PLACE.sub('', line).strip()}")
        if event["Action"] in ("fail", "skip") and test and "/" not in test:
            bad.append(f"{test}: {event['Action']}")
        if event["Action"] == "pass" and test and "/" not in test:
            passed.add(test)
    bad += [f"{test}: did not run" for test in tests or [] if test not in passed and f"{test}: fail" not in bad]
    if not passed:
        bad.append("no test ran")
    if status != 0 or bad:
        problems = bad or [f"exit status {status}"]
        return failed(suite, problems, "".join(text), tests=len(passed), figures=figures)
    return Result(suite.name, suite.shows, True, tests=len(passed), figures=figures)


def events(output):
    """The events of go test -json; what is no JSON, such as a compiler's words, is output too."""
    for line in output.splitlines(keepends=True):
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        yield (event if isinstance(event, dict) and "Action" in event else {"Action": "output", "Output": line})


def read_bench(suite, status, output, folder, device):
    """The speed, and a failure if another device than asked for was measured."""
    if status != 0:
        return failed(suite, [f"exit status {status}"], output)
    try:
        data = json.loads((folder / "14_optimized_production_results.json").read_text(encoding="utf-8"))
        (point,) = data["points"]
        ran = point["engine"]
        rates = [sum(r["pairs"] for r in run["requests"]) / run["wall_ms"] * 1e3 for run in point["runs"]]
        latencies = sorted(r["latency_ms"] for run in point["runs"] for r in run["requests"])
    except (OSError, ValueError, KeyError, TypeError) as err:
        return failed(suite, [f"its results cannot be read: {err!r}"], output)
    if ran["device"] != device:
        return failed(suite, [f"ran on {ran['device']}, not on {device}"], output)
    graph = f"variant {ran.get('variant') or '-'}, NAX {'yes' if ran.get('nax') else 'no'}"
    figures = [
        f"{ran['device']} ({ran['device_name']}), {ran['dtype']}, MLX {ran['mlx']}, {graph}",
        "pairs per second, run by run: " + ", ".join(f"{rate:.1f}" for rate in rates),
        f"latency of 32 pairs, P50: {latencies[len(latencies) // 2]:.1f} ms",
    ]
    return Result(suite.name, suite.shows, True, tests=len(rates), figures=figures, facts=ran)


def read_swift(suite, status, output):
    """swift test exits 0 when there are no tests at all, which is a failure here."""
    counts = [int(n) for n in re.findall(r"(?:Executed|Test run with) (\d+) tests?", output)]
    if status != 0 or not any(counts):
        return failed(suite, [f"exit status {status}, {max(counts, default=0)} tests"], output)
    return Result(suite.name, suite.shows, True, tests=max(counts))
