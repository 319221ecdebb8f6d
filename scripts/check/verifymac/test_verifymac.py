"""python3 -m unittest discover -s scripts/check/verifymac"""

import importlib.util
import io
import json
import sys
import tempfile
import unittest
import unittest.mock
from pathlib import Path

import compare
import decisions
import machine
import measured
import measures
import report
import suites

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
spec = importlib.util.spec_from_file_location("verify", HERE / "__main__.py")
verify = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verify)

NO_GPU = """\
OK    program    mlxrank
FAIL  device     mlx: device_info: MLX 0.32.2 finds no GPU it can use on this machine
                 GPUs that MLX can use: 0; processors: 2
"""


def suite(read, name="some"):
    return suites.Suite(name, "something", ["true"], read)


def go_output(*events):
    return "".join(json.dumps(dict(zip(("Action", "Test", "Output"), event))) + "\n" for event in events)


class GoTests(unittest.TestCase):
    def read(self, status, output, tests=("TestA", "TestB")):
        return suites.read_go(suite(None), status, output, tests)

    def test_all_passed(self):
        output = go_output(
            ("run", "TestA"),
            ("output", "TestA", "    some_test.go:12: off by 2e-06 of the deviation\n"),
            ("output", "TestA", '    some_test.go:13: control "pair swapped" is off by 9 times\n'),
            ("pass", "TestA/part"),
            ("pass", "TestA"),
            ("pass", "TestB"),
            ("pass",),
        )
        result = self.read(0, output)
        self.assertTrue(result.passed)
        self.assertEqual((result.tests, result.figures), (2, ["TestA: off by 2e-06 of the deviation"]))

    def test_what_did_not_run_has_not_passed(self):
        cases = {
            "one of them": (go_output(("pass", "TestA"), ("pass",)), ["TestB: did not run"]),
            "none": (go_output(("pass",)), ["TestA: did not run", "TestB: did not run", "no test ran"]),
            "a skipped one": (go_output(("pass", "TestA"), ("skip", "TestB")), ["TestB: skip", "TestB: did not run"]),
            "nothing at all": ("", ["TestA: did not run", "TestB: did not run", "no test ran"]),
        }
        for name, (output, problems) in cases.items():
            with self.subTest(name):
                result = self.read(0, output)
                self.assertFalse(result.passed)
                self.assertEqual(result.problems, problems)

    def test_a_failure_is_shown_with_its_words(self):
        output = go_output(("output", "TestA", "    a_test.go:1: off by 3, tolerance 1\n"), ("fail", "TestA"), ("pass", "TestB"))
        result = self.read(1, output)
        self.assertFalse(result.passed)
        self.assertEqual(result.problems, ["TestA: fail"])
        self.assertIn("tolerance 1", result.details)

    def test_a_compiler_speaks_no_json(self):
        result = self.read(2, "# pkg\n./x.go:1:1: undefined: y\n[1]\n")
        self.assertFalse(result.passed)
        self.assertIn("undefined: y", result.details)

    def test_a_whole_package(self):
        self.assertTrue(self.read(0, go_output(("pass", "TestAny")), None).passed)
        self.assertFalse(self.read(0, go_output(("skip", "TestAny")), None).passed)
        self.assertFalse(self.read(1, go_output(("pass", "TestAny")), None).passed)

    def test_the_tests_that_are_named_exist(self):
        for names, folders in {
            (*suites.PARITY, *suites.HALF, *suites.SOAK): ["engine"],
            (*suites.THREADS, *suites.MEMORY): ["engine", "mlx"],
        }.items():
            source = "".join(path.read_text(encoding="utf-8") for folder in folders for path in (ROOT / folder).glob("*_test.go"))
            for name in names:
                self.assertRegex(source, rf"(?m)^func {name}\(t \*testing\.T\)")


class OtherSuites(unittest.TestCase):
    def test_doctor(self):
        read = suites.read_doctor
        self.assertTrue(read(suite(read), 0, "OK    device     gpu: Apple M4\n").passed)
        result = read(suite(read), 1, NO_GPU)
        self.assertTrue(result.no_gpu and not result.passed)
        result = read(suite(read), 1, "FAIL  library    libmlxrank was not found\n")
        self.assertFalse(result.no_gpu or result.passed)

    def test_a_gpu_that_is_there_and_fails_is_a_failure(self):
        read = suites.read_doctor
        result = read(suite(read), 1, NO_GPU.replace("use: 0;", "use: 1;"))
        self.assertFalse(result.no_gpu or result.passed)

    def test_the_words_are_doctors(self):
        source = (ROOT / "cli/doctor/doctor.go").read_text(encoding="utf-8")
        self.assertIn('"GPUs that MLX can use: %d; processors: %d"', source)
        self.assertIn('check{name: "device"', source)

    def test_bench(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)

            def read(device, status=0):
                return suites.read_bench(suite(None), status, "its words", folder, device)

            self.assertFalse(read("gpu").passed)  # no results
            requests = [{"pairs": 32, "latency_ms": 100.0}] * 10
            data = {"device": "gpu", "device_name": "Apple M4", "dtype": "float16", "mlx": "0.32.2"}
            data = {"points": [{"engine": data, "runs": [{"wall_ms": 1000.0, "requests": requests}] * 3}]}
            path = folder / "14_optimized_production_results.json"
            path.write_text(json.dumps(data), encoding="utf-8")
            result = read("gpu")
            self.assertTrue(result.passed)
            self.assertIn("pairs per second, run by run: 320.0, 320.0, 320.0", result.figures)
            self.assertEqual(read("cpu").problems, ["ran on gpu, not on cpu"])
            self.assertFalse(read("gpu", status=1).passed)

    def test_swift(self):
        read = suites.read_swift
        self.assertTrue(read(suite(read), 0, "Test run with 7 tests in 2 suites passed").passed)
        self.assertTrue(read(suite(read), 0, "Executed 3 tests, with 0 failures").passed)
        self.assertFalse(read(suite(read), 0, "Executed 0 tests, with 0 failures").passed)
        self.assertFalse(read(suite(read), 0, "Build complete!").passed)
        self.assertFalse(read(suite(read), 1, "Executed 3 tests, with 1 failure").passed)


class Verify(unittest.TestCase):
    """The program as a whole, with commands that stand for the suites."""

    def run_suites(self, *commands, device="gpu", only=None):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        every = []
        for name, script in commands:
            read = suites.read_doctor if name == suites.DOCTOR else lambda s, status, out: suites.read_go(s, status, out, None)
            every.append(suites.Suite(name, "something", [sys.executable, "-c", script], read))
        build = Path(folder.name) / "build"

        def measure(*_):
            yield "native", MEASURED["native"]
            for name in report.PARTS:
                if name != "native":
                    yield name, measures.missing("this test has no device")

        status = verify.verify(Path(folder.name), device, every, only, io.StringIO(), suites.Clock(1), measure=measure)
        self.data = json.loads((build / "verify-mac.json").read_text(encoding="utf-8"))
        return status, (build / "verify-mac.md").read_text(encoding="utf-8")

    GOOD = ("doctor", "print('OK    device     gpu: Apple M4')")
    PASS = ("threads", f"print({go_output(('pass', 'TestA'))!r})")
    FAIL = ("soak", f"print({go_output(('fail', 'TestB'))!r}); exit(1)")

    def test_all_passed(self):
        status, text = self.run_suites(self.GOOD, self.PASS)
        self.assertEqual(status, 0)
        self.assertIn("**all 2 suites passed on gpu**", text)

    def test_one_failure_fails_and_the_rest_still_runs(self):
        status, text = self.run_suites(self.GOOD, self.FAIL, self.PASS)
        self.assertEqual(status, 1)
        self.assertIn("**FAILED on gpu: soak**", text)
        self.assertIn("| threads | something | passed | 1 |", text)

    def test_no_gpu_is_loud_and_no_success(self):
        status, text = self.run_suites(("doctor", f"print({NO_GPU!r}); exit(1)"), self.PASS)
        self.assertEqual(status, 3)
        self.assertIn("**NO USABLE GPU", text)
        self.assertNotIn("threads", text)

    def test_the_cpu_verifies_nothing_of_metal(self):
        status, text = self.run_suites(self.GOOD, device="cpu")
        self.assertEqual(status, 0)
        self.assertIn("verifies nothing of Metal", text)

    def test_doctor_runs_even_when_another_suite_is_asked_for(self):
        status, text = self.run_suites(self.GOOD, self.FAIL, self.PASS, only=["threads"])
        self.assertEqual(status, 0)
        self.assertIn("| doctor |", text)
        self.assertIn("Only some of the suites", text)

    def test_a_command_that_is_not_there_fails(self):
        with tempfile.TemporaryDirectory() as folder:
            missing = suites.Suite("swift", "something", ["/no/such/program"], suites.read_swift)
            self.assertFalse(missing.run(Path(folder), Path(folder) / "logs", suites.Clock(1)).passed)

    def test_a_suite_ends_with_the_time(self):
        with tempfile.TemporaryDirectory() as folder:
            slow = suites.Suite("slow", "something", ["sleep", "60"], suites.read_swift)
            result = slow.run(Path(folder), Path(folder) / "logs", suites.Clock(0))
            self.assertFalse(result.passed)
            self.assertIn("did not end within 1 s", result.details)

    def test_the_json_has_what_the_report_has(self):
        _, text = self.run_suites(self.GOOD, self.PASS)
        self.assertEqual(self.data["schema"], report.SCHEMA)
        self.assertEqual([s["name"] for s in self.data["suites"]], ["doctor", "threads"])
        self.assertIn("this test has no device", text)
        self.assertTrue(text.index("## What to change and why") > text.index("## Figures"))
        self.assertEqual(text, report.render(self.data))

    def test_quick_leaves_suites_out(self):
        names = {s.name for s in suites.every(ROOT, "cpu", "1s", quick=True)}
        self.assertEqual(names, suites.QUICK)
        self.assertLess(names, {s.name for s in suites.every(ROOT, "cpu", "1s")})

    def test_an_unknown_suite_is_a_usage_error(self):
        with self.assertRaises(SystemExit) as raised, unittest.mock.patch("sys.stderr", io.StringIO()):
            verify.main(["--only", "speed"])
        self.assertEqual(raised.exception.code, 2)


class Report(unittest.TestCase):
    def test_a_table_keeps_its_columns(self):
        self.assertEqual(report.table(["a"], [["x|y"]])[-1], "| x\\|y |")

    def test_gpu_cores(self):
        profile = {"SPDisplaysDataType": [{"sppci_cores": "10", "sppci_model": "Apple M4"}, {"sppci_model": "other"}]}
        self.assertEqual(machine.gpu_cores(json.dumps(profile)), "10 (Apple M4)")
        for text in ("unknown", "[]", "{}", '{"SPDisplaysDataType": []}'):
            self.assertEqual(machine.gpu_cores(text), "unknown")

    def test_every_machine_has_facts(self):
        self.assertTrue(all(isinstance(value, str) and value for value in machine.facts(ROOT).values()))

    def test_what_macos_prints(self):
        self.assertEqual(machine.thermal("Note: No thermal warning level has been recorded\n"), "nominal")
        self.assertEqual(machine.thermal("CPU_Scheduler_Limit = 100\nCPU_Speed_Limit = 70\n"), "CPU_Speed_Limit 70 %")
        self.assertEqual(machine.thermal("unknown"), "unknown")
        self.assertEqual(machine.low_power_mode(" lowpowermode         1\n"), "on")
        self.assertEqual(machine.low_power_mode(" powermode            0\n"), "off")
        self.assertEqual(machine.low_power_mode("unknown"), "unknown")
        self.assertEqual(machine.gpu_use('"Device Utilization %"=12,"Renderer Utilization %"=3'), "12 %")
        power = "CPU Power: 100 mW\nGPU Power: 1000 mW\nGPU Power: 2000 mW\n"
        self.assertIn({"name": "GPU", "mW": 1500, "n": 2}, machine.read_power(power))
        with self.assertRaises(ValueError):
            machine.read_power("nothing")

    def test_the_variant_of_doctor(self):
        self.assertEqual(machine.variant_of("OK    mlx        0.32\nOK    variant    qpad-kernels, chosen in 1.20 s\n"), "qpad-kernels")
        self.assertEqual(machine.variant_of("OK    mlx        0.32\n"), "")

    def test_gpu_facts(self):
        found = machine.gpu_facts({"device": "gpu", "architecture": "applegpu_g17s"}, {"nax": True, "variant": "packed"})
        self.assertEqual((found["GPU generation"], found["NAX"], found["variant"]), (17, "yes", "packed"))
        self.assertIsNone(machine.gpu_facts({}, {})["GPU generation"])


def native_row(group, name, median, dtype="float16", **more):
    spread = {"n": 5, "median_us": median, "mad_us": 0.1, "p5_us": median, "p95_us": median}
    return {"item": 1, "group": group, "name": name, "dtype": dtype, **spread, **more}


def request(program, p50, length=128, idle=0):
    return {"program": program, "length": length, "idle_s": idle, "documents": 20, "n": 9, "p50_ms": p50, "p95_ms": p50}


def good_report():
    """A report of a GPU on which nothing is to be changed."""
    rows = [
        *(native_row(group, "GEMM 4096^3", 10000, flops=1.4e11) for group in ("anchors, first", "anchors, last")),
        native_row("GEMM, 2560 tokens", "384 to 1152", 200, flops=2.3e9),
        native_row("GEMM, 2560 tokens", "1536 to 384", 260, flops=3.0e9),
        native_row("attention, width 128", "fallback", 900),
        native_row("attention, width 128", "qpad", 700),
        native_row("attention, width 128", "own", 500),
        native_row("GELU, 2560 tokens", "chain", 500),
        native_row("GELU, 2560 tokens", "compiled", 120),
        native_row("GELU, 2560 tokens", "kernel", 100),
        native_row("fixed costs", "dependent kernel", 2.6),
        *(
            native_row("fixed costs", "pass: " + part, t)
            for part, t in zip(("whole", "build", "encode", "synchronize"), (6000, 300, 200, 100))
        ),
        native_row("shapes", "repeated", 1000),
        native_row("shapes", "jittered", 1010),
        native_row("microbatches", "8192 tokens", 9000, tokens=8192, peak_bytes=1e8),
        native_row("microbatches", "16384 tokens", 16384, tokens=16384, peak_bytes=2e8),
        native_row("microbatches", "32768 tokens", 32768, tokens=32768, peak_bytes=4e8),
        native_row("streams", "one, depth 2", 1000),
        native_row("streams", "two, depth 1", 1000),
    ]
    half = {"dtype": "float16", "worst": 0.01, "tau": 0.999, "top10": 1.0, "ties": 0, "pairs": 7, "by_length": []}
    return {
        "device": "gpu",
        "facts": {"variant": "packed", "NAX": "no", "GPU generation": 16, "Low Power Mode": "off", "thermal level before": "nominal"},
        "suites": [{"name": "doctor", "passed": True, "verdict": "passed"}],
        "native": {"rows": rows},
        "faults": [{"kind": "write", "outcome": "error", "message": "page fault", "next": "right"}],
        "requests": [
            request("mlxrank float16", 7),
            request("mlxrank float32", 12),
            request("mlxrank float16", 8, idle=1),
            request("PyTorch MPS float16", 20),
            {"program": "Python MLX float16", **measures.missing("it is not there")},
        ],
        "cold_start": [{"process": "first", "p50_s": 1.5, "n": 1}, {"process": "second", "p50_s": 0.4, "n": 1}],
        "quality": [half | {"dtype": "float32"}, half],
    }


def set_row(data, group, name, **fields):
    (found,) = [r for r in data["native"]["rows"] if (r["group"], r["name"]) == (group, name)]
    found.update(fields)


def drop_row(data, group, name):
    rows = data["native"]["rows"]
    rows[:] = [r for r in rows if (r["group"], r["name"]) != (group, name)]


class Decisions(unittest.TestCase):
    def decide(self, change=lambda data: None):
        data = good_report()
        change(data)
        return {d.about: d for d in decisions.decide(data)}

    def test_a_good_report_changes_nothing(self):
        found = self.decide()
        self.assertEqual({d.about: d.what for d in found.values() if d.changes}, {})
        self.assertEqual(len(found), len(decisions.RULES))

    def test_figures_that_are_missing_decide_nothing(self):
        self.assertEqual(decisions.decide({}), [])
        parts = {name: measures.missing("no time") for name in report.PARTS}
        self.assertEqual(decisions.decide({"device": "gpu", "facts": {}, "suites": [], **parts}), [])

    def test_each_figure_leads_to_its_decision(self):
        def fault(**fields):
            return lambda data: data["faults"][0].update(fields)

        def program(name, p50):
            return lambda data: [r.update(p50_ms=p50) for r in data["requests"] if r["program"] == name]

        def change(group, name, **fields):
            return lambda data: set_row(data, group, name, **fields)

        def facts(**fields):
            return lambda data: data["facts"].update({key.replace("_", " "): value for key, value in fields.items()})

        cases = [
            ("correctness", "fix the suites", lambda data: data["suites"][0].update(passed=False)),
            ("failing work", "do not ship", fault(outcome="wrong scores")),
            ("failing work", "do not ship", fault(next="wrong scores")),
            ("failing work", "open the session again", fault(next="command buffer failed")),
            ("failing work", "find another way", fault(outcome="right scores")),
            ("conditions", "measure again", facts(Low_Power_Mode="on")),
            ("conditions", "measure again", facts(thermal_level_before="CPU_Speed_Limit 70 %")),
            ("conditions", "measure again", change("anchors, last", "GEMM 4096^3", median_us=12000)),
            ("attention", "look at the choice", change("attention, width 128", "qpad", median_us=400)),
            ("GELU", "replace our kernel by compiled", change("GELU, 2560 tokens", "compiled", median_us=80)),
            ("GELU", "compile the chain", lambda data: drop_row(data, "GELU, 2560 tokens", "kernel")),
            ("GEMM", "1536 to 384", change("GEMM, 2560 tokens", "1536 to 384", median_us=900)),
            ("NAX", "find out why", facts(GPU_generation=17)),
            ("default type", "float32 as the default", program("mlxrank float32", 7.2)),
            ("launches", "join more kernels", change("fixed costs", "dependent kernel", median_us=12)),
            ("host", "build the next graph", change("fixed costs", "pass: encode", median_us=1500)),
            ("synchronize", "check the command buffers", change("fixed costs", "pass: synchronize", median_us=400)),
            ("idle", "clocks rise", lambda data: data["requests"][2].update(p50_ms=10)),
            ("first start", "choose the variant", lambda data: data["cold_start"][0].update(p50_s=3)),
            ("start", "profile a start", lambda data: [r.update(p50_s=1.6) for r in data["cold_start"]]),
            ("shapes", "few sizes", change("shapes", "jittered", median_us=1200)),
            ("microbatch", "recommend 8192 tokens", change("microbatches", "8192 tokens", median_us=8200)),
            ("streams", "one stream", change("streams", "two, depth 1", median_us=1100)),
            ("precision", "float32 as the default", lambda data: data["quality"][1].update(ties=2)),
            ("precision", "float32 as the default", lambda data: data["quality"][1].update(tau=0.9)),
            ("others", "PyTorch MPS", program("PyTorch MPS float16", 5)),
        ]
        for about, words, change_report in cases:
            with self.subTest(f"{about}: {words}"):
                found = self.decide(change_report)
                self.assertIn(words, found[about].what)
                self.assertEqual([d.about for d in found.values() if d.changes], [about])
        self.assertEqual({about for about, _, _ in cases}, {d.about for d in self.decide().values()} | {"first start"})

    def test_own_attention_that_loses(self):
        def change(data):
            data["facts"]["variant"] = "qpad-kernels"
            set_row(data, "attention, width 128", "own", median_us=800)

        self.assertIn("improve our attention kernel", self.decide(change)["attention"].what)


MEASURED = good_report()


class Measured(unittest.TestCase):
    """The check of what measure prints; `make test-native` runs it on what it does print."""

    def good(self):
        rows = [
            native_row(begin + ("1" if begin.endswith(" ") else ""), name, 5.0, dtype="float32")
            for begin, names in measured.NAMES.items()
            for name in sorted(names) or ["512 tokens"]
        ]
        head = {"schema": 1, "device": "cpu", "quick": True, "mlx": "1", "libmlx": "x", "name": "x", "architecture": ""}
        return {**head, "rows": rows}

    def test_good(self):
        self.assertEqual(measured.problems(self.good()), [])

    def test_each_fault_is_found(self):
        def change(name, **fields):
            return lambda data: [r.update(fields) for r in data["rows"] if r["name"] == name]

        cases = {
            "no rows": lambda data: data.pop("rows"),
            "another schema": lambda data: data.update(schema=2),
            "a group": lambda data: data["rows"].__delitem__(slice(-2, None)),
            "a row": lambda data: data["rows"].pop(),
            "no time and no reason": change("qpad", median_us=None),
            "a time that must be there": change("qpad", median_us=None, missing="it failed"),
            "too few": change("chain", n=2),
            "no order": change("chain", p5_us=6.0),
            "a key": change("chain", dtype=None),
        }
        for name, spoil in cases.items():
            with self.subTest(name):
                data = self.good()
                spoil(data)
                self.assertNotEqual(measured.problems(data), [])

    def test_own_kernels_may_be_missing(self):
        data = self.good()
        for row in data["rows"]:
            if row["name"] in measured.MAY_BE_MISSING:
                row.update(median_us=None, n=0, missing="not in this build")
        self.assertEqual(measured.problems(data), [])

    def test_faults(self):
        self.assertEqual(measured.fault_problems({"outcome": "error", "message": "", "next": "right"}), [])
        self.assertNotEqual(measured.fault_problems({"outcome": "scores", "message": "", "next": "right"}), [])


class Compare(unittest.TestCase):
    def test_side_by_side(self):
        a, b = good_report(), good_report()
        set_row(b, "shapes", "jittered", median_us=2020)
        b["facts"]["variant"] = "qpad"
        b["requests"] = b["requests"][:1]
        text = "\n".join(compare.lines(a, b))
        self.assertIn("| shapes, jittered, float16: median_us | 1010 | 2020 | 2.00 |", text)
        self.assertIn("| facts, variant | packed | qpad | differs |", text)
        self.assertRegex(text, r"requests mlxrank float32, 128, 0: p50_ms \| 12 \| - \| differs")

    def test_another_schema_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.json"
            path.write_text('{"schema": 99}', encoding="utf-8")
            with self.assertRaises(SystemExit) as raised:
                compare.main([str(path), str(path)])
            self.assertIn("found schema 99", str(raised.exception))


class Quality(unittest.TestCase):
    def test_ties_that_float32_has_not(self):
        queries = ["a", "a", "a", "b"]
        self.assertEqual(measures.new_ties([1, 1, 1, 1], [1, 2, 2, 1], queries), 2)

    def test_by_length(self):
        found = measures.by_length([1.0, 2.0], [1.0, 3.0], [10, 300])
        self.assertEqual([(b["tokens"], b["worst"]) for b in found], [("1-32", 0.0), ("257-512", 1.0)])

    def test_goldens(self):
        rows = measures.goldens(3)
        self.assertEqual(len({row["query"] for row in rows}), 3)

    def test_texts_have_the_tokens_they_should(self):
        query, document = measures.text_of(64, 1)
        self.assertEqual(len(query.split()) + len(document.split()) + 3, 64)

    def test_no_two_pairs_of_the_requests_are_equal(self):
        pairs = [tuple(pair) for request in measures.requests_of(64, 10) for pair in request]
        self.assertEqual((len(pairs), len(set(pairs))), (200, 200))


if __name__ == "__main__":
    unittest.main()
