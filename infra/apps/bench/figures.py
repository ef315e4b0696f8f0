"""The figures of the bench: floor, aim, and a line of the table."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final, NamedTuple

KIB: Final = 1024
MIN_REBUILD_SPEEDUP: Final = 2.0
"""A rebuild must be so many times as fast as the measured live replay."""


class Figure(NamedTuple):
    """A figure with a floor that must be passed, and an aim. `lower_is_better`: both are upper limits."""

    name: str
    floor: float
    aim: float
    lower_is_better: bool
    unit: str


REPLAY: Final = Figure("replay through people", 30_000, 80_000, False, "events/s")
LAKE: Final = Figure("what the lake's writing costs a replay", 10, 5, True, "%")
REBUILD: Final = Figure(
    "rebuild from the lake", MIN_REBUILD_SPEEDUP * REPLAY.floor, 150_000, False, "events/s"
)
VERIFY: Final = Figure(
    "verify of a live system, sample and sums", 20_000, 50_000, False, "events/s"
)
POST_RATIO: Final = Figure(
    "edge CPU of a single POST, of a bare FastAPI route's", 120, 70, True, "%"
)
SINGLE_POSTS: Final = Figure(
    "single POSTs of one worker, best rate with p99 < 100 ms", 2_000, 3_000, False, "requests/s"
)
FRESHNESS: Final = {
    "1000": Figure("freshness p99 at 1,000 events/s", 250, 100, True, "ms"),
    "5000": Figure("freshness p99 at 5,000 events/s", 300, 150, True, "ms"),
}
"""By the name of the load."""
ATTACK_P99: Final = Figure("p99 beside an attack on the door, of that alone", 150, 150, True, "%")
ATTACK_MEMORY: Final = Figure("memory that an attack on the door takes", 20, 20, True, "MB")
STRANGERS: Final = {
    100_000: Figure("Redis after 100,000 reads of unknown ids", 25, 20, True, "MB"),
    1_000_000: Figure("Redis after 1,000,000 reads of unknown ids", 25, 20, True, "MB"),
}
"""By the number of reads: how much its memory has grown."""
READS_P95: Final = Figure("reads p95 at 300/s, everything on", 20, 5, True, "ms")

FIGURES: Final = (
    REPLAY,
    LAKE,
    REBUILD,
    VERIFY,
    POST_RATIO,
    SINGLE_POSTS,
    ATTACK_P99,
    ATTACK_MEMORY,
    *FRESHNESS.values(),
    *STRANGERS.values(),
    READS_P95,
    Figure("reads p95 at 300/s, everything on, beside busy loops", 40, 15, True, "ms"),
    Figure("longest wait of a read beside pages of 20 x 25, explained whole", 100, 50, True, "ms"),
    Figure("best rate of reads with p95 < 50 ms, of a bare route's", 15, 25, False, "%"),
    Figure("Redis per person, median", 2 * KIB, 1.2 * KIB, True, "B"),
    Figure("failed or mixed answers while releases swap", 0, 0, True, ""),
    Figure("import, of a bare consumer's rate", 20, 40, False, "%"),
    Figure("import of the same file again, of a bare consumer's rate", 60, 100, False, "%"),
    Figure("memory of an import in the layout of MovieLens 25M", 300, 150, True, "MB"),
)


class Row(NamedTuple):
    """A line of the table: median over the repeats, and `noise`, their least and their most."""

    name: str
    floor: str
    aim: str
    measured: str
    noise: str
    ok: str


def row(figure: Figure, of: Sequence[float], value: float | None = None) -> Row:
    """The line of `figure`. `value`: the figure, by default the median `of` the repeats."""
    noise = f"{number(min(of))} to {number(max(of))}" if len(of) > 1 else ""
    sign = "≤" if figure.lower_is_better else "≥"
    measured = median(of) if value is None else value
    return Row(
        f"{figure.name}, {figure.unit}" if figure.unit not in figure.name else figure.name,
        f"{sign} {number(figure.floor)}",
        f"{sign} {number(figure.aim)}",
        number(measured),
        noise,
        grade(figure, measured),
    )


def grade(figure: Figure, value: float) -> str:
    """``aim``, ``floor`` or ``below``: the mark that a figure reaches. The aim requires the floor."""

    def reached(limit: float) -> bool:
        return value <= limit if figure.lower_is_better else value >= limit

    if not reached(figure.floor):
        return "below"
    return "aim" if reached(figure.aim) else "floor"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
