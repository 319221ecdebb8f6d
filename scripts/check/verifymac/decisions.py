"""What to change and why: rules from the figures of a report, each a function of its JSON.

A rule returns a Decision, or None where its figures are missing. changes is False
where the figures say that everything can stay. The thresholds are the smallest gains
that are worth the work, or the largest losses that are not.
"""

import dataclasses

TYPICAL = 128  # tokens of a pair
LAUNCHES = 130  # of a pass of the reference, by docs/dev/metal.md


@dataclasses.dataclass
class Decision:
    about: str
    changes: bool
    what: str
    why: str


def decide(data):
    """The decisions, those that change something first."""
    found = [decision for rule in RULES if (decision := rule(data))]
    return sorted(found, key=lambda d: not d.changes)


def row(data, group, name, dtype=None):
    """The first measured row of a group and a name; groups by the begin of their name."""
    rows = data.get("native", {}).get("rows", [])
    for r in rows:
        if r["group"].startswith(group) and r["name"] == name and dtype in (None, r["dtype"]) and r["median_us"] is not None:
            return r
    return None


def median(data, group, name, dtype=None):
    found = row(data, group, name, dtype)
    return found["median_us"] if found else None


def medians(data, group, dtype):
    """Medians of a group by name, of those that were measured."""
    rows = data.get("native", {}).get("rows", [])
    return {r["name"]: r["median_us"] for r in rows if r["group"] == group and r["dtype"] == dtype and r["median_us"] is not None}


def listed(data, part):
    """The rows of a part that have figures."""
    rows = data.get(part)
    return [r for r in rows if "missing" not in r] if isinstance(rows, list) else []


def half(data):
    """The type that the device computes in by default."""
    return "float16" if data.get("device") == "gpu" else "float32"


def latency(data, program, length=TYPICAL, idle=0):
    for r in listed(data, "requests"):
        if (r["program"], r["length"], r["idle_s"]) == (program, length, idle):
            return r["p50_ms"]
    return None


def ours(data):
    return latency(data, "mlxrank " + half(data))


def correctness(data):
    if not data.get("suites"):
        return None
    bad = [s["name"] for s in data["suites"] if not s["passed"]]
    if bad:
        return Decision("correctness", True, "fix the suites that failed before anything else", "failed: " + ", ".join(bad))
    return Decision("correctness", False, "nothing", f"{len(data['suites'])} suites passed")


def conditions(data):
    facts = data.get("facts", {})
    bad = [
        name
        for name in ("Low Power Mode", "thermal level before", "thermal level after")
        if facts.get(name) not in (None, "off", "nominal", "-", "unknown")
    ]
    first, last = median(data, "anchors, first", anchor(data)), median(data, "anchors, last", anchor(data))
    why = [f"{name}: {facts[name]}" for name in bad]
    if first and last and not 1 / 1.1 < last / first < 1.1:
        why.append(f"the anchor GEMM took {first:.0f} µs first and {last:.0f} µs last")
    if why:
        return Decision("conditions", True, "measure again: plug in, close other programs, let the Mac cool", "; ".join(why))
    return Decision("conditions", False, "nothing", "speed and thermal level were steady") if first and last else None


def anchor(data):
    rows = data.get("native", {}).get("rows", [])
    return next((r["name"] for r in rows if r["name"].startswith("GEMM ")), "")


def lost_errors(data):
    found = listed(data, "faults")
    if not found:
        return None
    wrong = [f["kind"] for f in found if f["outcome"] == "wrong scores" or f["next"] == "wrong scores"]
    blamed = [f["kind"] for f in found if f["outcome"] == "error" and f["next"] not in ("right", "-")]
    forced = [f["kind"] for f in found if f["outcome"] != "right scores"]
    if wrong:
        return Decision(
            "failing work", True, "do not ship the GPU path: an error of the device came back as scores", "fault: " + ", ".join(wrong)
        )
    if blamed:
        return Decision(
            "failing work", True, "open the session again after a device error", f"the batch after it failed too ({', '.join(blamed)})"
        )
    if not forced:
        return Decision(
            "failing work", True, "find another way to fail a command buffer", "the device tolerated the faults, which shows nothing"
        )
    return Decision("failing work", False, "nothing", f"no score came of failing work ({', '.join(forced)})")


def attention(data):
    """The fastest way by width; what wins at most widths should be the default."""
    wins, text = {}, []
    for r in data.get("native", {}).get("rows", []):
        if r["group"].startswith("attention, width") and r["dtype"] == half(data) and r["name"] == "fallback":
            times = medians(data, r["group"], r["dtype"])
            if "fallback" not in times or len(times) < 2:
                continue
            best = min(times, key=times.get)
            wins[best] = wins.get(best, 0) + 1
            text.append(f"{r['group'].split()[-1]}: {best} {times['fallback'] / times[best]:.2f}x")
    if not wins:
        return None
    best = max(wins, key=wins.get)
    chosen = data.get("facts", {}).get("variant", "-")
    suited = {"fallback": ("reference", "kernels"), "qpad": ("qpad", "qpad-kernels"), "own": ("packed",)}[best]
    why = "speed over the fallback by width: " + ", ".join(text)
    if chosen not in ("-", "") and chosen not in suited:
        return Decision("attention", True, f"look at the choice: it took {chosen}, though {best} is fastest at most widths", why)
    if best != "own" and median(data, "attention, width", "own", half(data)):
        return Decision("attention", True, f"improve our attention kernel, or remove it: {best} is faster", why)
    return Decision("attention", False, f"nothing: {best} is fastest", why)


def gelu(data):
    times = next(
        (medians(data, r["group"], half(data)) for r in data.get("native", {}).get("rows", []) if r["group"].startswith("GELU")), {}
    )
    if "chain" not in times or len(times) < 2:
        return None
    why = ", ".join(f"{name} {time:.0f} µs" for name, time in times.items())
    best = min(times, key=times.get)
    if "kernel" in times and times["kernel"] > 1.05 * times[best]:
        return Decision("GELU", True, f"replace our kernel by {best}", why)
    if "kernel" not in times and times["compiled"] < 0.9 * times["chain"]:
        return Decision("GELU", True, "compile the chain, since the kernel does not run here", why)
    return Decision("GELU", False, "nothing", why)


def launches(data):
    one, whole = median(data, "fixed costs", "dependent kernel"), median(data, "fixed costs", "pass: whole")
    if not one or not whole:
        return None
    count = data.get("facts", {}).get("launches") or LAUNCHES
    share, tokens = one * count / whole, row(data, "fixed costs", "pass: whole").get("tokens", 0)
    why = f"{count} launches of {one:.1f} µs are {100 * share:.0f} % of a pass of {tokens:.0f} tokens"
    if share > 0.2:
        return Decision("launches", True, "join more kernels: embeddings with LayerNorm, bias and activation with the GEMM", why)
    return Decision("launches", False, "nothing", why)


def host_time(data):
    build, encode, whole = (median(data, "fixed costs", "pass: " + part) for part in ("build", "encode", "whole"))
    if None in (build, encode, whole):
        return None
    why = f"building and encoding take {build + encode:.0f} of {whole:.0f} µs"
    if build + encode > 0.25 * whole:
        return Decision("host", True, "build the next graph while this one runs, or keep graphs of common shapes", why)
    return Decision("host", False, "nothing", why)


def synchronizing(data):
    after, whole = median(data, "fixed costs", "pass: synchronize"), median(data, "fixed costs", "pass: whole")
    if after is None or whole is None:
        return None
    why = f"synchronizing after a pass takes {after:.0f} of {whole:.0f} µs"
    if after > 0.05 * whole:
        return Decision("synchronize", True, "check the command buffers' status instead of synchronizing", why)
    return Decision("synchronize", False, "nothing", why)


def idle(data):
    busy = ours(data)
    slow = [
        (r["idle_s"], r["p50_ms"])
        for r in listed(data, "requests")
        if r["program"] == "mlxrank " + half(data) and r["length"] == TYPICAL and r["idle_s"]
    ]
    if busy is None or not slow:
        return None
    why = f"P50 is {busy:.1f} ms back to back, " + ", ".join(f"{ms:.1f} ms after {s:g} s" for s, ms in slow)
    if any(ms > 1.3 * busy for _, ms in slow):
        return Decision(
            "idle", True, "try a small batch as soon as a request is admitted, so that the clocks rise while it is tokenised", why
        )
    return Decision("idle", False, "nothing", why)


def cold_start(data):
    seconds = {r["process"]: r["p50_s"] for r in listed(data, "cold_start")}
    if len(seconds) < 2:
        return None
    why = f"the first process takes {seconds['first']:.2f} s, the second {seconds['second']:.2f} s"
    if seconds["first"] - seconds["second"] > 2:
        return Decision("first start", True, "choose the variant within its 2 s: fewer rounds, or fewer variants", why)
    if seconds["second"] > 1:
        return Decision("start", True, "profile a start: weights, pipelines, the warm pass", why)
    return Decision("start", False, "nothing", why)


def shapes(data):
    same, other = median(data, "shapes", "repeated"), median(data, "shapes", "jittered")
    if not same or not other:
        return None
    why = f"passes of changing shapes take {other / same:.2f} times as long as of one shape"
    if other > 1.05 * same:
        return Decision("shapes", True, "round the rows of padded layouts to few sizes too", why)
    return Decision("shapes", False, "nothing", why)


def microbatches(data):
    rows = [r for r in data.get("native", {}).get("rows", []) if r["group"] == "microbatches" and r["median_us"]]
    if len(rows) < 2:
        return None
    rates = {int(r["tokens"]): r["tokens"] / r["median_us"] for r in rows}
    enough = min(tokens for tokens, rate in rates.items() if rate > 0.97 * max(rates.values()))
    peaks = {int(r["tokens"]): r.get("peak_bytes", 0) for r in rows}
    set_now = 16384 if data.get("device") == "gpu" else 512
    why = f"from {enough} tokens on the rate is within 3 % of the best ({1e6 * max(rates.values()):.0f} tokens/s), with a peak of {peaks[enough] / 1e6:.0f} MB"
    if enough != set_now and min(rates) <= set_now <= max(rates):
        return Decision("microbatch", True, f"recommend {enough} tokens for this chip instead of {set_now}", why)
    return Decision("microbatch", False, "nothing", why)


def streams(data):
    one, two = median(data, "streams", "one, depth 2"), median(data, "streams", "two, depth 1")
    if not one or not two:
        return None
    why = f"two streams at depth 1 take {two / one:.2f} times as long as one at depth 2"
    if two > 1.03 * one:
        return Decision("streams", True, "one stream with a checked status for each command buffer", why)
    return Decision("streams", False, "nothing", why)


def precision(data):
    found = [r for r in listed(data, "quality") if r["dtype"] != "float32"]
    if not found:
        return None
    r = found[0]
    why = f"{r['dtype']} is off by {r['worst']:.2g} deviations at most, Kendall's tau {r['tau']:.4f}, {r['ties']} new ties, top ten {100 * r['top10']:.1f} %"
    if r["ties"] or r["worst"] > 0.05 or r["tau"] < 0.97:
        return Decision("precision", True, f"float32 as the default, until {r['dtype']} is better", why)
    return Decision("precision", False, "nothing", why)


def half_speed(data):
    fast, exact = latency(data, "mlxrank float16"), latency(data, "mlxrank float32")
    if not fast or not exact:
        return None
    why = f"float16 is {exact / fast:.2f} times as fast as float32"
    if exact < 1.1 * fast:
        return Decision("default type", True, "float32 as the default", why)
    return Decision("default type", False, "nothing", why)


def gemms(data):
    """The GEMMs of a pass against the anchor's rate."""
    top = row(data, "anchors, first", anchor(data), half(data))
    rows = [
        r
        for r in data.get("native", {}).get("rows", [])
        if r["group"] == "GEMM, 2560 tokens" and r["dtype"] == half(data) and r["median_us"]
    ]
    if not top or not rows:
        return None
    share = sum(r["flops"] for r in rows) / sum(r["median_us"] for r in rows) / (top["flops"] / top["median_us"])
    slowest = min(rows, key=lambda r: r["flops"] / r["median_us"])
    why = f"at 2,560 tokens they reach {100 * share:.0f} % of the anchor's rate; {slowest['name']} is slowest"
    if share < 0.6:
        return Decision("GEMM", True, f"try other layouts of the weight {slowest['name']} (not transposed, padded)", why)
    return Decision("GEMM", False, "nothing", why)


def nax(data):
    facts = data.get("facts", {})
    generation = facts.get("GPU generation")
    if not generation:
        return None
    if int(generation) >= 17 and facts.get("NAX") != "yes":
        return Decision(
            "NAX",
            True,
            "find out why the build with NAX kernels is not loaded",
            f"GPU generation {generation}, libmlx {facts.get('libmlx', '-')}",
        )
    return Decision("NAX", False, "nothing", f"GPU generation {generation}, NAX {facts.get('NAX', '-')}")


def others(data):
    mine = ours(data)
    theirs = {
        r["program"]: r["p50_ms"] for r in listed(data, "requests") if not r["program"].startswith("mlxrank") and r["length"] == TYPICAL
    }
    if mine is None or not theirs:
        return None
    best = min(theirs, key=theirs.get)
    why = f"P50 {mine:.1f} ms, {best} {theirs[best]:.1f} ms"
    if theirs[best] < mine:
        return Decision("others", True, f"find what {best} does better", why)
    return Decision("others", False, "nothing", why)


RULES = [
    correctness,
    lost_errors,
    conditions,
    precision,
    attention,
    gelu,
    gemms,
    nax,
    half_speed,
    launches,
    host_time,
    synchronizing,
    idle,
    cold_start,
    shapes,
    microbatches,
    streams,
    others,
]
