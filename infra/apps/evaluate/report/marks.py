"""Pieces of the report: plots of values with intervals, tables, figures. All text is escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Literal, NamedTuple

Kind = Literal["ours", "other", "plain"]
"""The product, its rivals, and what knows nobody (random, popularity): a colour each."""


class Bar(NamedTuple):
    """A value and its interval; an end None: it has none. `text`: what stands beside it."""

    name: str
    value: float | None
    lower: float | None
    upper: float | None
    kind: Kind = "other"
    text: str = ""


def plot(bars: Sequence[Bar], mark: float | None = None, unit: str = "") -> str:
    """A row for each value: a dot on a line from end to end, all on one scale, with a dashed line at `mark`.

    Lines and dots lie at shares of the width, so that text keeps its size on a narrow page.
    """
    ends = [it for bar in bars for it in (bar.value, bar.lower, bar.upper) if it is not None]
    if mark is not None:
        ends.append(mark)
    if not ends:
        return ""
    low = 0.0 if mark is None else min(ends)
    high = max(ends) if max(ends) > low else low + 1.0
    room = 0.0 if mark is None else 0.04 * (high - low)
    low, high = low - room, high + room

    def at(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    rows = [_row(bar, at, mark) for bar in bars]
    axis = (
        f'<div class="row axis"><span></span><span class="ends"><span>{low:.3g}</span>'
        f"<span>{escape(unit)}</span><span>{high:.3g}</span></span><span></span></div>"
    )
    return f'<div class="plot">{"".join(rows)}{axis}</div>'


def _row(bar: Bar, at: Callable[[float], str], mark: float | None) -> str:
    drawn = []
    if mark is not None:
        drawn.append(f'<line class="mark" x1="{at(mark)}" x2="{at(mark)}" y1="0" y2="100%"/>')
    if bar.lower is not None and bar.upper is not None:
        drawn.append(f'<line x1="{at(bar.lower)}" x2="{at(bar.upper)}" y1="50%" y2="50%"/>')
    if bar.value is not None:
        drawn.append(f'<circle cx="{at(bar.value)}" cy="50%" r="5"/>')
    said = escape(bar.text or interval(bar.value, bar.lower, bar.upper))
    return (
        f'<div class="row {bar.kind}"><span class="name">{escape(bar.name)}</span>'
        f'<svg role="img" aria-label="{escape(bar.name)}: {said}">{"".join(drawn)}</svg>'
        f'<span class="value">{said}</span></div>'
    )


def interval(value: float | None, lower: float | None, upper: float | None) -> str:
    """
    >>> interval(0.1234, 0.1, None), interval(None, None, None)
    ('0.1234 (0.1000 to …)', '–')
    """
    if value is None:
        return "–"
    if lower is None and upper is None:
        return f"{value:.4f}"
    low, high = ("…" if it is None else f"{it:.4f}" for it in (lower, upper))
    return f"{value:.4f} ({low} to {high})"


def table(columns: Sequence[str], rows: Iterable[tuple[Kind, Sequence[object]]]) -> str:
    """A table that scrolls sideways within itself; None is a dash, a float has four places."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        f'<tr class="{kind}">{"".join(f"<td>{escape(cell(it))}</td>" for it in row)}</tr>'
        for kind, row in rows
    )
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def cell(value: object) -> str:
    """
    >>> cell(0.5), cell(12_000), cell(None), cell("24h")
    ('0.5000', '12,000', '–', '24h')
    """
    if value is None:
        return "–"
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
