"""bench/stats/testdata/numpy.json.gz: figures of recorded samples, by numpy."""

import re

import common
import numpy as np

STATS = common.ROOT / "bench" / "stats" / "testdata"
SEED = common.ROOT / "bench" / "report" / "testdata" / "seed.md"
PERCENTILES = [0, 2.5, 50, 75, 90, 95, 99, 100]


def seed_columns():
    """The columns of the seed report's time series."""
    rows = [line.strip("| \n").split(" | ") for line in SEED.read_text().splitlines() if re.match(r"\| \d+ \| \d+\.\d \|", line)]
    table = np.array([row for row in rows if len(row) == 10], dtype=float)
    return {f"seed column {i}": table[:, i] for i in range(1, table.shape[1])}


def samples():
    random = np.random.default_rng(1)
    return {
        **seed_columns(),
        "lognormal": np.exp(random.normal(5.6, 0.08, 100)),
        "long": random.gamma(2.0, 30.0, 1009),
        "seven": random.uniform(1, 1000, 7),
        "two": np.array([3.5, 1.25]),
        "one": np.array([280.93]),
        "ties": np.array([5.0, 5.0, 5.0, 7.0, 7.0, 1.0]),
        "far apart": np.array([1e-9, 1e9, 1.0, 1e9 + 1]),
    }


def figures(name, x):
    out = {
        "name": name,
        "values": x.tolist(),
        "mean": float(x.mean()),
        "std": float(x.std()),
        "percentiles": {str(p): float(np.percentile(x, p)) for p in PERCENTILES},
    }
    if len(x) > 1 and x.std() > 0 and x.min() > 0:
        out["correlation"] = float(np.corrcoef(x, 32000 / x)[0, 1])
    return out


def make(_):
    cases = [figures(name, x) for name, x in samples().items()]
    common.write_json(STATS / "numpy.json.gz", {"made_with": common.made_with("numpy"), "cases": cases})
