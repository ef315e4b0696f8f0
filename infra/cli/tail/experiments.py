"""`freshet tail experiments`: the readouts of experiments, a block a revision, or one live panel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import click

from infra.terminal.text import console, printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from schemas.readouts import MetricOut, Readout, VariantOut

LAST_READOUTS: Final = 200
"""Readouts that a terminal begins with: a running experiment has one at least every 30 s."""
INTERVAL: Final = "#"
"""The column of the interval of the column before it."""
LIFT: Final = "#lift of CTR"
COLUMNS: Final = (
    "variant", "#people", "#served", "#clicks",
    "#CTR", INTERVAL, LIFT, INTERVAL, "#conversion", INTERVAL,
)  # fmt: skip
CAPTION: Final = "95 % intervals, valid for one look at the planned end, not for one a day"


def parsed(value: Any) -> Readout | None:
    """A record's value as a readout; None where it is none."""
    import msgspec

    from schemas.readouts import Readout

    try:
        return msgspec.convert(value, Readout)
    except msgspec.ValidationError:
        return None


def heading(readout: Readout, now: int) -> str:
    """
    >>> from schemas.readouts import Readout
    >>> heading(Readout(experiment_id="e", version=3, placement="home", revision=812, positions=(),
    ...                 as_of=1000, variants=(), comparisons=()), 3500)
    'e version 3 at home, revision 812, as of 2.5 s ago'
    """
    return (
        f"{printable(readout.experiment_id)} version {readout.version} at {printable(readout.placement)},"
        f" revision {readout.revision}, as of {_ago(now - readout.as_of)}"
    )


def rows(readout: Readout) -> list[tuple[str, ...]]:
    """A row of `COLUMNS` for each variant."""
    lifts = {it.treatment: it for it in readout.comparisons if it.metric == "ctr"}
    return [_row(it, lifts.get(it.variant)) for it in readout.variants]


def block(readout: Readout, now: int) -> str:
    """One readout as plain lines, columns aligned."""
    names = [name.lstrip("#") for name in COLUMNS]
    cells = [names, *(list(map(printable, row)) for row in rows(readout))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if name.startswith("#") else cell.ljust(width)
            for name, cell, width in zip(COLUMNS, line, widths, strict=True)
        ).rstrip()
        for line in cells
    ]
    return "\n".join([heading(readout, now), *(f"  {line}" for line in lines)])


def panel(readout: Iterable[Readout], now: int) -> RenderableType:
    """Every experiment, for a terminal: intervals are below their values, 80 columns are enough."""
    from rich.console import Group
    from rich.text import Text

    panels: list[RenderableType] = [_stacked(it, now) for it in readout]
    return Group(
        *panels, Text(CAPTION if panels else "no experiment has a readout yet", style="dim")
    )


def _stacked(readout: Readout, now: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=heading(readout, now),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in COLUMNS:
        if name != INTERVAL:
            made.add_column(name.lstrip("#"), justify="right" if name.startswith("#") else "left")
    sure = {it.treatment: _sure(it.ci) for it in readout.comparisons if it.metric == "ctr"}
    for variant, row in zip(readout.variants, rows(readout), strict=True):
        cells: list[Text] = []
        for name, cell in zip(COLUMNS, row, strict=True):
            if name == INTERVAL:
                cells[-1].append(f"\n{cell}", style="dim")
            else:
                style = sure.get(variant.variant, "") if name == LIFT else ""
                cells.append(Text(printable(cell), style=style))
        made.add_row(*cells)
    return made


def _sure(ci: tuple[float, float] | None) -> str:
    """A style: green where all of the interval is better, red where all of it is worse."""
    if ci is None or ci[0] <= 0 <= ci[1]:
        return ""
    return "bold green" if ci[0] > 0 else "bold red"


def watch(records: Iterable[dict[str, Any]], count: int | None) -> None:
    """Shows a live panel of the last revision of each experiment, until `count` records came."""
    from rich.live import Live

    held: dict[str, Readout] = {}
    with Live(
        get_renderable=lambda: panel([held[name] for name in sorted(held)], _now()),
        console=console(),
        refresh_per_second=4,
    ):
        for n, record in enumerate(records, 1):
            readout = parsed(record["value"])
            if readout is not None:
                held = {**held, readout.experiment_id: readout}
            if n == count:
                return


def print_blocks(
    records: Iterable[dict[str, Any]], count: int | None, clock: Callable[[], int] | None = None
) -> None:
    """Prints a block for each record, until `count` records came."""
    for n, record in enumerate(records, 1):
        readout = parsed(record["value"])
        where = f"{record['partition']}:{record['offset']}"
        click.echo(block(readout, (clock or _now)()) if readout else f"{where}  not a readout")
        if n == count:
            return


def _row(variant: VariantOut, lift: Any) -> tuple[str, ...]:
    ctr, conversion = variant.metrics.get("ctr"), variant.metrics.get("conversion")
    return (
        variant.variant,
        f"{variant.units:,}",
        f"{variant.counts.get('served', 0):,}",
        f"{variant.counts.get('clicked', 0):,}",
        *_rate(ctr),
        *(_lift(lift.lift, lift.ci) if lift else ("", "")),
        *_rate(conversion),
    )


def _rate(metric: MetricOut | None) -> tuple[str, str]:
    if metric is None or metric.value is None:
        return "-", ""
    interval = f"{100 * metric.ci[0]:.2f} to {metric.ci[1]:.2%}" if metric.ci else ""
    return f"{metric.value:.2%}", interval


def _lift(value: float | None, ci: tuple[float, float] | None) -> tuple[str, str]:
    if value is None:
        return "-", ""
    return f"{value:+.1%}", f"{100 * ci[0]:+.1f} to {ci[1]:+.1%}" if ci else ""


def _ago(millis: int) -> str:
    """
    >>> _ago(-3), _ago(2500), _ago(90_000), _ago(10_000_000)
    ('0.0 s ago', '2.5 s ago', '90 s ago', '167 min ago')
    """
    seconds = max(0, millis) / 1000
    if seconds < 10:
        return f"{seconds:.1f} s ago"
    return f"{seconds:.0f} s ago" if seconds < 600 else f"{seconds / 60:.0f} min ago"


def _now() -> int:
    return time.time_ns() // 1_000_000
