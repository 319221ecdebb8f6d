"""python3 -m unittest discover -s scripts/check/verifymac"""

import importlib.util
import io
import json
import sys
import tempfile
import unittest
import unittest.mock
from pathlib import Path

import machine
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
        status = verify.verify(Path(folder.name), device, every, only, io.StringIO())
        return status, (Path(folder.name) / "build" / "verify-mac.md").read_text(encoding="utf-8")

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
            self.assertFalse(missing.run(Path(folder), Path(folder) / "logs").passed)

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
        self.assertTrue(all(isinstance(value, str) and value for _, value in machine.facts(ROOT)))


if __name__ == "__main__":
    unittest.main()
