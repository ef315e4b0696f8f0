"""Installations that share a Redis: each finds and drops its own keys, and none of another's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.kit.commit import commit
from flows.kit.resume import resume
from flows.people.fold import VERSION, PeopleFold
from flows.rebuild import generations
from flows.rollup.tables import Rollup
from infra.kafka.kafka_client import TopicInfo
from infra.settings import Settings
from infra.store import redis_client
from infra.store.drop import drop_keys
from schemas.keys import PLAIN, Keyspace
from schemas.state.fences import Fence
from schemas.state.write import Write
from tests.laws.test_commit_laws import BUSY, linked_log
from tests.laws.world import cuts, fold_log, write_of

pytestmark = pytest.mark.on_cluster

TOPIC = TopicInfo("topic-1", 4)
PAIRS = [("shop", "books"), ("shop", ""), ("", "shop"), ("sho", "shop"), ("0", "")]
"""The namespace that is dropped, and the one that stays."""
State = dict[bytes, Any]


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis_client.connect(Settings(redis_url=redis_url)) as connected:
        connected.flushall()
        yield connected


def filled(client: Any, keyspace: Keyspace) -> None:
    """People of two partitions, with links, and the tables over them: as the flows leave them."""
    for partition, log in ((0, linked_log()), (1, BUSY)):
        fence = resume(client, "people", partition, TOPIC, 0, 10**9, VERSION, keyspace)
        fold = PeopleFold({partition: fence}, client.mget, 86_400_000, 1000, keyspace)
        for piece in cuts(len(log), [30]):
            commit(client, write_of(fold, log[piece], partition))
    rollup = Rollup(client, Settings(namespace=keyspace.namespace), keyspace.generation)
    while rollup.read():
        pass
    rollup.publish()
    rollup.store()


def installed(client: Any, namespace: str) -> None:
    """Fills two generations, and the keys outside of generations."""
    keyspace = Keyspace(namespace)
    filled(client, keyspace)
    filled(client, keyspace.in_generation(2))
    write = Write("catalogue", 0, 0, Fence("items-1", 4, 1, 0, 1), keyspace)
    write.fields[keyspace.items(0)] = {b"i1": b"{}"}
    commit(client, write)
    client.hset(keyspace.control_state(), "placement:home", b"{}")
    client.set(keyspace.accepted("people", 0), b"7")
    client.set(keyspace.live(), b"0")


def dumped(client: Any) -> State:
    """All that Redis holds, byte for byte."""
    return {name: client.dump(name) for name in client.scan_iter(count=1000)}


@pytest.mark.parametrize(("dropped", "stays"), PAIRS)
def test_a_namespace_is_dropped_and_the_other_is_untouched(
    client: Any, dropped: str, stays: str
) -> None:
    client.set(b"u:another program's", b"x")
    client.set(b"session:{3}:ab", b"x")
    installed(client, stays)
    before = dumped(client)
    installed(client, dropped)
    added = dumped(client).keys() - before.keys()
    assert len(added) == len(before) - 2
    assert drop_keys(client, Keyspace(dropped)) == len(added)
    assert dumped(client) == before


@pytest.mark.parametrize(("dropped", "stays"), PAIRS)
def test_a_generation_is_dropped_in_its_namespace_alone(
    client: Any, dropped: str, stays: str, tmp_path: Path
) -> None:
    installed(client, dropped)
    installed(client, stays)
    both = dumped(client)
    settings = Settings(namespace=dropped, lake_url=str(tmp_path / "lake"))
    mine = {name for name in both if Keyspace(dropped).generation_of(name) == 2}
    assert generations.drop(client, settings, 2) == len(mine) > 20
    assert dumped(client) == {name: both[name] for name in both if name not in mine}


@pytest.mark.parametrize(("dropped", "stays"), PAIRS)
def test_a_torn_partition_is_dropped_in_its_namespace_alone(
    client: Any, dropped: str, stays: str
) -> None:
    installed(client, stays)
    before, torn = dumped(client), Keyspace(dropped)
    installed(client, dropped)
    client.set(torn.torn("people", 1), b"0")
    assert resume(client, "people", 1, TOPIC, 0, 10**9, VERSION, torn).offset == 0
    assert list(client.scan_iter(match=torn.people_pattern(b"*", 1))) == []
    remaining = dumped(client)
    assert {name: remaining[name] for name in before} == before


@pytest.mark.parametrize("keyspace", [Keyspace("shop"), Keyspace("shop", 2), Keyspace("", 2)])
def test_a_namespace_and_a_generation_change_names_and_nothing_else(
    client: Any, keyspace: Keyspace
) -> None:
    filled(client, keyspace)
    pure = fold_log(BUSY, [50], partition=1)
    names = {keyspace.renamed(name): value for name, value in pure.values.items()}
    assert {name: client.get(name) for name in names} == names
    people = set(client.scan_iter(match=keyspace.people_pattern(b"*", 1), count=1000))
    fence = keyspace.fence("people", 1)
    assert people - {fence, keyspace.accepted("people", 1), keyspace.poison("people", 1)} == set(
        names
    )
    assert [it for it in client.scan_iter(count=1000) if keyspace.parse(it) is None] == []
    assert PLAIN.parse(keyspace.row(1, "ab")) is None or not keyspace.namespace
