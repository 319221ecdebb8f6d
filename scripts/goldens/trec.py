"""cli/records/testdata/trec.json.gz: the order that trec_eval gives to the documents of a run."""

import common
import numpy as np
import pytrec_eval

RECORDS = common.ROOT / "cli" / "records" / "testdata"


def logits():
    """Logits of each query: far apart, with sigmoids that are all 1 or 0, next to each other, and equal."""
    random = np.random.default_rng(14)
    step = np.float32(9.5)
    close = []
    for _ in range(12):
        close.append(step)
        step = np.nextafter(step, np.float32(100))
    return {
        "usual": random.normal(0, 6, 20),
        "saturated": np.concatenate([random.uniform(17, 40, 12), random.uniform(-120, -89, 12)]),
        "close": random.permutation(np.array(close)),
        "equal": np.repeat(random.normal(0, 6, 4), 5),
        "tiny": np.array([0.0, -0.0, 1e-45, -1e-45, 1e-38, 3.4e38, -3.4e38]),
    }


def sigmoid(x):
    """The score as mlxrank computes it."""
    x = np.float64(x)
    return np.float32(1 / (1 + np.exp(-x)) if x >= 0 else np.exp(x) / (1 + np.exp(x)))


def order(scores):
    """Returns the documents in trec_eval's order, which recip_rank of a single relevant document reveals."""
    run = {f"only {d}": scores for d in scores}
    evaluator = pytrec_eval.RelevanceEvaluator({f"only {d}": {d: 1} for d in scores}, {"recip_rank"})
    ranks = {query[len("only ") :]: 1 / measures["recip_rank"] for query, measures in evaluator.evaluate(run).items()}
    return sorted(ranks, key=ranks.get)


def make(_):
    random = np.random.default_rng(41)
    queries = []
    for query, values in logits().items():
        documents = [f"d{n}" for n in random.permutation(1000)[: len(values)]]
        values = [np.float32(v) for v in values]
        queries.append(
            {
                "query": query,
                "documents": documents,
                "logits": [float(v) for v in values],
                "by_logit": order(dict(zip(documents, map(float, values)))),
                "by_score": order({d: float(sigmoid(v)) for d, v in zip(documents, values)}),
            }
        )
    common.write_json(RECORDS / "trec.json.gz", {"made_with": common.made_with("pytrec_eval-terrier"), "queries": queries})
