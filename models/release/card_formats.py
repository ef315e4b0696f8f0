"""A model card as text: Markdown and HTML, each a file of its own beside the release's others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Final

from models.release.card import Grid, sections
from models.release.verdicts import Range
from schemas.releases import CARD, CARD_PAGE, Manifest

WIDTH: Final = 240
"""Pixels of a drawn interval, of the ratios `FIRST` to `LAST`."""
FIRST, LAST = 0.7, 1.3
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#1b1f24}"
    "table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .8em;text-align:left;"
    "border-bottom:1px solid #d8dee4}.number{text-align:right;font-variant-numeric:tabular-nums}"
    "svg{vertical-align:middle}code{background:#f0f2f4;padding:0 .2em}"
    "@media (prefers-color-scheme:dark){body{background:#14171a;color:#e6e9ec}code{background:#2a2f35}"
    "td,th{border-color:#3a4047}}"
)


def files(manifest: Manifest) -> dict[str, bytes]:
    """The card's files by name."""
    return {CARD: markdown(manifest).encode(), CARD_PAGE: html(manifest).encode()}


def markdown(manifest: Manifest) -> str:
    """The card in Markdown, with tables as GitHub reads them."""
    lines = [f"# Release {manifest.id}", ""]
    for section in sections(manifest):
        lines += [f"## {_plain(section.title)}", ""]
        for sentence in section.sentences:
            lines += [_plain(sentence), ""]
        for grid in section.grids:
            lines += [*_markdown_grid(grid), ""] if grid.rows else []
    return "\n".join(lines).rstrip() + "\n"


def _markdown_grid(grid: Grid) -> Iterator[str]:
    """The lines of a table, whose cells are filled up so that a terminal shows columns."""
    right = [name.startswith("#") for name in grid.columns]
    cells = [[_plain(cell).replace("|", "\\|") for cell in row] for row in grid.rows]
    table = [[name.lstrip("#") for name in grid.columns], *cells]
    widths = [max(3, *map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        ]
        for row in table
    ]
    rule = [
        "-" * (width - number) + ":" * number for width, number in zip(widths, right, strict=True)
    ]
    for line in (lines[0], rule, *lines[1:]):
        yield f"| {' | '.join(line)} |"


def _plain(text: str) -> str:
    """`text` on one line, without tags: names of categories are anybody's."""
    return re.sub(r"\s+", " ", text).replace("<", "&lt;")


def html(manifest: Manifest) -> str:
    """The card as one page that loads nothing; ratios are drawn with their intervals, beside a line at 1."""
    body = [f"<h1>Release {escape(manifest.id)}</h1>"]
    for section in sections(manifest):
        body.append(f"<h2>{escape(section.title)}</h2>")
        body += [f"<p>{_code(escape(sentence))}</p>" for sentence in section.sentences]
        body += [_html_grid(grid) for grid in section.grids if grid.rows]
    title = f"<title>Release {escape(manifest.id)}</title>"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">{title}'
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        f"<head>{head}<style>{_STYLE}</style></head>",
        "<body>",
        *body,
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def _html_grid(grid: Grid) -> str:
    kinds = [' class="number"' if name.startswith("#") else "" for name in grid.columns]
    heads = "".join(
        f"<th{kind}>{escape(name.lstrip('#'))}</th>"
        for name, kind in zip(grid.columns, kinds, strict=True)
    )
    rows = []
    for at, row in enumerate(grid.rows):
        cells = "".join(
            f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)
        )
        drawn = f"<td>{_drawing(grid.ratios[at])}</td>" if grid.ratios else ""
        rows.append(f"<tr>{cells}{drawn}</tr>")
    return f"<table><tr>{heads}</tr>\n{chr(10).join(rows)}\n</table>"


def _drawing(ratio: Range) -> str:
    """An interval as SVG, cut at the ends of the scale; "" without one."""
    if ratio.value is None:
        return ""
    lower = ratio.value if ratio.lower is None else ratio.lower
    upper = LAST if ratio.upper is None and ratio.lower is not None else ratio.upper or ratio.value
    one, first, last, at = map(_place, (1.0, lower, upper, ratio.value))
    return (
        f'<svg width="{WIDTH}" height="14" role="img" aria-label="{ratio.text(3)}">'
        f'<line x1="{one}" x2="{one}" y1="0" y2="14" stroke="#8b949e" stroke-dasharray="2"/>'
        f'<line x1="{first}" x2="{last}" y1="7" y2="7" stroke="#2f6feb" stroke-width="3"/>'
        f'<circle cx="{at}" cy="7" r="4" fill="#2f6feb"/></svg>'
    )


def _place(ratio: float) -> float:
    within = min(max(ratio, FIRST), LAST)
    return round((within - FIRST) / (LAST - FIRST) * WIDTH, 1)


def _code(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
