"""Pieces of the report: plots of values with intervals, tables, figures. All text is escaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final, Literal, NamedTuple

Kind = Literal["served", "ours", "other", "plain"]
"""What serves; the product with another release or state; its rivals; what knows nobody (popularity)."""
MAX_RATIO: Final = 4.0
"""The scale of a plot of ratios ends here."""


Row = tuple[Kind, Sequence[object]]
"""Of a table."""


class Bar(NamedTuple):
    """A value and its interval; an end None: it has none. `text`: what stands beside it."""

    name: str
    value: float | None
    lower: float | None
    upper: float | None
    kind: Kind = "other"
    text: str = ""


def plot(bars: Sequence[Bar], unit: str) -> str:
    """A row for each value, which is at least 0: a dot on a line from end to end, all on one scale from 0.

    Lines and dots lie at shares of the width, so that text keeps its size on a narrow page.
    """
    high = max((it for bar in bars for it in (bar.value, bar.upper) if it), default=1.0)
    rows = [_row(bar, lambda value: value / high) for bar in bars]
    return _framed(rows, ("0", unit, f"{high:.3g}")) if rows else ""


def ratio_plot(bars: Sequence[Bar]) -> str:
    """The same for ratios, on a logarithmic scale with a dashed line at 1. What lies beyond `MAX_RATIO`, or
    its inverse, ends at the edge."""
    reach = math.log(MAX_RATIO)

    def share(value: float) -> float:
        clipped = min(max(value, 1 / MAX_RATIO), MAX_RATIO)
        return 0.5 + math.log(clipped) / (2 * reach)

    rows = [_row(bar, share, middle=True) for bar in bars]
    return _framed(rows, (f"{1 / MAX_RATIO:g}", "1", f"{MAX_RATIO:g}")) if rows else ""


def _framed(rows: Sequence[str], axis: tuple[str, str, str]) -> str:
    marks = "".join(f"<span>{escape(it)}</span>" for it in axis)
    last = (
        f'<div class="row axis"><span></span><span class="ends">{marks}</span><span></span></div>'
    )
    return f'<div class="plot">{"".join(rows)}{last}</div>'


def _row(bar: Bar, share: Callable[[float], float], middle: bool = False) -> str:
    def at(value: float) -> str:
        return f"{100 * share(value):.2f}%"

    drawn = ['<line class="mark" x1="50%" x2="50%" y1="0" y2="100%"/>'] if middle else []
    if bar.lower is not None and (bar.upper is not None or middle):
        right = "100%" if bar.upper is None else at(bar.upper)
        drawn.append(f'<line x1="{at(bar.lower)}" x2="{right}" y1="50%" y2="50%"/>')
    if bar.value is not None:
        drawn.append(f'<circle cx="{at(bar.value)}" cy="50%" r="5"/>')
    said = escape(bar.text or interval(bar.value, bar.lower, bar.upper))
    name = escape(bar.name)
    return (
        f'<div class="row {bar.kind}"><span class="name">{name}</span>'
        f'<svg role="img" aria-label="{name}: {said}">{"".join(drawn)}</svg>'
        f'<span class="value">{said}</span></div>'
    )


def interval(value: float | None, lower: float | None, upper: float | None) -> str:
    """
    >>> interval(0.1234, 0.1, None), interval(None, None, None)
    ('0.1234 (0.1000 to …)', '-')
    """
    if value is None:
        return "-"
    if lower is None and upper is None:
        return f"{value:.4f}"
    low, high = ("…" if it is None else f"{it:.4f}" for it in (lower, upper))
    return f"{value:.4f} ({low} to {high})"


def table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """A table that scrolls sideways within itself; None is a dash, a float has four places. A column without
    a value is left out."""
    full = [n for n in range(len(columns)) if any(row[n] is not None for _, row in rows)]
    columns = [columns[n] for n in full]
    rows = [(kind, [row[n] for n in full]) for kind, row in rows]
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        f'<tr class="{kind}">{"".join(f"<td>{escape(cell(it))}</td>" for it in row)}</tr>'
        for kind, row in rows
    )
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def cell(value: object) -> str:
    """
    >>> cell(0.5), cell(12_000), cell(None), cell("24h")
    ('0.5000', '12,000', '-', '24h')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def figures(found: Iterable[tuple[str, str]]) -> str:
    """(figure, what it is) side by side."""
    cells = "".join(f"<div><b>{escape(a)}</b><span>{escape(b)}</span></div>" for a, b in found)
    return f'<div class="figures">{cells}</div>'


def paragraph(text: str, quiet: bool = False) -> str:
    kind = ' class="quiet"' if quiet else ""
    return f"<p{kind}>{escape(text)}</p>"
