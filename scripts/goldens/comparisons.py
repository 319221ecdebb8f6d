"""internal/measures/testdata/comparisons.json.gz: tests over queries, thresholds and sigmoids, by SciPy and scikit-learn."""

import common
import numpy as np
import scipy.optimize
import scipy.stats
import sklearn.calibration
import sklearn.linear_model
import sklearn.metrics

MEASURES = common.ROOT / "internal" / "measures" / "testdata"


def mean_difference(a, b, axis=-1):
    return np.mean(b - a, axis=axis)


def paired_samples(random):
    """Values of a measure before and after, one for each query."""

    def ranks(n, best):
        return 1 / np.maximum(1, np.round(random.exponential(best, n)))

    yield "few", random.uniform(0, 1, 5), random.uniform(0, 1, 5)
    yield "reciprocal ranks", ranks(14, 4), ranks(14, 2)
    yield "ties", np.repeat([0.5, 1.0], 30), np.repeat([0.5, 1.0, 0.5, 1.0, 1.0, 0.25], 10)
    yield "better", random.uniform(0, 0.5, 12), random.uniform(0.4, 1, 12)
    yield "usual", *(lambda a: (a, np.clip(a + random.normal(0.03, 0.15, 80), 0, 1)))(random.beta(2, 2, 80))
    yield "same on average", *(lambda a: (a, np.clip(a + random.normal(0, 0.2, 200), 0, 1)))(random.beta(2, 2, 200))
    yield "long", ranks(600, 3), ranks(600, 2.7)
    yield "two", np.array([0.25, 0.5]), np.array([0.5, 0.25])


def comparison(random, name, before, after):
    test = scipy.stats.permutation_test(
        (before, after),
        mean_difference,
        permutation_type="samples",
        n_resamples=np.inf if len(before) <= 16 else 200_000,
        vectorized=True,
        batch=5000,
        rng=random,
    )
    interval = scipy.stats.bootstrap(
        (after - before,), np.mean, method="percentile", n_resamples=100_000, batch=5000, rng=random
    ).confidence_interval
    return {
        "name": name,
        "before": before.tolist(),
        "after": after.tolist(),
        "difference": float(np.mean(after - before)),
        "t_test": float(scipy.stats.ttest_rel(after, before).pvalue),
        "randomization": float(test.pvalue),
        "interval": [float(interval.low), float(interval.high)],
    }


def labelled_samples(random):
    """Logits and labels."""

    def drawn(n, slope, intercept, scale, place):
        logits = random.normal(place, scale, n).astype(np.float32).astype(float)
        return logits, random.random(n) < 1 / (1 + np.exp(-(slope * logits + intercept)))

    yield "calibrated", *drawn(400, 1, 0, 3, 0)
    yield "too sure", *drawn(600, 0.25, 0.5, 8, -2)
    yield "too unsure", *drawn(300, 5, 2, 0.5, 0)
    yield "few relevant", *drawn(1500, 0.6, -5, 3, 0)
    yield "no relation", *drawn(80, 0.02, 0, 4, 1)
    yield "far away", *drawn(300, 0.4, -400, 4, 1000)
    yield "ties", *(lambda x, y: (np.round(x), y))(*drawn(200, 1, 0, 3, 0))
    yield "separable", np.array([-9.0, -3.5, -1.25, 0.5, 2.0, 8.0, 9.5]), np.array([0, 0, 0, 0, 1, 1, 1], bool)
    yield "separable with a tie", np.array([-2.0, 1.0, 1.0, 4.0]), np.array([0, 0, 1, 1], bool)
    yield "two", np.array([-1.0, 3.0]), np.array([0, 1], bool)


def log_loss(logits, targets):
    """Of log-odds; both in float64, without clipping."""
    return float(np.mean(np.logaddexp(0, logits) - targets * logits))


def fit(logits, labels):
    """Slope and intercept of the log-odds, and whether the labels are separable."""
    separable = logits[labels].min() >= logits[~labels].max()
    targets = labels.astype(float)
    if separable:
        targets = np.where(labels, (labels.sum() + 1) / (labels.sum() + 2), 1 / ((~labels).sum() + 2))
    centre, scale = logits.mean(), logits.std()
    x = (logits - centre) / scale

    def gradient(at):
        p = 1 / (1 + np.exp(-(at[0] * x + at[1])))
        return np.array([np.mean((p - targets) * x), np.mean(p - targets)])

    slope, intercept = scipy.optimize.root(gradient, [0.0, 0.0], tol=1e-14).x
    assert np.abs(gradient([slope, intercept])).max() < 1e-13
    slope, intercept = slope / scale, intercept - slope * centre / scale
    check(logits, labels, separable, slope, intercept)
    return slope, intercept, separable


def check(logits, labels, separable, slope, intercept):
    """scikit-learn agrees, as closely as it computes."""
    if separable:
        other = sklearn.calibration._SigmoidCalibration().fit(logits, labels)
        np.testing.assert_allclose([slope, intercept], [-other.a_, -other.b_], rtol=1e-3, atol=1e-3)
        return
    model = sklearn.linear_model.LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    centre = logits.mean()
    model.fit((logits - centre)[:, None], labels)
    np.testing.assert_allclose([slope, intercept + slope * centre], [model.coef_[0, 0], model.intercept_[0]], rtol=1e-6, atol=1e-8)


def threshold(logits, labels, want):
    """The lowest logit whose precision is reached, with Wilson's interval; None if none is."""
    for logit in np.unique(logits):
        kept = labels[logits >= logit]
        if kept.mean() >= want:
            interval = scipy.stats.binomtest(int(kept.sum()), len(kept)).proportion_ci(method="wilson")
            return {"logit": float(logit), "precision": float(kept.mean()), "interval": [float(interval.low), float(interval.high)]}
    return None


def labelled(name, logits, labels):
    precision, recall, thresholds = sklearn.metrics.precision_recall_curve(labels, logits, drop_intermediate=False)
    slope, intercept, separable = fit(logits, labels)
    return {
        "name": name,
        "logits": logits.tolist(),
        "labels": labels.astype(int).tolist(),
        "quantiles": [
            [float(np.quantile(logits[labels == kind], q)) for q in (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)] for kind in (True, False)
        ],
        "curve": [[float(t), float(p), float(r)] for t, p, r in zip(thresholds, precision, recall)],
        "thresholds": {str(want): threshold(logits, labels, want) for want in (0.5, 0.8, 0.9, 0.95, 1.0)},
        "temperature": float(1 / slope),
        "shift": float(-intercept / slope),
        "separable": bool(separable),
        "before": log_loss(logits, labels),
        "after": log_loss(slope * logits + intercept, labels),
    }


def make(_):
    random = np.random.default_rng(19)
    common.write_json(
        MEASURES / "comparisons.json.gz",
        {
            "made_with": common.made_with("scipy", "scikit-learn", "numpy"),
            "pairs": [comparison(random, *sample) for sample in paired_samples(random)],
            "labelled": [labelled(*sample) for sample in labelled_samples(random)],
        },
    )
