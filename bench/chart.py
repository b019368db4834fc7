"""A bar chart as SVG text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, LABEL, BAR, GAP, TOP = 720, 150, 16, 6, 44
OURS, THEIRS = "#c2410c", "#64748b"


def bars(title: str, unit: str, rows: Sequence[tuple[str, float]]) -> str:
    """A chart of (name, value), in the order given; Tricorn's bars stand out. Longer is more."""
    longest = max((value for _, value in rows), default=0.0) or 1.0
    height = TOP + len(rows) * (BAR + GAP) + 10
    room = WIDTH - LABEL - 90
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="12" role="img" '
        f'aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="18" font-size="14" font-weight="600" fill="#0f172a">{escape(title)}</text>',
        f'<text x="10" y="34" fill="#475569">{escape(unit)}</text>',
    ]
    for number, (name, value) in enumerate(rows):
        y = TOP + number * (BAR + GAP)
        length = max(1.0, value / longest * room)
        colour = OURS if name.startswith("tricorn") else THEIRS
        lines += [
            f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end" fill="#0f172a">{escape(name)}</text>',
            f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}"/>',
            f'<text x="{LABEL + length + 6:.1f}" y="{y + 12}" fill="#0f172a">{short(value)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def short(value: float) -> str:
    """A figure with about three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
