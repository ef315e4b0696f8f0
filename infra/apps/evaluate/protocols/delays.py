"""State that is late: what a recommender knew whose people and tables are refreshed less often."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

import numpy as np

from infra.apps.evaluate.protocols.plan import CannotEvaluate, EvaluationPlan, with_history
from models.arrays import I64
from schemas.times import DAY_MS, HOUR_MS

Unit = Literal["time", "event", "basket"]
_TIMES: Final = {"s": 1_000, "m": 60_000, "min": 60_000, "h": HOUR_MS, "d": DAY_MS}
_COUNTS: Final[dict[str, Unit]] = {
    "event": "event",
    "events": "event",
    "basket": "basket",
    "baskets": "basket",
}
_DELAY: Final = re.compile(r"([1-9][0-9]{0,8})([a-z]+)")


class Delay(NamedTuple):
    """`size`: ms of `time`, else a number of a person's events, or of baskets, that are not known yet."""

    text: str
    unit: Unit
    size: int


class Cutoffs(NamedTuple):
    """What is known at each of G choices. `place` (G,): of the person the acts before this place of
    `EvaluationPlan.acts`; `now` (G,) ms: the tables hold what happened before it."""

    place: I64
    now: I64


def parse(text: str) -> Delay:
    """
    >>> parse("60s"), parse("1basket")
    (Delay(text='60s', unit='time', size=60000), Delay(text='1basket', unit='basket', size=1))

    Errors: `CannotEvaluate`.
    """
    match = _DELAY.fullmatch(text)
    if match and match[2] in _TIMES:
        return Delay(text, "time", int(match[1]) * _TIMES[match[2]])
    if match and match[2] in _COUNTS:
        return Delay(text, _COUNTS[match[2]], int(match[1]))
    raise CannotEvaluate(
        "--delay takes how late state is",
        remedy="write a time (60s, 5m, 1h, 1d), 1event or 1basket",
    )


def check(delay: Delay, plan: EvaluationPlan) -> None:
    """Errors: `CannotEvaluate` where the delay says nothing about such data."""
    if plan.protocol == "judged":
        raise CannotEvaluate(
            "--delay fits no judged lists, which are made before anything of them is known",
            remedy="leave it out, or take --protocol prequential",
        )
    if delay.unit == "basket" and not (plan.acts.basket >= 0).any():
        raise CannotEvaluate(
            f"--delay {delay.text} takes baskets, and this set has none",
            remedy="write 1event or a time such as 60s",
        )
    if delay.unit == "time" and plan.protocol == "leave-one-out":
        raise CannotEvaluate(
            f"--delay {delay.text} fits no leave-one-out, whose choices come a week after all else",
            remedy="write 1event, or take --protocol prequential",
        )


def fresh(plan: EvaluationPlan) -> Cutoffs:
    """Everything before each choice is known."""
    return Cutoffs(plan.targets, plan.now)


def late(plan: EvaluationPlan, delay: Delay) -> Cutoffs:
    """What is known where state is late by `delay`.

    A time P: people and tables are refreshed at multiples of P. n events: a person's last n acts are not
    known, and the tables end before the first of those. n baskets: likewise, of the basket at hand and the
    n - 1 before it. The tables of leave-one-out hold everything but the choices in any case.
    """
    if delay.unit == "time":
        return _before(plan, plan.now // delay.size * delay.size)
    places = np.empty(len(plan.targets), np.int64)
    for n, (target, own) in enumerate(with_history(plan)):
        known = (
            len(own) - delay.size
            if delay.unit == "event"
            else len(own) - _in_baskets(plan.acts.basket, own, target, delay.size)
        )
        places[n] = [*own.tolist(), target][max(known, 0)]
    if plan.protocol == "leave-one-out":
        return Cutoffs(places, plan.now)
    return Cutoffs(places, np.minimum(plan.acts.time[places], plan.now))


def frozen(plan: EvaluationPlan) -> Cutoffs:
    """Nothing after the split is known."""
    return _before(plan, np.full(len(plan.targets), plan.split))


def _before(plan: EvaluationPlan, now: I64) -> Cutoffs:
    """What is known of acts before `now` (G,)."""
    places = np.empty(len(now), np.int64)
    moments = now.tolist()
    for n, (target, own) in enumerate(with_history(plan)):
        known = int(np.searchsorted(plan.acts.time[own], moments[n]))
        places[n] = own[known] if known < len(own) else target
    return Cutoffs(places, now)


def _in_baskets(basket: I64, own: I64, target: int, size: int) -> int:
    """How many of a person's acts `own`, which come before the target, are in their last `size` baskets, that
    of the target among them."""
    changes = np.flatnonzero(np.diff(basket[np.append(own, target)][::-1]) != 0)
    return int(changes[size - 1]) if len(changes) >= size else len(own)
