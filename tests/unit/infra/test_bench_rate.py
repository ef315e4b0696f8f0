"""The search for the best rate, against servers that are formulas."""

from __future__ import annotations

import pytest

from infra.apps.bench.rate import (
    HALVINGS,
    STEP_FACTOR,
    NeverHeld,
    RateStep,
    best,
    holds,
    medians,
    search,
)

LIMIT = 50.0


class Server:
    """Holds any rate up to `capacity`, with a p95 of 5 ms; `flaws` are the numbers of the
    measurements that fail whatever they ask."""

    def __init__(self, capacity: float, flaws: tuple[int, ...] = ()) -> None:
        self.capacity, self.flaws = capacity, flaws
        self.asked: list[float] = []

    def __call__(self, rate: float) -> RateStep:
        self.asked.append(rate)
        held = rate <= self.capacity and len(self.asked) not in self.flaws
        return RateStep(rate, min(rate, self.capacity), 5.0 if held else 400.0, 0)


@pytest.mark.parametrize("capacity", [401.0, 555.0, 812.0, 2_345.6, 14_000.0])
def test_the_rate_found_is_held_and_a_step_more_is_not(capacity: float) -> None:
    server = Server(capacity)
    found = search(server, 400, LIMIT)
    assert found <= capacity < (found + 1) * STEP_FACTOR ** (1 / 2**HALVINGS)
    assert server.asked[0] == 400


@pytest.mark.parametrize("capacity", [3.0, 120.0, 399.0])
def test_the_search_goes_down_first_where_the_start_is_too_high(capacity: float) -> None:
    server = Server(capacity)
    found = search(server, 400, LIMIT)
    assert found <= capacity < (found + 1) * STEP_FACTOR ** (1 / 2**HALVINGS)
    assert server.asked.count(400) == 1, "what failed is not asked again"


def test_the_best_rate_is_measured_as_often_as_it_says() -> None:
    server = Server(1_000)
    steps = best(server, 400, LIMIT, repeats=5)
    assert len(steps) == 5
    assert {step.rate for step in steps} == {server.asked[-1]}
    assert medians(steps).reached == steps[0].rate <= 1_000


def test_one_failure_of_three_is_noise_and_two_are_not() -> None:
    searched = len(Server(1_000).asked) + len(_asked(1_000))
    once = best(Server(1_000, flaws=(searched + 1,)), 400, LIMIT, repeats=3)
    twice = best(Server(1_000, flaws=(searched + 1, searched + 2)), 400, LIMIT, repeats=3)
    assert [step.tail_ms for step in once] == [400.0, 5.0, 5.0]
    assert twice[0].rate < once[0].rate
    assert all(holds(step, LIMIT) for step in twice)


def _asked(capacity: float) -> list[float]:
    server = Server(capacity)
    search(server, 400, LIMIT)
    return server.asked


@pytest.mark.parametrize(
    ("step", "held"),
    [
        (RateStep(100, 100, 49.9, 0), True),
        (RateStep(100, 98, 49.9, 0), True),
        (RateStep(100, 100, 50.0, 0), False),
        (RateStep(100, 96, 10.0, 0), False),
        (RateStep(100, 100, 10.0, 1), False),
        (RateStep(100, 0, float("inf"), 0), False),
    ],
)
def test_a_rate_is_held_in_time_complete_and_without_errors(step: RateStep, held: bool) -> None:
    assert holds(step, LIMIT) is held


def test_a_server_that_fails_at_any_rate_stops_the_search() -> None:
    def broken(rate: float) -> RateStep:
        return RateStep(rate, 0, float("inf"), 7)

    with pytest.raises(NeverHeld, match="7 errors"):
        search(broken, 400, LIMIT)


def test_a_server_without_a_limit_does_not_keep_it_for_ever() -> None:
    server = Server(float("inf"))
    assert search(server, 400, LIMIT) > 10_000
    assert len(server.asked) < 50


def test_middle_is_the_median_of_each_column() -> None:
    steps = [RateStep(10, 9, 3, 0), RateStep(10, 10, 1, 1), RateStep(10, 8, 2, 0)]
    assert medians(steps) == RateStep(10, 9, 2, 0)
