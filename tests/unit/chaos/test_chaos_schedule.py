"""Which faults a chaos run goes through is a pure function of its seed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.schedule import (
    KINDS,
    LEAD_SECONDS,
    SHARE,
    SHORT_SLOT_SECONDS,
    SLOT_SECONDS,
    schedule,
)

SEEDS = st.integers(0, 10**9)


@given(SEEDS)
def test_three_seeds_in_a_row_cover_every_kind_in_45_s(seed: int) -> None:
    first = seed - seed % SHARE
    runs = [schedule(first + n) for n in range(SHARE)]
    assert {fault.kind for run in runs for fault in run} == set(KINDS)
    assert all(run[-1].at + run[-1].kind.lasts <= 45 for run in runs)


@given(SEEDS)
def test_with_short_slots_one_run_of_45_s_covers_every_kind(seed: int) -> None:
    run = schedule(seed, slot=SHORT_SLOT_SECONDS)
    assert {fault.kind for fault in run} == set(KINDS)
    assert run[-1].at + SHORT_SLOT_SECONDS <= 45


@given(SEEDS, st.floats(1, 600))
def test_a_schedule_is_deterministic_in_order_and_within_the_time(
    seed: int, seconds: float
) -> None:
    faults = schedule(seed, seconds)
    assert faults == schedule(seed, seconds)
    assert [fault.at for fault in faults] == [
        LEAD_SECONDS + n * SLOT_SECONDS for n in range(len(faults))
    ]
    assert len(faults) == 1 or faults[-1].at < seconds


def test_other_seeds_give_another_order() -> None:
    assert [fault.kind for fault in schedule(0)] != [fault.kind for fault in schedule(3)]


def test_every_kind_has_a_name_of_its_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def test_each_way_of_failing_that_is_promised_is_there() -> None:
    names = {kind.name for kind in KINDS}
    for process in ("people", "serving-0", "broker", "relay", "rollup", "redis", "lake"):
        assert f"kill {process}" in names
    ways = {kind.how for kind in KINDS}
    assert ways == {"kill", "forget", "stop", "slow", "cut", "zombie", "between"}
    assert sum(kind.how == "kill" and len(kind.targets) > 1 for kind in KINDS) >= 2
