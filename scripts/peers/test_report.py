"""python3 -m unittest discover -s scripts/peers"""

import copy
import json
import pathlib
import unittest

import report

RESULTS = json.loads((pathlib.Path(__file__).resolve().parents[2] / "docs" / "history" / "peers.json").read_text("utf-8"))


def with_int8(factor, tau):
    """The kept results with an mlxrank int8 that is factor times as fast as float32."""
    results = copy.deepcopy(RESULTS)
    mine = copy.deepcopy(results["subjects"]["mlxrank"]) | {"precision": "int8"}
    mine["rounds"] = {label: [factor * r for r in rates] for label, rates in mine["rounds"].items()}
    mine["agreement"] |= {"tau": tau, "worst": 0.05, "top10": 0.995}
    results["subjects"]["mlxrank int8"] = mine
    return results


def without_int8():
    """The kept results as they were before mlxrank had int8."""
    results = copy.deepcopy(RESULTS)
    del results["subjects"]["mlxrank int8"]
    return results


class Int8(unittest.TestCase):
    def line(self, text, start):
        return next(line for line in text.splitlines() if line.startswith(f"| {start}"))

    def test_goals(self):
        good, bad = report.text(with_int8(2, 0.995)), report.text(with_int8(1.5, 0.98))
        for start in ("int8: pairs/s over mlxrank float32's", "int8: Kendall's tau"):
            self.assertIn("| met |", self.line(good, start))
            self.assertIn("**missed**", self.line(bad, start))
        self.assertIn("(ONNX Runtime int8)", self.line(good, "int8: pairs/s over the fastest peer's"))
        self.assertIn("| met |", self.line(good, "int8: worst difference"))

    def test_integers_are_compared_with_integers(self):
        results = with_int8(2, 0.995)
        peer = results["subjects"]["ONNX Runtime int8"]
        self.assertIs(report.counterpart(results, peer), results["subjects"]["mlxrank int8"])
        before = without_int8()
        self.assertIs(report.counterpart(before, before["subjects"]["ONNX Runtime int8"]), before["subjects"]["mlxrank bfloat16"])

    def test_bfloat16_has_goals_only_where_a_processor_multiplies_it(self):
        results = with_int8(2, 0.995)
        self.assertIn("bfloat16: pairs/s over", report.text(results))
        results["environment"]["instructions"] = ["avx2"]
        self.assertNotIn("bfloat16: pairs/s over", report.text(results))

    def test_results_before_int8(self):
        self.assertNotIn("| int8: ", report.text(without_int8()))
        self.assertIn("| int8: ", report.text(RESULTS))


if __name__ == "__main__":
    unittest.main()
