"""internal/measures/testdata/measures.json.gz: measures of random runs, by pytrec_eval and ir_measures."""

import itertools

import common
import ir_measures
import numpy as np
import pytrec_eval

MEASURES = common.ROOT / "internal" / "measures" / "testdata"

# ir_measures' name -> the least relevance that counts, and pytrec_eval's name. None: from another measure.
NAMES = {
    "nDCG": (1, "ndcg"),
    "nDCG@1": (1, "ndcg_cut_1"),
    "nDCG@3": (1, "ndcg_cut_3"),
    "nDCG@10": (1, "ndcg_cut_10"),
    "nDCG@1000": (1, "ndcg_cut_1000"),
    "RR": (1, "recip_rank"),
    "RR(rel=2)": (2, "recip_rank"),
    "RR@3": (1, None),
    "RR(rel=2)@10": (2, None),
    "AP": (1, "map"),
    "AP@5": (1, "map_cut_5"),
    "AP(rel=2)": (2, "map"),
    "AP(rel=2)@100": (2, "map_cut_100"),
    "R@1": (1, "recall_1"),
    "R@5": (1, "recall_5"),
    "R(rel=2)@10": (2, "recall_10"),
    "P@3": (1, "P_3"),
    "P@100": (1, "P_100"),
    "P(rel=2)@5": (2, "P_5"),
    "Success@1": (1, "success_1"),
    "Success(rel=2)@5": (2, "success_5"),
    "Judged": (None, None),
    "Judged@5": (None, None),
}
LIST = [ir_measures.parse_measure(name) for name in NAMES]
assert [str(m) for m in LIST] == list(NAMES)
# ir_measures breaks ties of these by ascending id, as the programs do that compute them for it.
TIES_ASCEND = [m for m in LIST if m.NAME == "Judged" or m.NAME == "RR" and "cutoff" in m.params]
RUNS, BOUNDS = 2000, 150


def trec_eval(qrels, run):
    """The value of each query and measure that pytrec_eval knows."""
    out = {query: {} for query in qrels if query in run}
    for rel in (1, 2):
        names = {trec: name for name, (level, trec) in NAMES.items() if trec and level == rel}
        evaluator = pytrec_eval.RelevanceEvaluator(qrels, set(names), relevance_level=rel)
        for query, values in evaluator.evaluate(run).items():
            out[query] |= {names[trec]: value for trec, value in values.items()}
    for values in out.values():
        values["RR@3"] = values["RR"] if values["RR"] >= 1 / 3 else 0.0
        values["RR(rel=2)@10"] = values["RR(rel=2)"] if values["RR(rel=2)"] >= 0.1 else 0.0
    return out


def judged(qrels, run):
    """Adds to each query's measures the one that pytrec_eval lacks, from documents in trec_eval's order."""
    out = {}
    for query, documents in run.items():
        if query in qrels:
            order = sorted(documents, key=lambda d: (documents[d], d.encode()), reverse=True)
            known = [d in qrels[query] for d in order]
            out[query] = {"Judged": float(np.mean(known)) if known else 0.0, "Judged@5": float(np.mean(known[:5])) if known else 0.0}
    return out


def ranks(run):
    """Scores that float32 holds, with the same order and the same ties: trec_eval 10 compares float64, and
    pytrec_eval has trec_eval 9, which compares float32."""
    out = {}
    for query, documents in run.items():
        places = {score: float(i) for i, score in enumerate(sorted(set(documents.values())))}
        out[query] = {d: places[s] for d, s in documents.items()}
    return out


def untied(run):
    """The run in trec_eval's order, without ties."""
    out = {}
    for query, documents in run.items():
        order = sorted(documents, key=lambda d: (documents[d], d.encode()))
        out[query] = {d: float(i) for i, d in enumerate(order)}
    return out


def measure(qrels, run):
    """Returns the values of each query in both, and checks that ir_measures has the same; and the means over
    all judged queries, by ir_measures."""
    run = ranks(run)
    values, known = trec_eval(qrels, run), judged(qrels, run)
    values = {query: values[query] | known[query] for query in values}
    filled = {query: documents for query, documents in run.items() if documents}  # Judged of none divides by 0
    means = {}
    for measures, documents in ((set(LIST) - set(TIES_ASCEND), filled), (set(TIES_ASCEND), untied(filled))):
        aggregate, per_query = ir_measures.calc(measures, qrels, documents)
        means |= {str(m): value for m, value in aggregate.items()}
        for m in per_query:
            expected = values.get(m.query_id, {}).get(str(m.measure), 0.0)
            assert abs(m.value - expected) < 1e-12, (m, expected)
    return values, means


def relevance(random):
    return {
        "binary": lambda: int(random.integers(0, 2)),
        "graded": lambda: int(random.integers(0, 4)),
        "negative": lambda: int(random.integers(-2, 4)),
        "far": lambda: int(random.choice([0, 1, 2, 7, 15, 100])),
        "none": lambda: 0,
    }[random.choice(["binary", "graded", "negative", "far", "none"], p=[0.3, 0.3, 0.25, 0.1, 0.05])]


def scores(random, n):
    kind = random.choice(["few", "usual", "equal", "close", "double"], p=[0.4, 0.3, 0.05, 0.15, 0.1])
    if kind == "double":  # apart in float64 only
        return 1 + random.integers(0, 6, n) * 1e-9
    values = {
        "few": random.integers(-2, 4, n),
        "usual": random.normal(0, 6, n),
        "equal": np.full(n, random.normal()),
        "close": np.float32(9.5) + random.integers(0, 5, n) * np.spacing(np.float32(9.5)),
    }[kind]
    return np.array([float(str(np.float32(v))) for v in values]).astype(np.float32).astype(float)


def documents(random, n):
    """Ids of which some are the beginnings of others, in either case, and in other scripts."""
    kinds = ["d%d", "D%d", "d%d-1", "é%d", "文%d"]
    every = [kind % i for i in range(n) for kind in kinds]
    return [every[i] for i in random.permutation(len(every))[:n]]


def random_query(random, most):
    pool = documents(random, int(random.integers(1, most + 1)))
    relevances, share = relevance(random), random.uniform(0.1, 1)
    qrels = {d: relevances() for d in pool if random.random() < share}
    if not any(rel >= 0 for rel in qrels.values()):  # trec_eval 9 never ends if all are negative
        qrels[pool[0]] = 0
    found = [d for d in random.permutation(pool) if random.random() < 0.8]
    return qrels, dict(zip(map(str, found), map(float, scores(random, len(found)))))


def random_case(random):
    qrels, run = {}, {}
    for i in range(random.integers(1, 4)):
        judgements, retrieved = random_query(random, 16)
        lot = random.random()
        if lot > 0.1:  # else the run has a query without judgements
            qrels[f"q{i}"] = judgements
        if lot < 0.9:  # else the run lacks a query
            run[f"q{i}"] = retrieved
    return qrels, run


def case(qrels, run):
    values, means = measure(qrels, run)
    out = {
        "qrels": qrels,
        "run": {query: [[d, s] for d, s in retrieved.items()] for query, retrieved in run.items()},
        "values": {query: [values[query][name] for name in NAMES] for query in sorted(values)},
        "means": [means[name] for name in NAMES],
    }
    rounded = trec_eval(qrels, run)
    if any(rounded[query][name] != values[query][name] for query in rounded for name in rounded[query]):
        out["float32"] = {query: [(values[query] | rounded[query])[name] for name in NAMES] for query in sorted(rounded)}
    return out


def bound_case(random):
    """A query with the lowest and highest values over all orders of ties, and the highest over all orders."""
    judgements, retrieved = random_query(random, 6)
    while len(set(retrieved.values())) == len(retrieved) and random.random() < 0.9:  # mostly with ties
        judgements, retrieved = random_query(random, 6)
    ids = list(retrieved)
    orders = {f"{i}": order for i, order in enumerate(itertools.permutations(ids))}
    run = {name: {d: float(-place) for place, d in enumerate(order)} for name, order in orders.items()}
    qrels = dict.fromkeys(orders, judgements)
    values, known = trec_eval(qrels, run), judged(qrels, run)
    values = {name: [(values[name] | known[name])[m] for m in NAMES] for name in orders}
    exact = ranks({"q": retrieved})["q"]
    allowed = [name for name, order in orders.items() if all(exact[a] >= exact[b] for a, b in itertools.pairwise(order))]
    among = np.array([values[name] for name in allowed])
    return {
        "qrels": judgements,
        "run": [[d, s] for d, s in retrieved.items()],
        "orders": len(allowed),
        "low": among.min(0).tolist(),
        "high": among.max(0).tolist(),
        "ceiling": np.array(list(values.values())).max(0).tolist(),
    }


def random_cases(random, count):
    while count:
        qrels, run = random_case(random)
        if qrels.keys() & run.keys():
            count -= 1
            yield case(qrels, run)


def make(_):
    random = np.random.default_rng(18)
    common.write_json(
        MEASURES / "measures.json.gz",
        {
            "made_with": common.made_with("pytrec_eval-terrier", "ir-measures"),
            "measures": list(NAMES),
            "cases": list(random_cases(random, RUNS)),
            "bounds": [bound_case(random) for _ in range(BOUNDS)],
        },
    )
