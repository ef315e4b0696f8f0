"""The schedule is a function of the data and a seed, and loses nothing."""

from __future__ import annotations

import asyncio
import time

from infra.apps.demo.live import MAX_BURST, Pacer
from infra.apps.demo.schedule import schedule
from infra.apps.demo.words import pace
from tests.support.demo_data import catalogue

RATINGS = catalogue(people=10, each=20).ratings


def test_the_first_four_fifths_are_history_and_all_the_rest_is_replayed_in_order() -> None:
    planned = schedule(RATINGS)
    assert len(planned.history) == 160
    assert (*planned.history, *(step.rating for step in planned.steps)) == RATINGS
    assert [step.at for step in planned.steps] == list(range(40))


def test_targets_are_a_fixed_sample_of_what_was_liked() -> None:
    planned = schedule(RATINGS, sample=5, probes=3)
    assert planned == schedule(RATINGS, sample=5, probes=3)
    assert len(planned.scored) == 5
    assert all(step.rating.rating >= 4 for step in planned.scored)
    assert sum(step.probed for step in planned.steps) == 3
    assert schedule(RATINGS, sample=5, seed=1).scored != planned.scored


def test_where_there_are_fewer_all_are_targets() -> None:
    planned = schedule(RATINGS, sample=10_000)
    assert len(planned.scored) == sum(step.rating.rating >= 4 for step in planned.steps)


def test_a_limit_takes_the_latest() -> None:
    planned = schedule(RATINGS, limit=50)
    assert planned.history == RATINGS[-50:-10]
    assert planned.steps[-1].rating == RATINGS[-1]


def test_people_rate_at_the_pace_of_the_data() -> None:
    # they start 90 s apart and rate for 380 s: the four last ones are still at it, none is new
    assert pace(schedule(RATINGS)) == (20.0, 1.0, 0, 4)


def test_the_pacer_holds_its_rate() -> None:
    async def hundred() -> float:
        pace, began = Pacer(1_000), time.monotonic()
        for _ in range(100):
            await pace.wait()
        return time.monotonic() - began

    assert asyncio.run(hundred()) >= (100 - MAX_BURST - 1) / 1_000
