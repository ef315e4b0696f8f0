"""The highest rate that a server holds: step up until it fails, halve the gap, then confirm.

The measurement is an argument, so the search knows no server and no clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final, NamedTuple

from schemas.errors import FreshetError

STEP_FACTOR: Final = 1.25
HALVINGS: Final = 2
MIN_REACHED_SHARE: Final = 0.97
"""Share of the requested rate: below it the server queues, whatever its percentiles."""
_MAX_STEPS: Final = 30


class RateStep(NamedTuple):
    """One measurement: requested and reached rate in requests/s, a percentile of latency in ms,
    errors."""

    rate: float
    reached: float
    tail_ms: float
    errors: int


class NeverHeld(FreshetError):
    """Not even the lowest rate was held; the text has its measurement."""


Measure = Callable[[float], RateStep]


def holds(step: RateStep, limit_ms: float) -> bool:
    return (
        not step.errors
        and step.tail_ms < limit_ms
        and step.reached >= MIN_REACHED_SHARE * step.rate
    )


def best(
    measure: Measure, start: float, limit_ms: float, repeats: int = 3, factor: float = STEP_FACTOR
) -> list[RateStep]:
    """`repeats` measurements of the highest rate whose medians stay within `limit_ms`.

    Errors: `NeverHeld`.
    """
    rate = search(measure, start, limit_ms, factor)
    for _ in range(_MAX_STEPS):
        steps = _confirm(measure, rate, limit_ms, repeats)
        if len(steps) == repeats and holds(medians(steps), limit_ms):
            return steps
        rate = math.floor(rate / math.sqrt(factor))  # one lucky step is not a rate that is held
    raise NeverHeld(_lowest(steps[-1]))


def search(measure: Measure, start: float, limit_ms: float, factor: float = STEP_FACTOR) -> float:
    """A rate that held once while one at most `factor` ** (1 / 2 ** `HALVINGS`) higher did not.

    Goes down first where `start` itself is not held. Errors: `NeverHeld`.
    """
    low, step = start, measure(start)
    for _ in range(_MAX_STEPS):
        if holds(step, limit_ms):
            break
        if low < 1:
            raise NeverHeld(_lowest(step))
        low /= factor
        step = measure(low)
    high = low * factor
    for _ in range(_MAX_STEPS):
        if high == start or not holds(measure(high), limit_ms):
            break
        low, high = high, high * factor
    for _ in range(HALVINGS):
        between = math.sqrt(low * high)
        if holds(measure(between), limit_ms):
            low = between
        else:
            high = between
    return math.floor(low) if low >= 1 else low


def _confirm(measure: Measure, rate: float, limit_ms: float, repeats: int) -> list[RateStep]:
    """`repeats` measurements; fewer where most of them have failed."""
    steps: list[RateStep] = []
    failed = 0
    while len(steps) < repeats and 2 * failed <= repeats:
        steps.append(measure(rate))
        failed += not holds(steps[-1], limit_ms)
    return steps


def medians(steps: Sequence[RateStep]) -> RateStep:
    """The median of each column."""
    rate, reached, tail, errors = (median(column) for column in zip(*steps, strict=True))
    return RateStep(rate, reached, tail, math.ceil(errors))


def _lowest(step: RateStep) -> str:
    return (
        f"not even {step.rate:g} requests/s were held: {step.reached:.0f}/s answered,"
        f" tail latency {step.tail_ms:.0f} ms, {step.errors} errors"
    )
