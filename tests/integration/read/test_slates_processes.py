"""Slates across the deaths of serving processes and of the broker."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from infra.kafka.produce.connect import DELIVERY_TIMEOUT_MS
from infra.local import services
from infra.settings import Settings
from infra.store import redis_client
from tests.support.arrived import arrived, spools
from tests.support.http import metric, serving
from tests.support.outage import Broker
from tests.support.shops import Shop, fill


@contextmanager
def shop_of(settings: Settings, log: Path) -> Iterator[Shop]:
    with redis_client.connect(settings) as client:
        client.flushall()
        with serving(settings, log) as server:
            found = Shop(server, client)
            fill(found)
            yield found


def test_answered_slates_survive_a_kill(
    broker_of_my_own: Broker, own: Settings, tmp_path: Path
) -> None:
    """The broker takes nothing until the worker is dead; the next worker sends its spool."""
    with shop_of(own, tmp_path / "one") as shop:
        broker_of_my_own.process.send_signal(signal.SIGSTOP)
        slates = [shop.read(f"user_id=u{n % 3}&count=5") for n in range(20)]
        shop.server.process.kill()
        shop.server.process.wait()
        dead = spools(own)
        assert len(dead) == 1
        broker_of_my_own.process.send_signal(signal.SIGCONT)
        with serving(own, tmp_path / "two") as next_one, arrived(own) as found:
            found.until([it["slate_id"] for it in slates])
            services.wait_until(lambda: not dead[0].exists(), 10, "the spool is not removed")
            assert metric(next_one, "freshet_spool_taken_over_total") == 1
            assert metric(next_one, "freshet_slates_lost_total") == 0
    items = {it.slate_id: it.items for it in found.served}
    for it in slates:
        assert items[it["slate_id"]] == tuple(item["item_id"] for item in it["items"])
    assert found.in_order()


def test_siblings_leave_each_other_s_spools_alone(settings: Settings, tmp_path: Path) -> None:
    shared = msgspec.structs.replace(settings, port=0)
    with serving(shared, tmp_path / "one") as one, serving(shared, tmp_path / "two") as two:
        assert len(spools(shared)) == 2
        one.stop()
        assert len(spools(shared)) == 1
        two.stop()
    assert spools(shared) == []


@pytest.mark.check
def test_while_the_broker_is_away_reads_are_answered_and_nothing_is_lost(
    broker_of_my_own: Broker, own: Settings, tmp_path: Path
) -> None:
    with shop_of(own, tmp_path / "log") as shop:
        slate_ids = [shop.read("user_id=u1&count=5")["slate_id"]]
        broker_of_my_own.kill()
        # so that some connections were given up once
        until = time.monotonic() + 1.5 * DELIVERY_TIMEOUT_MS / 1000
        while time.monotonic() < until:
            slate_ids += [shop.read(f"user_id=u{n}&count=5")["slate_id"] for n in range(5)]
        waiting = len(slate_ids)
        broker_of_my_own.start()
        slate_ids += [shop.read(f"user_id=u{n}&count=5")["slate_id"] for n in range(5)]
        with arrived(own) as found:
            found.until(slate_ids)
        services.wait_until(
            lambda: metric(shop.server, "freshet_slates_total") >= waiting,
            10,
            "they are not counted",
        )
        assert metric(shop.server, "freshet_slates_lost_total") == 0
        assert found.in_order()
