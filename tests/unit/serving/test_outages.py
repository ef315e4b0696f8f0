"""Outages are logged as they begin and end, and a broker that refuses again and again fills no disk."""

from __future__ import annotations

import pytest

from serving.log.outages import REPEAT_SECONDS, Outages


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def outages(now: list[float]) -> Outages:
    return Outages(lambda: now[0])


def test_outages_that_follow_one_another_at_once_are_logged_once_a_minute(
    outages: Outages, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(int(2 * REPEAT_SECONDS) + 1):
        outages.begin("refused")
        now[0] += 0.25
        outages.end()
        now[0] += 0.25
    assert caplog.messages == [
        "refused: writes wait in the spool",
        "the broker is back after 0.2 s",
        f"refused: writes wait in the spool ({2 * REPEAT_SECONDS - 1:.0f} more times since)",
        "the broker is back after 0.2 s",
    ]


def test_each_cause_and_each_outage_after_some_life_are_logged(
    outages: Outages, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for why, lived in (("refused", 0.1), ("moved", 0.1), ("refused", 1.0), ("refused", 9.0)):
        outages.begin(why)
        outages.end()
        now[0] += lived
    begun = [it.partition(":")[0] for it in caplog.messages if "spool" in it]
    assert begun == ["refused", "moved", "refused"]
