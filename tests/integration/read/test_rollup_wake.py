"""An idle roll-up sleeps, and whatever it has to take wakes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flows.kit.metrics import FlowMetrics
from flows.rollup.cycle import IDLE_SECONDS, Cycle
from flows.rollup.marks import Marks
from flows.rollup.tables import Rollup
from flows.rollup.wake import Wake
from infra.settings import Settings
from infra.store import redis_client
from schemas.keys import PLAIN
from tests.support.loop import TWO_PEOPLE, append, put_experiment

HOUR = 3600.0


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis_client.connect(Settings(redis_url=redis_url)) as connected:
        connected.flushall()
        yield connected


def put_item(client: Any) -> None:
    client.xadd(PLAIN.item_changes(2), {"i": "i1", "v": "{}"}, id="7-1")


@pytest.mark.parametrize(
    "change",
    [
        lambda client: append(client, 1, TWO_PEOPLE[0]),
        put_item,
        lambda client: put_experiment(client),
    ],
    ids=["an entry", "an item", "an experiment"],
)
def test_what_there_is_to_take_wakes_it(client: Any, change: Callable[[Any], None]) -> None:
    settings, stop = Settings(), threading.Event()
    rollup, marks = Rollup(client, settings), Marks(settings, client)
    metrics = FlowMetrics(settings, "rollup")
    cycle = Cycle(rollup, None, metrics, settings, marks)
    wake = Wake(client, settings, rollup, marks, metrics)
    cycle.step()  # publishes a first version
    cycle.step()
    assert cycle.idle_seconds == IDLE_SECONDS
    sleeper = threading.Thread(target=wake.wait, args=(stop, HOUR), daemon=True)
    sleeper.start()
    change(client)
    sleeper.join(30)
    assert not sleeper.is_alive()
    cycle.step()
    assert not client.xread(wake._places())  # what is taken wakes it no more


def test_a_stop_ends_its_sleep(client: Any) -> None:
    settings, stop = Settings(), threading.Event()
    rollup, metrics = Rollup(client, settings), FlowMetrics(settings, "rollup")
    wake = Wake(client, settings, rollup, None, metrics)
    sleeper = threading.Thread(target=wake.wait, args=(stop, HOUR), daemon=True)
    sleeper.start()
    stop.set()
    sleeper.join(30)
    assert not sleeper.is_alive()


def test_it_sleeps_no_longer_than_until_its_base_is_due(client: Any) -> None:
    settings = Settings(base_seconds=2.0)
    cycle = Cycle(Rollup(client, settings), None, FlowMetrics(settings, "rollup"), settings)
    append(client, 1, *TWO_PEOPLE)
    cycle.step()
    assert cycle.idle_seconds <= 2.0
    cycle.finish()
    cycle.step()  # its readouts may be due only after a publication
    assert cycle.idle_seconds == IDLE_SECONDS
