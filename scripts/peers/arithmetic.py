"""The figures of the comparison: work, rates, agreement. No third-party package."""

import itertools
import math
import statistics


def flops(config, length):
    """Floating-point operations that one pair of length tokens needs.

    Products alone, a multiplication and an addition as two. The last layer needs
    its keys and values of all tokens, and the rest for [CLS] only. Local layers
    need the scores within their window only.
    """
    h, inner, labels = config["hidden_size"], config["intermediate_size"], config.get("num_labels", 1)
    gates = 2 if config.get("model_type") == "modernbert" else 1

    def linear(rows, inputs, outputs):
        return 2 * rows * inputs * outputs

    def feed_forward(rows):
        return linear(rows, h, h) + linear(rows, h, gates * inner) + linear(rows, inner, h)

    def layer(reach):
        return linear(length, h, 3 * h) + 4 * scores(length, length, reach) * h + feed_forward(length)

    *first, reach = reaches(config)
    last = linear(length, h, 2 * h) + linear(1, h, h) + 4 * scores(1, length, reach) * h + feed_forward(1)
    return sum(map(layer, first)) + last + linear(1, h, h) + linear(1, h, labels)


def reaches(config):
    """How far to each side a token attends, by layer: infinitely far in global layers."""
    kinds = config.get("layer_types") or ["full_attention"] * config["num_hidden_layers"]
    return [math.inf if kind == "full_attention" else config["local_attention"] // 2 for kind in kinds]


def scores(queries, length, reach):
    """The attention scores that the first tokens need, queries of them, of length keys."""
    return sum(min(length, q + reach + 1) - max(0, q - reach) for q in range(queries))


def percentile(values, q):
    """Linear interpolation, as numpy's default."""
    values = sorted(values)
    at = q / 100 * (len(values) - 1)
    low = math.floor(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


def rates(count, seconds):
    """Pairs per second: the median of the rounds, the least and the most."""
    each = [count / s for s in seconds]
    return {"median": statistics.median(each), "min": min(each), "max": max(each)}


def ratio(ours, theirs):
    """The median over rounds of ours / theirs, of rounds that ran side by side."""
    if len(ours) != len(theirs):
        raise ValueError(f"rounds that ran side by side: {len(ours)} of ours, {len(theirs)} of theirs")
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def worst(got, want):
    """The largest difference in units of the standard deviation of want."""
    if len(got) != len(want) or not want:
        raise ValueError(f"{len(got)} scores, expected {len(want)}")
    if not all(math.isfinite(x) for x in got):
        return math.inf
    return max(abs(a - b) for a, b in zip(got, want, strict=True)) / statistics.pstdev(want)


def kendall(a, b):
    """Kendall's tau-b of two lists of scores."""
    agree = ties_a = ties_b = 0
    for i, j in itertools.combinations(range(len(a)), 2):
        x, y = sign(a[i] - a[j]), sign(b[i] - b[j])
        agree += x * y
        ties_a += x == 0
        ties_b += y == 0
    pairs = len(a) * (len(a) - 1) // 2
    scale = math.sqrt((pairs - ties_a) * (pairs - ties_b))
    return agree / scale if scale else math.nan


def sign(x):
    return (x > 0) - (x < 0)


def overlap(a, b, n=10):
    """The share of the n best by a that are among the n best by b."""
    return len(set(best(a, n)) & set(best(b, n))) / min(n, len(a))


def best(scores, n):
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:n]


def agreement(got, want, queries):
    """Returns how far got is from want; queries names the query of each pair."""
    groups = {}
    for i, query in enumerate(queries):
        groups.setdefault(query, []).append(i)
    groups = [g for g in groups.values() if len(g) > 1]
    per_query = [([got[i] for i in g], [want[i] for i in g]) for g in groups]
    return {
        "pairs": len(want),
        "worst": worst(got, want),
        "mean": statistics.fmean(abs(a - b) for a, b in zip(got, want, strict=True)) / statistics.pstdev(want),
        "tau": statistics.fmean(kendall(a, b) for a, b in per_query),
        "top10": statistics.fmean(overlap(a, b) for a, b in per_query),
        "queries": len(groups),
    }
