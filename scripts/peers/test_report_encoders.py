"""python3 -m unittest discover -s scripts/peers"""

import unittest

import report_encoders


def subject(rates, ours=False):
    agreement = {"worst": 1e-6}
    return {
        "ours": ours,
        "rounds": {"mixed": rates},
        "slow": False,
        "batch": 8,
        "memory": 1e8,
        "agreement": agreement,
        "settings": "defaults",
    }


def row(*goals):
    return {
        "title": "a model",
        "goals": list(goals),
        "seconds": 60,
        "rounds": 3,
        "sets": {"mixed": {"pairs": 512, "mean_tokens": 80, "least": 20, "most": 512, "flops_per_pair": 1e9}},
        "peaks": {"OpenBLAS float32": 2e11, "PyTorch float32": 1e11},
        "subjects": {"mlxrank": subject([150, 60, 150], ours=True), "slow": subject([50, 20, 50]), "fast": subject([100, 40, 110])},
        "environment": {
            "date": "2026-11-30",
            "processor": "a processor",
            "cores": 2,
            "instructions": ["avx2"],
            "memory_bytes": 2**34,
            "system": "Debian",
            "load": [2, 2, 2],
            "commit": "abc",
            "kernels": {},
            "versions": {"Python": "3.11"},
        },
    }


class Goals(unittest.TestCase):
    def test_fastest_peer(self):
        ((what, figure, bound, more),) = report_encoders.goals(row({"label": "mixed", "bound": 1.25, "peer": ""}))
        self.assertEqual((what, figure, bound, more), ("a model: pairs/s over the fastest peer (fast)", 1.5, 1.25, True))

    def test_named_peer(self):
        ((what, figure, _, _),) = report_encoders.goals(row({"label": "mixed", "bound": 2, "peer": "slow"}))
        self.assertEqual((what, figure), ("a model: pairs/s over slow", 3))

    def test_peer_that_did_not_run(self):
        self.assertEqual(report_encoders.goals(row({"label": "mixed", "bound": 2, "peer": "hugot"})), [])


class Page(unittest.TestCase):
    def test_text(self):
        text = report_encoders.text({"rows": [row({"label": "mixed", "bound": 2, "peer": ""})]})
        for part in (
            "| a model: pairs/s over the fastest peer (fast) | 1.5 | at least 2 | **missed** |",
            "| mlxrank | 150.0 (60.0-150.0) | 1.00 | 8 | 75 % | 100 | 1e-06 |",
            "- fast: defaults.",
            "| duration | 1 minutes |",
        ):
            self.assertIn(part, text)


if __name__ == "__main__":
    unittest.main()
