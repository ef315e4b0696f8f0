"""The demo's minute of traffic, live: a panel at a terminal, lines elsewhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from infra.apps.demo import experiment
from infra.apps.demo.experiment import CONTROL, TREATMENT
from infra.apps.demo.numbers import percentiles
from infra.apps.demo.seen import Seen
from infra.client.answers import ExperimentMetrics
from infra.client.client import Client
from infra.terminal.text import table
from schemas.readouts import MetricOut

if TYPE_CHECKING:
    from infra.terminal.progress import Reporter

REFRESH_SECONDS: Final = 0.5
LINE_SECONDS: Final = 15.0


async def watch(client: Client, seen: Seen, reporter: Reporter) -> None:
    """Shows the progress at an interval, until it is cancelled."""
    if reporter.console.is_terminal:
        with Live(console=reporter.console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(panel(seen, await experiment.read_metrics(client)), refresh=True)
                await asyncio.sleep(REFRESH_SECONDS)
    while True:
        await asyncio.sleep(LINE_SECONDS)
        reporter(f"  {line(seen, await experiment.read_metrics(client))}")


def panel(seen: Seen, metrics: ExperimentMetrics) -> Group:
    head = Table.grid(padding=(0, 2))
    head.add_row(
        f"{seen.people:,} simulated people",
        ProgressBar(total=seen.seconds, completed=seen.elapsed, width=24),
        f"{seen.elapsed:.0f} of {seen.seconds:.0f} s",
    )
    words = [" · ".join(phrases) for phrases in (rates(seen), reach(seen))]
    return Group(head, *map(Text, words), as_table("", seen, metrics), Text(lift(metrics)))


def line(seen: Seen, metrics: ExperimentMetrics) -> str:
    """The figures of the panel as a sentence."""
    phrases = [f"{seen.elapsed:.0f} s: {', '.join(rates(seen))}"]
    for name in (CONTROL, TREATMENT) if metrics.variants else ():
        ctr, truly = experiment.ctr(experiment.variant(metrics, name)), seen.variants[name].true_ctr
        phrases.append(f"{name} {rate(ctr)} ({interval(ctr)}), truly {truly:.2%}")
    return "; ".join([*phrases, ", ".join(reach(seen))])


def rates(seen: Seen) -> list[str]:
    seconds = seen.elapsed or 1.0
    found = [f"{seen.slates / seconds:,.0f} slates/s", f"{seen.events / seconds:,.0f} events/s"]
    if seen.freshness_ms:
        fresh = percentiles(seen.freshness_ms, 50, 99)
        found.append(
            f"a click is in the next slate after {fresh['p50']:.0f} ms (p99 {fresh['p99']:.0f})"
        )
    return found


def reach(seen: Seen) -> list[str]:
    return [
        f"{seen.coverage:.0%} of the catalogue shown",
        f"{seen.explored_share:.1%} of slots explored",
        f"{seen.errors.total()} errors",
    ]


def as_table(title: str, seen: Seen, metrics: ExperimentMetrics) -> Table:
    """Both variants as the API counts them, beside their true rates."""
    rows = []
    for name in (CONTROL, TREATMENT):
        held, truth = experiment.variant(metrics, name), seen.variants.get(name)
        ctr = experiment.ctr(held)
        counts = [f"{held.counts.get(it, 0):,}" for it in ("served", "clicked", "converted")]
        truly = f"{truth.true_ctr:.2%}" if truth else ""
        rows.append((name, f"{held.units:,}", *counts, rate(ctr), interval(ctr), truly))
    columns = ("variant", "#people", "#served", "#clicked", "#bought", "#CTR", "#95 %", "#truly")
    return table(title, columns, rows)


def rate(metric: MetricOut) -> str:
    return "" if metric.value is None else f"{metric.value:.2%}"


def interval(metric: MetricOut) -> str:
    """
    >>> interval(MetricOut(value=0.05, ci=(0.04, 0.06), numerator=5, denominator=100))
    '4.0 to 6.0%'
    """
    if metric.ci is None:
        return ""
    low, high = metric.ci
    return f"{100 * low:.1f} to {high:.1%}"


def lift(metrics: ExperimentMetrics) -> str:
    """
    >>> lift(experiment.NO_METRICS)
    ''
    """
    found = experiment.lift(metrics)
    if found.value is None:
        return ""
    between = f" (95 %: {found.ci[0]:+.0%} to {found.ci[1]:+.0%})" if found.ci else ""
    return f"{TREATMENT} over {CONTROL}: {found.value:+.0%} clicks a slot{between}"
