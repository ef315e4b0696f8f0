"""A worker and a flow whose clock is off say so; such a worker is not ready. The clock is an argument."""

from __future__ import annotations

import asyncio
import logging
import math
import time

import msgspec
import pytest

from flows.kit.clock import ClockWatch
from flows.kit.metrics import FlowMetrics
from infra.local import services
from infra.settings import Settings
from serving import gauges
from serving.context import Serving, wall_clock
from serving.health import health
from serving.routes.status import gather

HOUR_MS = 3_600_000
AHEAD = "the clock of this process is 7,200 s ahead of Redis's: set the clock of this machine"


def test_a_worker_whose_clock_is_off_is_not_ready_and_names_the_remedy(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.run(_a_worker_ahead(settings, caplog))


async def _a_worker_ahead(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    async with Serving.open(settings) as serving:
        check = serving.clock_check
        assert check.ready
        assert abs(check.skew or 0.0) < 1
        serving.clock = lambda: wall_clock() + 2 * HOUR_MS
        with caplog.at_level(logging.WARNING, "freshet.serving"):
            for _ in range(2):
                await check.refresh()
            [fault] = [it for it in health(serving).fails if it.part == "clock"]
            assert (fault.code, health(serving).components["clock"]) == ("clock_off", False)
            assert AHEAD.capitalize() in fault.detail
            assert fault in (await gather(serving)).fails
            gauges.refresh(serving)
            [line] = [
                it
                for it in serving.metrics.render().decode().splitlines()
                if it.startswith("freshet_clock_skew_seconds ")
            ]
            assert float(line.split()[1]) == pytest.approx(7200, abs=5)
            serving.clock = lambda: wall_clock() - 59_000
            await check.refresh()
            assert check.ready
            assert not list(check.faults())
        said = [it for it in caplog.messages if "clock" in it]
        assert len(said) == 2, "a change is logged once"
        assert AHEAD in said[0]


def test_without_redis_no_clock_is_judged(settings: Settings) -> None:
    asyncio.run(_without_redis(settings))


async def _without_redis(settings: Settings) -> None:
    async with Serving.open(settings) as serving:
        away = msgspec.structs.replace(
            settings, redis_url=f"redis://127.0.0.1:{services.free_port()}"
        )
        serving.clock = lambda: wall_clock() + 2 * HOUR_MS
        await serving.clock_check.refresh()
        assert not serving.clock_check.ready
        async with Serving.open(away) as other:
            other.clock = serving.clock
            await other.clock_check.refresh()
            assert other.clock_check.skew is None
            assert other.clock_check.ready
            assert not [it for it in health(other).fails if it.part == "clock"]


def test_a_flow_whose_clock_is_off_warns_once_and_exports_it(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    watch = ClockWatch(settings, lambda: time.time() + 7200)
    with caplog.at_level(logging.WARNING, "flows.kit.clock"):
        for _ in range(3):
            watch.check()
    assert len(caplog.messages) == 1
    assert AHEAD in caplog.messages[0]
    metrics = FlowMetrics(settings, "people")
    metrics._clock = watch
    [line] = [
        it
        for it in metrics.process.render().decode().splitlines()
        if it.startswith("freshet_flow_clock_skew_seconds{")
    ]
    assert float(line.split()[1]) == pytest.approx(7200, abs=5)


def test_a_flow_without_redis_judges_no_clock(settings: Settings) -> None:
    away = msgspec.structs.replace(settings, redis_url=f"redis://127.0.0.1:{services.free_port()}")
    watch = ClockWatch(away, lambda: math.inf)
    watch.check()
    assert watch.skew is None


@pytest.mark.on_cluster
def test_every_kind_of_redis_says_its_time(redis_url: str) -> None:
    watch = ClockWatch(Settings(redis_url=redis_url))
    watch.check()
    assert watch.skew is not None
    assert abs(watch.skew) < 5
