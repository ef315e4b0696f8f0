"""Lists of neighbours are made under the counting of the release that serves, with a real Redis."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from flows.rollup.tables import Rollup
from flows.verify import stored_tables, table_sums
from flows.verify.report import Findings, Mismatch
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from models.aggregates import due_lists
from models.reference import recents
from models.reference.sums import Sums
from schemas.control import Current, Held, Released
from schemas.keys import PLAIN
from schemas.state import facts, tables
from schemas.state.counting import BUILT_IN, FORMAT_1, Counting
from tests.laws.world import T0, Memory, action, fold_log, log_of

pytestmark = pytest.mark.on_cluster

DAY, ITEMS, SLICE = 86_400_000, 20, 3
LOG = log_of(
    [
        action(n, n % 7, f"i{n * n % ITEMS}", at=T0 + n * 60_000 + n // 40 * 9 * DAY)
        for n in range(200)
    ]
)
"""People come back after nine days."""
OTHER = Counting(lag_power=0.5, backward=0.25, gap="session")


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    with redis_client.connect(Settings(redis_url=redis_url)) as connected:
        connected.flushall()
        yield connected


@pytest.fixture(scope="module")
def memory() -> Memory:
    return fold_log(LOG)


def held(body: Any) -> bytes:
    text = msgspec.json.encode(body).decode()
    return msgspec.json.encode(Held(version=1, body=text, offset=0))


def serve(client: Client, release: str, body: Any) -> None:
    """Puts a release that serves into the control state; `body` None: there is no such release."""
    state = PLAIN.control_state()
    client.hset(state, "policy:release", held(Current(release=release)))
    if body is not None:
        client.hset(state, f"release:{release}", held(body))


def rollup_of(client: Client, memory: Memory) -> Rollup:
    rollup = Rollup(client, Settings())
    for entry in memory.entries():
        rollup.tables.apply(0, entry)
    return rollup


def lists(client: Client) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = client.hgetall(PLAIN.tables().neighbours)
    return found


def meta(client: Client) -> tables.Meta:
    return tables.META_DECODER.decode(client.get(PLAIN.tables().meta))


def expected(memory: Memory, counting: Counting) -> dict[bytes, bytes]:
    made = memory.tables(4)
    found = made.publish(1, counting).neighbours
    return {item.to_bytes(8, "little"): rows for item, rows in found.items()}


def wrong(client: Client) -> list[Mismatch]:
    """What `freshet verify` finds wrong in the published lists."""
    found = Findings()
    stored = stored_tables.published(client, 4, PLAIN, found)
    assert stored is not None
    sums = Sums(stored.marks)
    for events in recents.by_person([(offset, event) for offset, _, event in LOG]).values():
        sums.add(events)
    table_sums._neighbours(found, stored, stored.neighbours or {}, sums)
    return found.mismatches()


def test_without_a_release_the_built_in_counts_and_a_release_that_names_none_counts_as_before(
    client: Client, memory: Memory
) -> None:
    rollup = rollup_of(client, memory)
    assert rollup.publish()
    assert meta(client).countings == [BUILT_IN.pairs]
    assert lists(client) == expected(memory, BUILT_IN)
    assert wrong(client) == []
    serve(client, "2026-11-30.1", Released(manifest_sha256="0" * 64))
    assert rollup.publish()
    assert lists(client) == expected(memory, FORMAT_1)
    assert wrong(client) == []
    serve(client, "", None)
    assert rollup.publish()
    assert lists(client) == expected(memory, BUILT_IN)
    assert not rollup.publish()


def test_lists_follow_another_release_in_slices_without_a_gap(
    client: Client, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_lists, "LISTS_PER_VERSION", SLICE)
    rollup = rollup_of(client, memory)
    rollup.publish()
    before, after = (expected(memory, counting) for counting in (BUILT_IN, OTHER))
    assert all(before[item] != after[item] for item in before)
    serve(client, "2026-11-30.1", Released(manifest_sha256="0" * 64, counting=OTHER))
    while rollup.publish():
        now, said = lists(client), meta(client)
        assert now.keys() == before.keys()
        assert all(rows in (before[item], after[item]) for item, rows in now.items())
        assert sum(now[item] == after[item] for item in now) >= len(before) - said.lists_waiting
        assert said.countings[0] == OTHER.pairs
        assert (said.countings[1:] == []) == (said.lists_waiting == 0)
        assert wrong(client) == []
        (change,) = client.xrevrange(PLAIN.tables().changes, count=1)
        assert len(tables.DECODER.decode(change[1][tables.FIELD]).keys()[0]) <= SLICE
    assert lists(client) == after
    # without an action since: another one serves where the roll-up starts
    rollup.store()
    serve(client, "2026-11-30.2", Released(manifest_sha256="0" * 64))
    assert Rollup(client, Settings()).publish()
    assert lists(client) == expected(memory, FORMAT_1)
    assert wrong(client) == []
    # a broken list is found, whichever counting it is of
    item, rows = max(lists(client).items(), key=lambda it: len(it[1]))
    for column in ("score", "forward", "backward"):
        broken = np.frombuffer(rows, tables.NEIGHBOUR).copy()
        broken[column][0] = broken[column][0] * 1.1 + 0.01
        client.hset(PLAIN.tables().neighbours, item, broken.tobytes())
        assert wrong(client) != []


def test_what_changes_while_lists_wait_is_published_at_once_and_no_list_is_lost(
    client: Client, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release changes twice, and back, while actions come and the roll-up is killed."""
    monkeypatch.setattr(due_lists, "LISTS_PER_VERSION", SLICE)
    entries = memory.entries()
    assert len(entries) == 1
    rollup = Rollup(client, Settings())
    cut = [facts_until(entries[0], at) for at in (80, 120, 160, 200)]
    served = [OTHER, FORMAT_1, OTHER, Counting(backward=1.0)]
    for n, (entry, counting) in enumerate(zip(cut, served, strict=True)):
        rollup.tables.apply(0, entry)
        rollup.publish()
        if n == 2:
            rollup.store()
            rollup = Rollup(client, Settings())
        serve(client, f"2026-11-30.{n + 1}", Released(manifest_sha256="0" * 64, counting=counting))
        rollup.publish()
    while rollup.publish():
        pass
    assert lists(client) == expected(memory, served[-1])
    assert wrong(client) == []


def facts_until(entry: facts.Delta, at: int) -> facts.Delta:
    keep = entry.actions.delta < at
    return entry._replace(next=at, actions=facts.where(entry.actions, keep))


@pytest.mark.parametrize(
    "broken",
    [
        b"no JSON",
        held({"manifest_sha256": "0", "counting": {"lag_power": 3.0}}),
        held({"manifest_sha256": "0", "counting": {"unheard": 1}}),
        None,
    ],
)
def test_a_release_that_cannot_be_read_changes_nothing_and_is_logged_once(
    client: Client, memory: Memory, caplog: pytest.LogCaptureFixture, broken: bytes | None
) -> None:
    serve(client, "2026-11-30.1", Released(manifest_sha256="0" * 64, counting=OTHER))
    rollup = rollup_of(client, memory)
    rollup.publish()
    serve(client, "2026-11-30.2", None)
    if broken is not None:
        client.hset(PLAIN.control_state(), "release:2026-11-30.2", broken)
    with caplog.at_level(logging.WARNING):
        assert [rollup.publish() for _ in range(3)] == [False] * 3
    assert len(caplog.records) == 1
    assert meta(client).countings == [OTHER.pairs]
    serve(client, "2026-11-30.2", Released(manifest_sha256="0" * 64))
    assert rollup.publish()
    assert meta(client).countings == [FORMAT_1.pairs]
