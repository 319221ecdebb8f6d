"""The report, in Markdown."""


def render(device, machine, results, partial=False):
    lines = ["# mlxrank, verified on this machine", "", f"**{summary(device, results)}**", ""]
    if device != "gpu":
        lines += ["This ran on the CPU, which tries the suites and verifies nothing of Metal.", ""]
    if partial:
        lines += ["Only some of the suites were asked for.", ""]
    lines += table(["suite", "shows that", "result", "tests", "seconds"], [row(r) for r in results])
    lines += ["", "## Machine", "", *table(["what", "found"], machine)]
    for result in results:
        lines += section(result)
    return "\n".join(lines) + "\n"


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


def row(result):
    return [result.name, result.shows, result.verdict, result.tests or "-", f"{result.seconds:.0f}"]


def table(head, rows):
    cells = [head, ["-" * len(name) for name in head], *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in cells]


def section(result):
    """What a suite found: figures, problems, and the end of its output."""
    if not (result.figures or result.problems or result.details):
        return []
    lines = ["", f"## {result.name}", ""]
    lines += [f"- {problem}" for problem in result.problems]
    lines += [f"- {figure}" for figure in result.figures]
    if result.details:
        lines += ["", "```", result.details.replace("```", "'''"), "```"]
    return lines
