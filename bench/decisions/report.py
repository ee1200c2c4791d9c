"""One JSON object, one table, one plot."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from bench.decisions.rules import FAMILIES
from bench.decisions.tune import Trial, frontier, tuned

COLORS = ("#0b7285", "#868e96", "#e8590c", "#5f3dc4", "#2b8a3e", "#c2255c", "#a61e4d", "#1864ab", "#846358", "#364fc7")
OURS = "#d6336c"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 560, 70, 210, 56, 60
HEAD = (
    ("rule", "", "<", 18), ("worse %", "share_worse", 100, 8), ("gain ms", "mean_gain_ms", 1, 9),
    ("oracle %", "share_of_oracle", 100, 9), ("moved %", "share_moved", 100, 8), ("delay ms", "mean_delay_ms", 1, 9),
    ("MOS", "mos", 1, 6), ("moves/1000", "moves_per_pair_1000", 1, 11), ("lost %", "share_lost", 100, 7),
    ("fresh worse %", "share_worse_fresh", 100, 14), ("fresh gain ms", "gain_fresh_ms", 1, 14),
    ("react p50", "reaction_p50_slices", 1, 10), ("p95", "reaction_p95_slices", 1, 6),
)  # fmt: skip
Point = tuple[float, float]


def rounded(value: Any) -> Any:
    """Floats to six significant digits, through mappings and lists: nothing here is known better."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value


def rules_report(published: Mapping[str, Trial], tried: Mapping[str, Sequence[Trial]]) -> dict[str, Any]:
    """Rules -> metrics: under published constants, tuned on the first half, and the frontier."""
    report: dict[str, Any] = {}
    for name, at in published.items():
        entry: dict[str, Any] = {
            "ours": FAMILIES[name].ours, "constants": at.constants, "all": at.all, "second_half": at.second_half,
        }  # fmt: skip
        if tried.get(name):
            best, chosen = tuned(tried[name]), frontier(tried[name])
            chosen += [] if any(best is t for t in chosen) else [best]
            entry["tuned"] = {"constants": best.constants, "second_half": best.second_half}
            entry["frontier"] = [
                {"constants": t.constants, "first_half": _short(t.first_half), "second_half": _short(t.second_half)}
                for t in chosen
            ]
        report[name] = entry
    return report


def _short(metrics: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("share_worse", "mean_gain_ms", "share_of_oracle", "share_worse_fresh", "gain_fresh_ms")
    return {key: metrics[key] for key in keys}


def points(entry: Mapping[str, Any]) -> list[Point]:
    """(share worse, mean gain) of a rule in the second half: published constants first, then its frontier."""
    halves = [entry["second_half"], *(f["second_half"] for f in entry.get("frontier", []))]
    return [(half["share_worse"] or 0.0, half["mean_gain_ms"] or 0.0) for half in halves]


def dominance(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Which points of other rules no point of ours matches in both share worse and gain; None without ours."""
    ours = [p for entry in report.values() if entry["ours"] for p in points(entry)]
    if not ours:
        return None
    beaten, unbeaten = 0, []
    for name, entry in report.items():
        for worse, gain in () if entry["ours"] else points(entry):
            if gain <= 0 or any(w <= worse and g >= gain for w, g in ours):
                beaten += 1
            else:
                unbeaten.append({"rule": name, "share_worse": worse, "mean_gain_ms": gain})
    return {"beaten": beaten, "unbeaten": unbeaten}


def table(report: Mapping[str, Any], half: str = "second_half") -> str:
    """Plain text, one line per rule and one per tuned rule, most gain first."""
    rows = [(name, entry[half]) for name, entry in report.items()]
    rows += [(f"{name} tuned", e["tuned"]["second_half"]) for name, e in report.items() if "tuned" in e]
    rows.sort(key=lambda row: -(row[1]["mean_gain_ms"] or 0.0))
    lines = ["".join(f"{title:{'<' if not key else '>'}{width}}" for title, key, _, width in HEAD)]
    for name, metrics in rows:
        cells = [f"{name:<{HEAD[0][3]}}"]
        for _, key, scale, width in HEAD[1:]:
            value = metrics[key]
            cells.append(f"{'-' if value is None else format(value * float(scale), '.2f'):>{width}}")
        lines.append("".join(cells))
    return "\n".join(lines)


def plot(report: Mapping[str, Any], title: str) -> str:
    """SVG: share worse (x) against mean gain (y) in the second half; a line per tuned frontier, a ring per rule."""
    named = {name: points(entry) for name, entry in report.items()}
    gains = [gain for line in named.values() for _, gain in line]
    low, high = _span([0.0, *gains])
    right = max(0.1, *(worse for line in named.values() for worse, _ in line)) * 1.05

    def at(point: Point) -> Point:
        x = LEFT + point[0] / right * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - (point[1] - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    parts = [*_frame(title, at, right, low, high)]
    for i, (name, line) in enumerate(named.items()):
        ours = bool(report[name]["ours"])
        color = OURS if ours else COLORS[i % len(COLORS)]
        parts += _series(name, [at(p) for p in line], color, 3 if ours else 1.5, i)
    return "\n".join([*parts, "</svg>", ""])


def _span(values: Iterable[float]) -> Point:
    values = list(values)
    low, high = min(values), max(values)
    pad = max(high - low, 1.0) * 0.06
    return low - pad, high + pad


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart), four to nine of them."""
    rough = (high - low) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * f for f in (1, 2, 5, 10) if power * f >= rough)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _frame(title: str, at: Any, right: float, low: float, high: float) -> list[str]:
    style = 'font-family="system-ui, sans-serif" font-size="13" fill="#212529"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" {style}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="28" font-size="16" font-weight="600">{escape(title)}</text>',
    ]
    for worse in _ticks(0.0, right):
        x, y = at((worse, low))
        parts += [
            f'<path d="M{x} {TOP}V{HEIGHT - BOTTOM}" stroke="#e9ecef" fill="none"/>',
            f'<text x="{x}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{100 * worse:.3g} %</text>',
        ]
    for gain in _ticks(low, high):
        x, y = at((0.0, gain))
        parts += [
            f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#e9ecef" fill="none"/>',
            f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{gain:.3g}</text>',
        ]
    x, y = at((0.0, 0.0))
    parts += [
        f'<path d="M{x} {y}H{WIDTH - RIGHT}M{x} {TOP}V{HEIGHT - BOTTOM}" stroke="#868e96" fill="none"/>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 16}" text-anchor="middle">'
        "share of moved pair-time slower than direct (better: left)</text>",
        f'<text transform="translate(18 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        "mean gain over all pairs, ms (better: up)</text>",
    ]
    return parts


def _series(name: str, line: Sequence[Point], color: str, stroke: float, i: int) -> list[str]:
    published, tuned_line = line[0], sorted(line[1:])
    parts = []
    if tuned_line:
        way = " ".join(f"{x},{y}" for x, y in tuned_line)
        parts.append(f'<polyline points="{way}" fill="none" stroke="{color}" stroke-width="{stroke}"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="{stroke + 1.5}" fill="{color}"/>' for x, y in tuned_line]
    x, y = published
    parts.append(f'<circle cx="{x}" cy="{y}" r="6" fill="none" stroke="{color}" stroke-width="{stroke}"/>')
    top = TOP + 10 + 22 * i
    parts.append(f'<circle cx="{WIDTH - RIGHT + 24}" cy="{top}" r="6" fill="{color}"/>')
    parts.append(f'<text x="{WIDTH - RIGHT + 38}" y="{top + 4}">{escape(name)}</text>')
    return parts
