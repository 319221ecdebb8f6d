"""Writes docs/history/peers.md from docs/history/peers.json alone."""

import statistics

import arithmetic

OURS = "mlxrank"
UNFUSED = "mlxrank unfused graph"


def write(results, folder):
    (folder / "peers.md").write_text(text(results), "utf-8")


def text(results):
    parts = [
        "# mlxrank compared with other ways to run the model",
        introduction(results),
        "## Goals, missed ones first",
        goal_table(goals(results)),
        "![pairs per second](peers.png)",
        "## Throughput, latency, memory, start",
        main_table(results),
        MAIN_NOTES,
        "## Other lengths",
        lengths(results),
        "## Agreement",
        AGREEMENT,
        agreement(results),
        "## Roofline",
        roofline(results),
        "## How each was set up",
        settings(results),
        "## Conditions",
        conditions(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


MAIN_NOTES = """Pairs/s is the median of the rounds on the mixed set, with the least and the most in brackets. *ours/it* divides mlxrank's rate at the
same precision by the subject's: the median of the ratios of neighbouring rounds.

P50 and P95 are of one query with 20 documents, one request at a time. Memory is the most that was resident (VmHWM) by the end of
the pass over the pairs of the agreement table. Start is the median time from the start of a new process to its first score:
`mlxrank rerank` of one document for mlxrank, a bare script that loads no more than it needs for the peers.

Subjects marked * are slow. They score the first quarter of each set, and their rate is scaled by the arithmetic that those pairs need."""

AGREEMENT = """A difference is between a subject's logits and mlxrank's in float32, as a share of the latter's standard deviation. Kendall's tau, and
the share of the ten best that are the same ten, are means over the queries. No report is printed unless every float32 peer is within
0.001 and every other peer has a tau of at least 0.8."""


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(" --- " if i == 0 else " ---: " for i in range(len(head))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def introduction(results):
    e, mixed = results["environment"], results["sets"]["mixed"]
    return (
        f"`make peers` wrote this page on {e['date']} ({e['processor']}, {e['cores']} cores). Every subject scores the same texts with the builtin model, "
        f"merged into one file, tokenising included: {mixed['pairs']} pairs of {mixed['least']} to {mixed['most']} tokens, "
        f"mean {mixed['mean_tokens']:.0f}. Each subject runs in its own process; they alternate, one at a time, for {results['rounds']} rounds after a warm-up. "
        "These figures are from a CPU: they say nothing about Metal." + disturbed(e)
    )


def disturbed(e):
    """Warns if the load exceeds the threads of one subject."""
    if e["load"][1] <= e["cores"] + 0.5:
        return ""
    return f"\n\n**The machine had other work (load {e['load'][1]:.1f} on {e['cores']} cores): do not rely on these figures.**"


def rows(results):
    """Sorts subjects by precision, then fastest first."""
    return sorted(results["subjects"].items(), key=lambda item: (item[1]["precision"] != "float32", -rate(item[1])["median"]))


def rate(subject, label="mixed"):
    each = subject["rounds"][label]
    return {"median": statistics.median(each), "min": min(each), "max": max(each)}


def counterpart(results, subject):
    """Returns our subject at the precision of subject, or bfloat16 in results before int8."""
    subjects = results["subjects"]
    return subjects.get(ours(subject["precision"])) or subjects[ours("bfloat16")]


def ours(precision):
    return OURS if precision == "float32" else f"{OURS} {precision}"


def latencies(subject):
    return [seconds for each in subject["requests"] for seconds in each]


def best_peer(results, precision, figure, least=False):
    """Returns the peer with the best figure at that precision, or None without peers."""
    peers = [(figure(s), name) for name, s in results["subjects"].items() if not s["ours"] and s["precision"] == precision]
    return (min if least else max)(peers)[1] if peers else None


def goals(results):
    """Lists the goals: what, the figure, its bound, whether more is better."""
    found = []
    p50 = lambda s: arithmetic.percentile(latencies(s), 50)  # noqa: E731
    subjects = results["subjects"]
    for precision, bound in (("float32", 1.5), ("bfloat16", 1.2), ("int8", 1.5)):
        if precision == "bfloat16" and "avx512_bf16" not in results["environment"]["instructions"]:
            continue  # no processor multiplies it here
        mine = subjects.get(ours(precision))
        fastest = best_peer(results, precision, lambda s: rate(s)["median"])
        if mine and fastest:
            ratio = arithmetic.ratio(mine["rounds"]["mixed"], subjects[fastest]["rounds"]["mixed"])
            found.append((f"{precision}: pairs/s over the fastest peer's ({fastest})", ratio, bound, True))
        quickest = best_peer(results, precision, p50, least=True)
        if mine and quickest:
            found.append(
                (f"{precision}: P50 of 20 documents over the best peer's ({quickest})", p50(mine) / p50(subjects[quickest]), 0.7, False)
            )
    found += int8_goals(subjects)
    exact, others = subjects[OURS], subjects
    if "sentence-transformers" in others:
        st = others["sentence-transformers"]
        found.append(
            ("float32: pairs/s over sentence-transformers'", arithmetic.ratio(exact["rounds"]["mixed"], st["rounds"]["mixed"]), 2, True)
        )
        found.append(("start to first score over sentence-transformers'", start(exact) / start(st), 0.1, False))
    if "ONNX Runtime" in others:
        found.append(("start to first score over ONNX Runtime's", start(exact) / start(others["ONNX Runtime"]), 1, False))
    found.append((f"peak resident memory on {exact['agreement']['pairs']:,} pairs, MB", exact["memory"] / 1e6, 350, False))
    for label in results["sets"]:
        ratio = arithmetic.ratio(exact["rounds"][label], others[UNFUSED]["rounds"][label])
        found.append((f"float32, {label} set: pairs/s over the unfused graph's", ratio, 1, True))
    return found


def int8_goals(subjects):
    """The price and the gain of int8, compared with float32."""
    mine = subjects.get(ours("int8"))
    if not mine:
        return []
    a = mine["agreement"]
    return [
        ("int8: pairs/s over mlxrank float32's", arithmetic.ratio(mine["rounds"]["mixed"], subjects[OURS]["rounds"]["mixed"]), 1.8, True),
        ("int8: Kendall's tau with float32", a["tau"], 0.99, True),
        ("int8: share of the first ten that is float32's", a["top10"], 0.99, True),
        ("int8: worst difference from float32, in deviations", a["worst"], 0.1, False),
    ]


def start(subject):
    return statistics.median(subject["starts"])


def goal_table(goals):
    def line(goal):
        what, figure, bound, more = goal
        met = figure >= bound if more else figure <= bound
        return [what, f"{figure:.3g}", ("at least " if more else "at most ") + f"{bound:g}", "met" if met else "**missed**"]

    return table(["goal", "measured", "bound", ""], sorted(map(line, goals), key=lambda cells: cells[3] == "met"))


def main_table(results):
    out = []
    for name, s in rows(results):
        r, times = rate(s), latencies(s)
        ratio = arithmetic.ratio(counterpart(results, s)["rounds"]["mixed"], s["rounds"]["mixed"])
        out.append(
            [
                name + ("*" if s["slow"] else ""),
                s["precision"],
                f"{r['median']:.1f} ({r['min']:.1f}-{r['max']:.1f})",
                f"{ratio:.2f}",
                f"{1e3 * arithmetic.percentile(times, 50):.0f}",
                f"{1e3 * arithmetic.percentile(times, 95):.0f}",
                f"{s['memory'] / 1e6:.0f}",
                f"{start(s):.2f}",
            ]
        )
    return table(["subject", "precision", "pairs/s", "ours/it", "P50 ms", "P95 ms", "peak MB", "start s"], out)


def lengths(results):
    sets = results["sets"]
    head = ["subject"] + [f"{label}: {v['pairs']} pairs of {v['mean_tokens']:.0f} tokens" for label, v in sets.items()]
    out = [[name] + [f"{rate(s, label)['median']:.1f}" for label in sets] for name, s in rows(results)]
    return "Pairs/s, medians.\n\n" + table(head, out)


def agreement(results):
    out = []
    for name, s in rows(results):
        a = s["agreement"]
        out.append(
            [
                name,
                s["precision"],
                f"{a['pairs']:,}",
                f"{a['worst']:.2g}",
                f"{a['mean']:.2g}",
                f"{a['tau']:.4f}",
                f"{100 * a['top10']:.1f} %",
            ]
        )
    return table(["subject", "precision", "pairs", "worst", "mean", "Kendall tau", "same top 10"], out)


def roofline(results):
    peaks, mixed = results["peaks"], results["sets"]["mixed"]
    reached = []
    for name, s in rows(results):
        peak = peaks["PyTorch bfloat16"] if s["precision"] == "bfloat16" else max(peaks["OpenBLAS float32"], peaks["PyTorch float32"])
        achieved = rate(s)["median"] * mixed["flops_per_pair"]
        reached.append([name, s["precision"], f"{achieved / 1e9:.0f}", f"{peak / 1e9:.0f}", f"{100 * achieved / peak:.0f} %"])
    text = (
        f"A pair of the mixed set needs {mixed['flops_per_pair'] / 1e9:.3f} GFLOP. These are the matmuls and attention of its own tokens, without padding, "
        "and in the last layer only what [CLS] needs. The achieved rate is that times pairs/s, with tokenising in the time. A subject gets no credit for arithmetic that is not needed. "
        "The peak is the best of one large square matmul in the same rounds: "
        + ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in peaks.items())
        + ". OpenBLAS runs as in mlxrank, with one thread per core. The float32 rows use the larger of the two float32 peaks. "
        "So do the int8 rows, whose operations are on integers: more than 100 % is possible there.\n\n"
    )
    return text + table(["subject", "precision", "GFLOP/s", "peak", "share of peak"], reached) + stages(results["profile"])


def stages(profiles):
    """Reports where mlxrank's threads spend their time, from its own profile."""
    names = list(dict.fromkeys(p["name"] for profile in profiles.values() for p in profile["phases"]))
    body = [[name, *(cell for profile in profiles.values() for cell in stage(profile, name))] for name in names]
    rest = [
        [name, *(cell for profile in profiles.values() for cell in (percent(value(profile), profile), "-"))] for name, value in REST.items()
    ]
    head = ["work", *(cell for dtype in profiles for cell in (f"{dtype}, share", "GFLOP/s a thread"))]
    executed = ", ".join(
        f"{sum(p[k]['flops'] for k in WORK) / sum(p[k]['flops_needed'] for k in WORK):.3f} in {dtype}" for dtype, p in profiles.items()
    )
    return (
        "\n\nBy stage, from a separate run of `mlxrank bench --profile` after the rounds. The kernels add bias and GELU to a GEMM's results in registers:\n\n"
        + table(head, body + rest)
        + f"\n\nFloating-point operations executed per one needed: {executed}."
    )


WORK = ("matmul", "attention")
REST = {
    "between kernels": lambda p: p["pass_ms"] + p["helped_ms"] - sum(phase["ms"] for phase in p["phases"]),
    "tokenising": lambda p: p["tokenizing_ms"],
    "waiting": lambda p: max(0, p["workers"] * p["busy_ms"] - p["pass_ms"] - p["helped_ms"]),
}


def percent(ms, profile):
    return f"{100 * ms / (profile['workers'] * profile['busy_ms'] + profile['tokenizing_ms']):.1f} %"


def stage(profile, name):
    """Returns the share of the threads' time of a class of work, and its rate."""
    phase = next((p for p in profile["phases"] if p["name"] == name), None)
    if phase is None:
        return "-", "-"
    return percent(phase["ms"], profile), f"{phase['flops'] / phase['ms'] / 1e6:.0f}" if phase["flops"] else "-"


def settings(results):
    return "\n".join(f"- {name}: {s['settings']}" + (f" ({s['batch']})" if s["batch"] else "") + "." for name, s in rows(results)) + (
        "\n\nhugot joins query, [SEP] and document into one text, truncates long ones at their end and scores one query at a time. Its scores are compared on the pairs that fit."
        if "hugot" in results["subjects"]
        else ""
    )


def conditions(results):
    e = results["environment"]
    load = ", ".join(f"{x:.1f}" for x in e["load"])
    facts = {
        "processor": f"{e['processor']}, {e['cores']} cores ({', '.join(e['instructions'])}), {e['memory_bytes'] / 2**30:.0f} GiB",
        "system": e["system"],
        "load at the end of the rounds (1, 5, 15 minutes)": load,
        "duration": f"{results['seconds'] / 60:.0f} minutes",
        "mlxrank": e["commit"],
        **{f"kernels of {name}": kind for name, kind in e["kernels"].items()},
        **e["versions"],
    }
    return "| what | value |\n| --- | --- |\n" + "\n".join(f"| {name} | {value} |" for name, value in facts.items())
