"""The results as Markdown and charts."""

from __future__ import annotations

from collections.abc import Sequence

from bench.chart import bars, short
from bench.results import Outcome, is_ours, verdicts

HIDDEN = ("control", "floor")
COLUMNS = {
    "cpu_us": "CPU, µs/request",
    "rps": "requests/s",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "kept_percent": "of its undisturbed rate, %",
    "of_bare_percent": "of bare threads, %",
    "errors": "errors",
    "pss_mib": "PSS, MiB",
    "first_answer_ms": "first answer, ms",
    "idle_cpu_percent": "idle CPU, %",
    "kib_per_idle_connection": "KiB per idle connection",
    "busiest_to_idlest": "busiest / idlest worker",
    "workers_seen": "workers seen",
    "messages_per_cpu_s": "messages/s of CPU",
    "kib_per_idle_websocket": "KiB per idle WebSocket",
    "late_p50_ms": "late, p50, ms",
    "late_p99_ms": "late, p99, ms",
    "late_max_ms": "late, largest, ms",
}
Row = tuple[str, str, str, bool]
# How many times the CPU of a request that a worker class may need, beside sync.
MOST_OF_SYNC = {"tricorn asgi": 1.35, "tricorn gevent": 1.2, "tricorn eventlet": 1.6}
LEAST_OF_GEVENT = 12
LEAST_PERCENT = {
    "sleep3ms": ("of_bare_percent", "every call sleeps 3 ms: share of what 4 bare threads reach", 95),
    "slowmix": ("kept_percent", "rate beside two calls of 50 ms / undisturbed", 80),
}
MOST_KIB_PER_WEBSOCKET = 8
MOST_LATE_MS = 250


def markdown(outcomes: Sequence[Outcome], findings: str = "") -> str:
    """The whole report. `findings`: Markdown about what was not reached, and why."""
    parts = ["# Results", "", *_origins(outcomes), ""]
    parts += [
        "The figure to trust is CPU per request: all threads and processes of the server, from the",
        "scheduler's own account. `x` is the median over the rounds of (its CPU per request / Tricorn's in",
        "the same round); above 1 Tricorn needs less. `control` is Tricorn a second time.",
        "",
    ]
    parts += [*_targets(outcomes), *_also(outcomes)]
    if findings:
        parts += [findings.strip(), ""]
    for outcome in outcomes:
        parts += _section(outcome)
    return "\n".join(parts)


def _origins(outcomes: Sequence[Outcome]) -> list[str]:
    """Where the figures come from: what differs from scenario to scenario, with the names of those."""
    origins = {}
    for outcome in outcomes:
        rounds = max((len(rows) for rows in outcome.rounds.values()), default=0)
        origins[outcome.scenario.name] = outcome.origin | {"rounds": str(rounds)}
    lines = []
    for key in dict.fromkeys(key for origin in origins.values() for key in origin):
        whose: dict[str, list[str]] = {}
        for name, origin in origins.items():
            if key in origin:
                whose.setdefault(origin[key], []).append(name)
        everywhere = list(whose.values()) == [list(origins)]
        lines += [
            f"- {key}: {value}" + ("" if everywhere else f" ({', '.join(names)})")
            for value, names in whose.items()
        ]
    return lines


def _targets(outcomes: Sequence[Outcome]) -> list[str]:
    rows = []
    for outcome in outcomes:
        for verdict in verdicts(outcome):
            word = "reached" if verdict.reached else "**missed**"
            rows.append(
                f"| {outcome.scenario.title} | {verdict.about} | {verdict.wanted:g} | {verdict.ratio:.2f} "
                f"({verdict.nearest}) | {word} |"
            )
    if not rows:
        return []
    head = [
        "## Targets",
        "",
        "| scenario | CPU of | at least | measured | |",
        "| --- | --- | --- | --- | --- |",
    ]
    return [*head, *rows, ""]


def _also(outcomes: Sequence[Outcome]) -> list[str]:
    """Targets that are no ratio to a rival: (what, measured, wanted, reached)."""
    by_name = {outcome.scenario.name: outcome for outcome in outcomes}
    rows: list[Row] = []
    hello = by_name.get("hello")
    if hello and (floor := hello.ratio("floor")):
        rows.append(("CPU of the floor / ours on hello", f"{floor:.0%}", ">= 85 %", floor >= 0.85))
    if hello and (threads := hello.ratio("tricorn gthread")):
        rows.append(
            ("CPU of gthread with 4 threads / sync on hello", f"{threads:.2f}", "<= 1.1", threads <= 1.1)
        )
    for name, (figure, what, least) in LEAST_PERCENT.items():
        if name in by_name and (share := by_name[name].middle("tricorn", figure)) is not None:
            rows.append((what, f"{share:.0f} %", f">= {least} %", share >= least))
    uneven = by_name.get("uneven")
    if uneven and (p99 := uneven.middle("tricorn", "p99_ms")):
        rows.append(("short calls of uneven workers, p99", f"{p99:.1f} ms", "<= 10 ms", p99 <= 10))
    for name, kind in (("short", "gthread"), ("short_asgi", "asgi")):
        short = by_name.get(name)
        if short and (shares := short.middle("tricorn", "busiest_to_idlest")):
            all_seen = short.middle("tricorn", "workers_seen") == short.scenario.shape.workers
            what = f"busiest / idlest of 8 {kind} workers under 800 short connections"
            rows.append((what, f"{shares:.2f}", "< 1.5", all_seen and shares < 1.5))
    rows += _resource_rows(by_name.get("resources"))
    rows += _class_rows(by_name.get("classes"))
    rows += _websocket_rows(by_name.get("websockets"))
    for name in ("streams", "broadcast"):
        rows += _stream_rows(by_name.get(name))
    if not rows:
        return []
    head = ["| | measured | wanted | |", "| --- | --- | --- | --- |"]
    lines = [
        f"| {what} | {got} | {wanted} | {'reached' if ok else '**missed**'} |"
        for what, got, wanted, ok in rows
    ]
    return [*head, *lines, ""]


def _class_rows(outcome: Outcome | None) -> list[Row]:
    rows = []
    if outcome is None:
        return rows
    for name, most in MOST_OF_SYNC.items():
        if ratio := outcome.ratio(name):
            rows.append((f"CPU of {name} / sync on hello", f"{ratio:.2f}", f"<= {most:g}", ratio <= most))
    if ratio := outcome.ratio("gunicorn gevent", base="tricorn gevent"):
        what = "CPU of gunicorn gevent / tricorn gevent on hello"
        rows.append((what, f"{ratio:.1f}", f">= {LEAST_OF_GEVENT}", ratio >= LEAST_OF_GEVENT))
    return rows


def _websocket_rows(outcome: Outcome | None) -> list[Row]:
    if outcome is None or (kib := outcome.middle("tricorn", "kib_per_idle_websocket")) is None:
        return []
    most = MOST_KIB_PER_WEBSOCKET
    return [(COLUMNS["kib_per_idle_websocket"], f"{kib:.2f}", f"<= {most}", kib <= most)]


def _stream_rows(outcome: Outcome | None) -> list[Row]:
    """No event of any round may be late, and no stream may end before its time."""
    rows = []
    for name in ("tricorn", *MOST_OF_SYNC):
        if outcome and (late := outcome.worst(name, "late_max_ms")) is not None:
            what = f"{outcome.scenario.title}: the latest of {name if name != 'tricorn' else 'tricorn asgi'}"
            ok = late <= MOST_LATE_MS and not outcome.worst(name, "errors")
            rows.append((what, f"{late:.0f} ms", f"<= {MOST_LATE_MS} ms", ok))
    return rows


def _resource_rows(outcome: Outcome | None) -> list[Row]:
    if outcome is None:
        return []
    rows = []
    limits = {"first_answer_ms": 100.0, "idle_cpu_percent": 0.2, "kib_per_idle_connection": 1.0}
    for figure, limit in limits.items():
        if (value := outcome.middle("tricorn", figure)) is not None:
            rows.append((COLUMNS[figure], f"{value:.2f}", f"<= {limit:g}", value <= limit))
    ours = outcome.middle("tricorn", "pss_mib")
    for rival in ("gunicorn sync", "granian"):
        theirs = outcome.middle(rival, "pss_mib")
        if ours and theirs:
            rows.append((f"PSS, MiB, below {rival}'s", f"{ours:.1f}", f"< {theirs:.1f}", ours < theirs))
    return rows


def _section(outcome: Outcome) -> list[str]:
    names = sorted(outcome.rounds, key=lambda name: _sort_key(outcome, name))
    figures = [
        name for name in COLUMNS if any(name in row for rows in outcome.rounds.values() for row in rows)
    ]
    with_ratio = "cpu_us" in figures
    head = ["server", *(["x"] if with_ratio else []), *(COLUMNS[figure] for figure in figures)]
    lines = [f"## {outcome.scenario.name}: {outcome.scenario.title}", ""]
    lines += ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for name in names:
        cells = [name]
        if with_ratio:
            cells.append(_ratio_cell(outcome, name))
        for figure in figures:
            value = outcome.middle(name, figure)
            cells.append("" if value is None else f"{value:.0f}" if figure == "errors" else short(value))
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    resolution = outcome.resolution()
    if resolution is not None:
        lines += [f"Resolution of this run: ±{resolution:.1%} of CPU; smaller differences say nothing.", ""]
    remarks = outcome.failed | outcome.remiss
    lines += [f"- {name}: {reason}" for name, reason in remarks.items()]
    return [*lines, ""] if remarks else lines


def _ratio_cell(outcome: Outcome, name: str) -> str:
    ratios = outcome.ratios(name)
    if not ratios:
        return ""
    return f"{outcome.ratio(name):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _sort_key(outcome: Outcome, name: str) -> tuple[int, float]:
    value = outcome.middle(name, outcome.scenario.figure) or outcome.middle(name, "pss_mib") or 0.0
    # Ours first, then by what the scenario is about.
    return (0 if is_ours(name) else 1, -value if outcome.scenario.figure == "rps" else value)


def charts(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """SVG by the name of its file, of each scenario that is about one figure."""
    return {
        f"{outcome.scenario.name}.svg": chart(outcome)
        for outcome in outcomes
        if outcome.scenario.kind not in ("short", "resources")
    }


def chart(outcome: Outcome) -> str:
    """Bars of the figure that the scenario is about; CPU as requests in a second of it."""
    figure = outcome.scenario.figure
    rows = []
    for name in outcome.rounds:
        value = outcome.middle(name, figure)
        if value and name not in HIDDEN:
            rows.append((name, 1e6 / value if figure == "cpu_us" else value))
    more_is_better = figure in ("cpu_us", "rps")
    rows.sort(key=lambda row: -row[1] if more_is_better else row[1])
    unit = {
        "cpu_us": "requests per second of CPU; longer is better",
        "rps": "requests per second; longer is better",
        "p99_ms": "99th percentile in ms; shorter is better",
        "late_max_ms": "latest event in ms; shorter is better",
        "kib_per_idle_websocket": "KiB for each; shorter is better",
    }[figure]
    return bars(outcome.scenario.title, unit, rows)
