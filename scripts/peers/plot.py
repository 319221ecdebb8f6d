"""Bars of pairs per second."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import report

OURS, PEERS = "#1f6fb4", "#b8bec6"


def write(results, path):
    groups = {}
    for name, subject in report.rows(results):
        groups.setdefault("float32" if subject["precision"] == "float32" else "reduced precision", []).append((name, subject))
    sizes = [len(group) for group in groups.values()]
    figure, axes = plt.subplots(
        len(groups),
        1,
        figsize=(8, 0.42 * sum(sizes) + 1.6),
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": sizes},
        layout="constrained",
    )
    for axis, (title, group) in zip(axes[:, 0], groups.items(), strict=True):
        draw(axis, title, group)
    axes[-1, 0].set_xlabel("pairs per second (median of rounds; whiskers: least and most)")
    e = results["environment"]
    figure.suptitle(f"builtin model, {results['sets']['mixed']['pairs']} pairs, {e['processor']}, {e['cores']} cores", fontsize=11)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)


def draw(axis, title, group):
    group = group[::-1]
    rates = [report.rate(subject) for _, subject in group]
    medians = [r["median"] for r in rates]
    spread = [[r["median"] - r["min"] for r in rates], [r["max"] - r["median"] for r in rates]]
    colours = [OURS if subject["ours"] else PEERS for _, subject in group]
    axis.barh([name for name, _ in group], medians, color=colours, xerr=spread, ecolor="#555", error_kw={"elinewidth": 1})
    for y, r in enumerate(rates):
        axis.annotate(f"{r['median']:.0f}", (r["max"], y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
    axis.set_title(title, loc="left", fontsize=10)
    axis.margins(x=0.1)
    axis.spines[["top", "right"]].set_visible(False)
