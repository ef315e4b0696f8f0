"""A whole system with a namespace, on a Redis that others use: every command finds its own keys only."""

from __future__ import annotations

import json
import random
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.client.history import ITEMS, Line, send
from infra.local.services import wait_until
from infra.local.system import System, running
from infra.store import redis_client
from schemas.keys import Keyspace
from tests.flows.faults import behind_published, produce, traffic
from tests.system.test_cli import freshet, read_json

pytestmark = [pytest.mark.on_cluster(whole=True), pytest.mark.check, pytest.mark.timeout(180)]

SHOP = Keyspace("shop")
OTHERS = (Keyspace(), Keyspace("", 1), Keyspace("books"), Keyspace("books", 1))
ALIEN = Line("alien", b'{"item_id": "alien", "title": "Alien", "category": "horror"}')
WHO = "ab" * 16


@pytest.fixture(scope="module")
def shop(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    yours = {"REDIS_URL": redis_url, "FRESHET_NAMESPACE": SHOP.namespace, "FRESHET_AUTH": "off"}
    with running(tmp_path_factory.mktemp("shop"), environment=yours) as up:
        yield up


def planted(client: Any) -> None:
    """Keys of other programs that would break a system that took them for its own."""
    for it in OTHERS:
        for key in (it.row(1, WHO), it.vector(1, WHO), it.fence("people", 0), it.tables().meta):
            client.set(key, b"\xc1")
        for key in (it.fence("control", 0), it.torn("people", 2), it.rebuilding(), it.live()):
            client.set(key, b"\xc1")
        client.set(it.tombstone(1, WHO), b"no object")
        client.set(it.poison("people", 1), b"99999999")
        client.hset(it.generations(), "3", "filling")
        client.hset(it.followed(), "somebody", "9 1")
        client.hset(it.items(0), "i1", b"{")
        client.hset(it.control_state(), "policy:current_release", b"{")


def others(client: Any) -> dict[bytes, bytes]:
    names = [name for name in client.scan_iter(count=1000) if SHOP.parse(name) is None]
    return {name: client.dump(name) for name in names}


def test_every_command_keeps_to_its_own_namespace(shop: System, tmp_path: Path) -> None:
    settings, rnd = shop.settings, random.Random(7)
    with redis_client.connect(settings) as client:
        planted(client)
        before = others(client)
        assert len(before) > 30
        send(shop.url, ITEMS, [ALIEN])
        produce(settings, traffic(300, 30, rnd), rnd, lambda n: None)
        wait_until(lambda: not behind_published(settings, client), 60, "the flows stand still")
        with urllib.request.urlopen(f"{shop.url}/v1/recommendations?user_id=ann") as answer:
            assert json.load(answer)["fallback"] != "store_down"
        verified(shop)
        assert read_json(shop, "rebuild")["before"] == 0
        assert read_json(shop, "rebuild", "--partition", "1")["deleted"] == 0
        verified(shop)
        freshet("cold", "sweep", "--days", "0.000001", "--data-dir", shop.directory)
        assert read_json(shop, "cold", "status")["people"] > 0
        verified(shop)
        assert read_json(shop, "inspect", "item", "alien")["item"]["title"] == "Alien"
        assert read_json(shop, "status")["paused"] == []
        assert read_json(shop, "dead-letters", "list")["paused"] == []
        freshet("dead-letters", "resume", "events", "1", "--data-dir", shop.directory)
        assert client.exists(SHOP.accepted("people", 1))
        named = {it["pattern"] for it in read_json(shop, "keys")}
        assert {"u:{shop/*}:*", "tb:{shop/tables*}:meta", "g:{shop/live}"} <= named
        assert others(client) == before, "what is another's is as it was"


def verified(shop: System) -> None:
    report = read_json(shop, "verify")
    assert report["mismatches"] == []
    assert report["people_checked"] > 10
