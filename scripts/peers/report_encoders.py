"""Writes docs/history/peers-encoders.md from docs/history/peers-encoders.json alone."""

import arithmetic
import report


def write(results, folder):
    (folder / "peers-encoders.md").write_text(text(results), "utf-8")


def text(results):
    rows = results["rows"]
    parts = [
        "# Other encoders: mlxrank compared with other ways to run them",
        introduction(rows),
        "## Goals, missed ones first",
        report.goal_table([goal for row in rows for goal in goals(row)]),
        *(part for row in rows for part in section(row)),
        "## How each was set up",
        "\n".join(f"- {name}: {s['settings']}." for name, s in rows[0]["subjects"].items()),
        "## Conditions",
        report.conditions({**rows[0], "seconds": sum(row["seconds"] for row in rows)}),
    ]
    return "\n\n".join(parts) + "\n"


def introduction(rows):
    e = rows[0]["environment"]
    return (
        f"`make peers-encoders` wrote this page on {e['date']} ({e['processor']}, {e['cores']} cores). Every subject computes in float32, from texts to "
        "logits, tokenising included. The models have the shapes of real rerankers and random weights; their tokenizers have 8,000 tokens, trained on "
        f"the texts. Each subject runs in its own process; they alternate, one at a time, for {rows[0]['rounds']} rounds after a warm-up. "
        "Every peer takes the batch size that is fastest for it. No figure is printed unless all logits are within 0.001 of the deviation of mlxrank's. "
        "These figures are from a CPU: they say nothing about Metal."
    )


def goals(row):
    """Lists the goals as report.goals does."""
    found = []
    for goal in row["goals"]:
        peers = {name: s for name, s in row["subjects"].items() if goal["peer"] in name and not s["ours"]}
        if peers:
            name = max(peers, key=lambda name: report.rate(peers[name], goal["label"])["median"])
            which = name if goal["peer"] else f"the fastest peer ({name})"
            found.append((f"{row['title']}: pairs/s over {which}", ratio(row, peers[name], goal["label"]), goal["bound"], True))
    return found


def ratio(row, subject, label):
    return arithmetic.ratio(row["subjects"][report.OURS]["rounds"][label], subject["rounds"][label])


def section(row):
    (label,) = row["sets"]
    pairs, peak = row["sets"][label], max(row["peaks"]["OpenBLAS float32"], row["peaks"]["PyTorch float32"])
    lines = []
    for name, s in sorted(row["subjects"].items(), key=lambda item: -report.rate(item[1], label)["median"]):
        r = report.rate(s, label)
        lines.append(
            [
                name + ("*" if s["slow"] else ""),
                f"{r['median']:.1f} ({r['min']:.1f}-{r['max']:.1f})",
                f"{ratio(row, s, label):.2f}",
                s["batch"] or "-",
                f"{100 * r['median'] * pairs['flops_per_pair'] / peak:.0f} %",
                f"{s['memory'] / 1e6:.0f}",
                f"{s['agreement']['worst']:.2g}",
            ]
        )
    head = ["subject", "pairs/s", "ours/it", "batch", "share of peak", "peak MB", "worst difference"]
    return [
        f"## {row['title']}",
        f"{pairs['pairs']} pairs of {pairs['least']} to {pairs['most']} tokens, mean {pairs['mean_tokens']:.0f}; "
        f"{pairs['flops_per_pair'] / 1e9:.2f} GFLOP a pair are needed, and the peak is {peak / 1e9:.0f} GFLOP/s. "
        "Columns are as on [the page of the builtin model](peers.md); the worst difference of logits from mlxrank's is a share of their deviation."
        + report.disturbed(row["environment"]),
        report.table(head, lines),
    ]
