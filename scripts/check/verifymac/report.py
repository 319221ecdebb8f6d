"""The report, in Markdown, from its JSON."""

SCHEMA = 1


def render(data):
    lines = ["# mlxrank, verified on this machine", "", f"**{data['summary']}**", ""]
    if data["device"] != "gpu":
        lines += ["This ran on the CPU, which tries the suites and verifies nothing of Metal. Its figures mean nothing.", ""]
    if data["partial"]:
        lines += ["Only some of the suites were asked for.", ""]
    lines += table(["suite", "shows that", "result", "tests", "seconds"], [row(s) for s in data["suites"]])
    facts = [(name, "-" if value is None else value) for name, value in data["facts"].items()]
    lines += ["", "## Machine", "", *table(["what", "found"], facts)]
    for suite in data["suites"]:
        lines += section(suite)
    if "native" in data:
        lines += ["", "## Figures", "", "Alternatives were measured in turn. P5 and P95 are percentiles of n samples."]
        for part, (title, render_part) in PARTS.items():
            lines += ["", f"### {title}", "", *absent_or(data[part], render_part)]
    if "decisions" in data:
        lines += ["", "## What to change and why", "", *decisions(data["decisions"])]
    return "\n".join(lines) + "\n"


def absent_or(part, render_part):
    if isinstance(part, dict) and "missing" in part:
        return [f"- not measured: {part['missing']}"]
    return render_part(part)


def native(part):
    rows = []
    for r in part["rows"]:
        figures = [r["n"], *(micro(r.get(key)) for key in ("median_us", "p5_us", "p95_us")), rate(r)]
        more = [f"off by {r['error']:.2g}"] if r.get("error") is not None else []
        more += [f"peak {r['peak_bytes'] / 1e6:.0f} MB"] if "peak_bytes" in r else []
        more += [f"not measured: {r['missing']}"] if r.get("missing") else []
        rows.append([r["group"], r["dtype"], r["name"], *figures, ", ".join(more)])
    return table(["group", "type", "what", "n", "median µs", "P5", "P95", "rate", ""], rows)


def micro(value):
    return "-" if value is None else f"{value:.1f}"


def rate(r):
    """The rate that bounds the row: arithmetic if it has any, else memory, else tokens."""
    if r["median_us"] is None:
        return "-"
    if r.get("flops") and r.get("name") != "triad":
        return f"{r['flops'] / r['median_us'] / 1e3:.0f} GFLOP/s"
    if r.get("bytes"):
        return f"{r['bytes'] / r['median_us'] / 1e3:.1f} GB/s"
    return f"{r['tokens'] / r['median_us'] * 1e6:.0f} tokens/s" if r.get("tokens") else ""


def faults(part):
    return table(
        ["fault", "what came of it", "message", "the next batch"], [[f["kind"], f["outcome"], f["message"], f["next"]] for f in part]
    )


def requests(part):
    rows = []
    for r in part:
        if "missing" in r:
            rows.append([r["program"], "-", "-", "-", "-", "-", r["missing"]])
        else:
            after = f"{r['idle_s']:g} s" if r["idle_s"] else "back to back"
            rows.append([r["program"], r["length"], after, r["n"], f"{r['p50_ms']:.1f}", f"{r['p95_ms']:.1f}", ""])
    return table(["program", "tokens of a pair", "after", "n", "P50 ms", "P95 ms", ""], rows)


def cold_start(part):
    return table(["process", "n", "P50 s", "P95 s"], [[r["process"], r["n"], f"{r['p50_s']:.2f}", f"{r['p95_s']:.2f}"] for r in part])


def batches(part):
    keys = ("p50_pairs_per_s", "p5_pairs_per_s", "p95_pairs_per_s")
    rows = [[r["max_batch_tokens"], r["n"], *(f"{r[key]:.1f}" for key in keys)] for r in part]
    return table(["tokens of a batch", "n", "pairs/s", "P5", "P95"], rows)


def quality(part):
    rows = []
    for r in part:
        lengths = ", ".join(f"{b['tokens']}: {b['worst']:.2g}" for b in r["by_length"])
        rows.append([r["dtype"], r["pairs"], f"{r['worst']:.2g}", f"{r['tau']:.4f}", f"{100 * r['top10']:.1f} %", r["ties"], lengths])
    return table(["type", "pairs", "worst, in deviations", "Kendall's tau", "top ten", "new ties", "worst by tokens"], rows)


def power(part):
    return table(["part", "mean mW", "n"], [[r["name"], f"{r['mW']:.0f}", r["n"]] for r in part])


# The parts of the JSON, in the order of the report.
PARTS = {
    "native": ("Operations, attention, GELU, fixed costs, shapes, microbatches, streams", native),
    "faults": ("Work that fails on the device", faults),
    "requests": ("One query with 20 documents", requests),
    "cold_start": ("Start to the first score", cold_start),
    "batches": ("Throughput by tokens of a batch", batches),
    "quality": ("Goldens, against PyTorch in float32", quality),
    "power": ("Power while the benchmark runs", power),
}


def decisions(found):
    rows = [[d["about"], d["what"] if d["changes"] else "-", d["why"]] for d in found]
    return table(["about", "what to change", "why"], rows)


def summary(device, results):
    """One line. Nothing is called verified unless all of it passed."""
    bad = [result.name for result in results if not result.passed]
    if any(result.no_gpu for result in results):
        return "NO USABLE GPU: MLX finds none on this machine, so NOTHING of Metal was verified"
    if not results:
        return "NOTHING RAN"
    if bad:
        return f"FAILED on {device}: {', '.join(bad)}"
    return f"all {len(results)} suites passed on {device}"


def row(suite):
    return [suite["name"], suite["shows"], suite["verdict"], suite["tests"] or "-", f"{suite['seconds']:.0f}"]


def table(head, rows):
    cells = [head, ["-" * len(name) for name in head], *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in cells]


def section(suite):
    """What a suite found: figures, problems, and the end of its output."""
    found = [f"- {line}" for line in suite["problems"] + suite["figures"]]
    if not found and not suite["details"]:
        return []
    lines = ["", f"## {suite['name']}", "", *found]
    if suite["details"]:
        lines += ["", "```", suite["details"].replace("```", "'''"), "```"]
    return lines
