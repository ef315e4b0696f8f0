"""The demo's report: figures of one run, as `report.json` and as a table."""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.table import Table

from infra.apps.demo.arms import Arms
from infra.apps.demo.figures import Experiment, Population
from infra.apps.demo.live import ReplayOutcome, Scored
from infra.apps.demo.numbers import mean, percentiles
from infra.apps.demo.schedule import Schedule
from infra.apps.demo.train import Trained
from infra.apps.replay.recipe import REPEAT, SLATE_SIZE
from infra.datasets.movielens import Dataset
from infra.terminal.text import table

PACKAGES: Final = ("bytewax", "fastapi", "kafka-python", "numpy", "redis", "usearch")
SERVED: Final = ("release", "index", "tables", "rules")
ARMS: Final = {
    "fresh": "the running system: every answer knows what the person did just before",
    "untrained": "the same, without the release",
    "late_60s": "the same recommender, people and tables up to a minute late",
    "frozen": "the same recommender, with its state when the replay began",
    "popular": "what it shows an unknown person: what is popular now",
    "random": "any film that the person has not had (expected value)",
}
Slates = Sequence[tuple[str, ...]]


class Report(msgspec.Struct, kw_only=True):
    """`events`: number replayed through the running system; `imported`: number of events before them.

    `in_process_equals_live`: the same as decided by this process, by its kernel and by Python.
    `freshness_ms`: from a POST's first byte to the end of a read that includes it. `read_ms`: of a
    read, without its wait for the event before it.
    """

    events: int
    events_per_s: float
    freshness_ms: dict[str, float]
    read_ms: dict[str, float]
    hit_rate_at_10: dict[str, float]
    ndcg_at_10: dict[str, float]
    in_process_equals_live: bool
    coverage_at_10: float
    max_category_share_top10: float
    fallback_share: float
    errors: int
    versions: dict[str, str]
    data: str = ""
    imported: int = 0
    targets: int = 0
    seconds: dict[str, float] = {}
    in_process_differs: int = 0
    differences: list[dict[str, Any]] = []
    errors_by_kind: dict[str, int] = {}
    unknown_items: int = 0
    repeat: dict[str, str] = {}
    """After how long an item came back in these arms, by kind of action."""
    release: Trained | None = None
    experiment: Experiment | None = None
    ctr: dict[str, float | None] = {}
    """Of each variant, by the API."""
    explored_share: float | None = None
    coverage: float | None = None
    """Share of the catalogue that the simulated people were shown."""
    population: Population | None = None


def report(
    outcome: ReplayOutcome, arms: Arms, schedule: Schedule, catalogue: Dataset, errors: Counter[str]
) -> Report:
    """The report of a replay. `errors`: counts by kind of those outside of the replay."""
    reads = outcome.reads
    targets = [it.step.rating.item_id for it in reads]
    live = [shown(it) for it in reads]
    slates: dict[str, Slates] = {
        "popular": arms.popular,
        "frozen": arms.frozen,
        "late_60s": arms.late_60s,
        "untrained": arms.untrained,
        "fresh": live,
    }
    different = differences(reads, arms.fresh)
    by_numpy = differences(reads, arms.by_numpy)
    counted = outcome.errors + errors
    return Report(
        events=outcome.events,
        events_per_s=round(outcome.events_per_s, 1),
        freshness_ms=percentiles(outcome.freshness_ms, 50, 99),
        read_ms=percentiles([it.ms - it.slate.waited_ms for it in reads], 50, 95, 99),
        hit_rate_at_10={
            "random": mean([min(SLATE_SIZE, n) / n if n else 0.0 for n in arms.eligible]),
            **{name: hit_rate(targets, it) for name, it in slates.items()},
        },
        ndcg_at_10={
            "random": mean([_blind_gain(n) for n in arms.eligible]),
            **{name: ndcg(targets, it) for name, it in slates.items()},
        },
        in_process_equals_live=bool(reads) and not different and not by_numpy,
        coverage_at_10=round(len({i for it in live for i in it}) / len(catalogue.items), 4),
        max_category_share_top10=max_category_share(reads),
        fallback_share=mean([it.slate.fallback is not None for it in reads]),
        errors=counted.total(),
        versions=versions(reads),
        data=catalogue.source,
        imported=len(schedule.history),
        targets=len(reads),
        in_process_differs=max(len(different), len(by_numpy)),
        differences=[*different, *by_numpy][:5],
        errors_by_kind=dict(counted),
        repeat=dict(REPEAT),
    )


def shown(read: Scored) -> tuple[str, ...]:
    return tuple(item.item_id for item in read.slate.items)


def differences(reads: Sequence[Scored], fresh: Slates) -> list[dict[str, Any]]:
    """The reads for which the in-process arm shows other ids, or another order."""
    return [
        {
            "event": read.step.at,
            "position": read.slate.position,
            "tables": read.slate.served_by.tables,
            "live": list(shown(read)),
            "in_process": list(there),
        }
        for read, there in zip(reads, fresh, strict=True)
        if shown(read) != there
    ]


def hit_rate(targets: Sequence[str], slates: Slates) -> float:
    return mean([target in it for target, it in zip(targets, slates, strict=True)])


def ndcg(targets: Sequence[str], slates: Slates) -> float:
    """NDCG with one relevant item each: the mean of 1 / log2(rank + 1), 0 where it is not shown."""
    pairs = zip(targets, slates, strict=True)
    return mean([_gain(it.index(target) + 1) if target in it else 0.0 for target, it in pairs])


def max_category_share(reads: Sequence[Scored]) -> float:
    """The largest share of one primary category in a full slate under an unrelaxed cap."""
    shares = [
        Counter(item.category for item in read.slate.items).most_common(1)[0][1] / SLATE_SIZE
        for read in reads
        if len(read.slate.items) == SLATE_SIZE and not read.slate.rules_relaxed
    ]
    return max(shares, default=0.0)


def versions(reads: Sequence[Scored]) -> dict[str, str]:
    """Versions that served the last read, and versions of Python and packages."""
    found = {name: getattr(reads[-1].slate.served_by, name) for name in SERVED} if reads else {}
    found["python"] = platform.python_version()
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write(path: Path, report: Report) -> None:
    """Replaces `path` atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    fresh.replace(path)


def as_table(report: Report) -> Table:
    """A table of the arms, the one with the freshest state first."""
    rows = [
        (name, f"{report.hit_rate_at_10[name]:.4f}", f"{report.ndcg_at_10[name]:.4f}", words)
        for name, words in ARMS.items()
    ]
    title = f"Was the film they liked next in the top 10 just before? {report.targets:,} targets"
    return table(title, ("arm", "#HR@10", "#NDCG@10", "what it knows"), rows)


def _gain(rank: int) -> float:
    return 1 / math.log2(rank + 1)


def _blind_gain(eligible: int) -> float:
    ranks = range(1, min(SLATE_SIZE, eligible) + 1)
    return sum(map(_gain, ranks)) / eligible if eligible else 0.0
