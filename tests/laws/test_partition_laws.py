"""Law 10 over several partitions: a fault takes out its own partition and no other.

Whatever befalls one of them in a common transaction, each ends in the state of a run without the others.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.kit.commit import (
    Fenced,
    StoreFull,
    Torn,
    UnreadableFence,
    WritesLost,
    commit,
    commit_all,
)
from flows.kit.packed_write import KEYS_PER_COMMAND
from flows.kit.resume import resume
from infra.kafka.kafka_client import TopicInfo
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from schemas.errors import FreshetError
from schemas.keys import PLAIN
from schemas.state import fences
from schemas.state.fences import HELD, Fence
from schemas.state.write import StreamEntry, Write
from tests.support.transactions import after_watch, lost_answer

pytestmark = pytest.mark.on_cluster
TOPIC, VERSION = TopicInfo("topic-1", 16), 3
LENGTH = 40
"""Records of each partition's log."""
PARTITIONS = 4


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    with redis_client.connect(Settings(redis_url=redis_url)) as connected:
        connected.flushall()
        yield connected


@pytest.fixture(scope="module")
def alone(redis_url: str) -> list[dict[bytes, Any]]:
    """The state of each partition that was folded by itself, without faults."""
    with redis_client.connect(Settings(redis_url=redis_url)) as client:
        client.flushall()
        for p in range(PARTITIONS):
            run(client, {p: [7]}, lambda writes: None)
        return [state(client, p) for p in range(PARTITIONS)]


def record(p: int, offset: int) -> bytes:
    return b"%02d:%05d " % (p, offset) * 8


def write_of(p: int, first: int, end: int) -> Write:
    """The write of the records first <= offset < end: of every kind that a write may hold."""
    write = Write("people", p, first, Fence("topic-1", 16, end, end, VERSION), PLAIN)
    person = "a" * 32
    write.values[PLAIN.row(p, person)] = b"%d" % (end * (end - 1) // 2)
    write.append(PLAIN.seen(p, person), b"".join(record(p, n) for n in range(first, end)))
    write.append(PLAIN.seen(p, "b" * 32), b"%d," % end)
    counts = {b"n": b"%d" % end, b"old-%d" % end: b""}
    write.fields[PLAIN.tallies(p)] = counts
    write.removed[PLAIN.tallies(p)] = [b"old-%d" % first, b"old-%d" % end]
    write.entries += [
        StreamEntry(PLAIN.deltas(p), b"%d-0" % (n + 1), {b"d": record(p, n)}, LENGTH)
        for n in range(first, end)
    ]
    write.deleted.append(PLAIN.vector(p, person))
    return write


def state(client: Client, p: int) -> dict[bytes, Any]:
    """Everything that the partition keeps, without what depends on the clock or on the batches."""
    found: dict[bytes, Any] = {}
    for key in client.scan_iter(match=b"*{%d}*" % p, count=1000):
        kind = client.type(key)
        if kind == b"hash":
            found[key] = client.hgetall(key)
        elif kind == b"stream":
            found[key] = client.xrange(key)
        else:
            found[key] = client.get(key)
    fence = fences.decode(found.pop(PLAIN.fence("people", p)))
    found.pop(PLAIN.seen(p, "b" * 32))
    return {**found, b"fence": (fence.offset, fence.newest)}


def run(client: Client, cuts: dict[int, list[int]], before: Callable[[list[Write]], None]) -> None:
    """Commits every partition's log in common transactions, as a worker does: who is out starts again from
    the fence. `cuts`: sizes of the batches of each, in turn. `before`: called with each round's writes."""
    start = dict.fromkeys(cuts, -1)
    rounds = 0
    while any(offset < LENGTH for offset in start.values()):
        rounds += 1
        assert rounds < 500
        writes = []
        for p, offset in start.items():
            if offset < 0:
                start[p] = offset = resume(
                    client, "people", p, TOPIC, 0, LENGTH, VERSION, PLAIN
                ).offset
            size = cuts[p][rounds % len(cuts[p])]
            if offset < LENGTH:
                writes.append(write_of(p, offset, min(LENGTH, offset + size)))
        before(writes)
        try:
            failed = commit_all(client, writes)
        except redis.RedisError as error:
            if not redis_client.is_away(error):
                raise
            start = dict.fromkeys(cuts, -1)
            continue
        for write in writes:
            p = write.partition
            start[p] = -1 if p in failed else write.fence.offset


class Faults:
    """Each fault is injected once, in the first round from its own on in which its partition has a batch."""

    def __init__(
        self, client: Client, drawn: Sequence[tuple[int, int, str]], patch: pytest.MonkeyPatch
    ) -> None:
        self._client, self._drawn, self._patch, self._rounds = client, list(drawn), patch, 0

    def __call__(self, writes: list[Write]) -> None:
        self._rounds += 1
        by_partition = {write.partition: write for write in writes}
        is_torn = False
        # one fault within the commit a round, and after the others, which commit themselves
        for fault in sorted(self._drawn, key=lambda it: it[2] in WITHIN):
            at, p, kind = fault
            if kind == "answer_lost" and is_torn:
                continue  # that a command failed stands in the lost answer alone (`commit_all`)
            if at <= self._rounds and (write := by_partition.pop(p, None)):
                self._drawn.remove(fault)
                is_torn |= kind.startswith("torn")
                getattr(self, kind)(write)
                if kind in WITHIN:
                    return

    def fenced(self, write: Write) -> None:
        """Another worker was first, with another end."""
        commit(self._client, write_of(write.partition, write.first, write.first + 1))

    def overtaken(self, write: Write) -> None:
        """Another worker is first, between the two round trips."""
        after_watch(self._patch, lambda: self.fenced(write))

    def forgotten(self, write: Write) -> None:
        """Redis lost what was written last."""
        for pattern in PLAIN.owned_patterns("people", write.partition):
            for name in list(self._client.scan_iter(match=pattern)):
                self._client.delete(name)

    def torn(self, write: Write) -> None:
        write.entries.insert(0, StreamEntry(PLAIN.deltas(write.partition), b"0-0", {b"d": b""}))

    def torn_by_a_script(self, write: Write) -> None:
        write.appends = {PLAIN.deltas(write.partition): b"x", **write.appends}
        write.deleted.clear()

    def unreadable(self, write: Write) -> None:
        self.forgotten(write)
        self._client.set(PLAIN.fence("people", write.partition), b"\xc1")
        failed = commit_all(self._client, [write])
        assert isinstance(failed[write.partition], UnreadableFence)
        self._client.delete(PLAIN.fence("people", write.partition))

    def script_flushed(self, write: Write) -> None:
        for server in redis_client.servers(self._client):
            server.script_flush()

    def disconnected(self, write: Write) -> None:
        for server in redis_client.servers(self._client):
            server.client_kill_filter(_type="normal", skipme=True)

    def disconnected_under_watch(self, write: Write) -> None:
        after_watch(self._patch, lambda: self.disconnected(write))

    def script_flushed_under_watch(self, write: Write) -> None:
        after_watch(self._patch, lambda: self.script_flushed(write))

    def answer_lost(self, write: Write) -> None:
        lost_answer(self._patch)


WITHIN = {"overtaken", "disconnected_under_watch", "script_flushed_under_watch", "answer_lost"}
KINDS = [name for name in vars(Faults) if not name.startswith("_")]


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(1, 12), st.integers(0, PARTITIONS - 1), st.sampled_from(KINDS)),
        max_size=6,
    ),
    st.lists(
        st.lists(st.integers(1, 15), min_size=1, max_size=3),
        min_size=PARTITIONS, max_size=PARTITIONS,
    ),
)  # fmt: skip
def test_each_partition_ends_as_if_it_were_alone(
    redis_url: str,
    alone: list[dict[bytes, Any]],
    drawn: list[tuple[int, int, str]],
    sizes: list[list[int]],
) -> None:
    with redis_client.connect(Settings(redis_url=redis_url)) as client:
        client.flushall()
        with pytest.MonkeyPatch.context() as patch:
            run(client, dict(enumerate(sizes)), Faults(client, drawn, patch))
        assert [state(client, p) for p in range(PARTITIONS)] == alone


def rounds(client: Client, writes: Sequence[Write]) -> dict[int, type[FreshetError]]:
    return {p: type(error) for p, error in commit_all(client, writes).items()}


def offsets(client: Client, count: int) -> list[int]:
    held = [client.get(PLAIN.fence("people", p)) for p in range(count)]
    return [fences.decode(it).offset if it else 0 for it in held]


def test_of_sixteen_partitions_one_is_torn_and_fifteen_go_on(client: Client) -> None:
    writes = [write_of(p, 0, 5) for p in range(16)]
    writes[9].entries.insert(2, StreamEntry(PLAIN.deltas(9), b"1-0", {b"d": b""}))
    assert rounds(client, writes) == {9: Torn}
    assert [p for p in range(16) if client.exists(PLAIN.torn("people", p))] == [9]
    assert client.get(PLAIN.torn("people", 9)) == b"0"
    run(client, {p: [10] for p in range(16)}, lambda writes: None)
    after = [state(client, p) for p in range(16)]
    client.flushall()
    run(client, {p: [10] for p in range(16)}, lambda writes: None)
    assert after == [state(client, p) for p in range(16)]


def test_each_partition_has_its_own_reason_and_the_rest_is_committed(client: Client) -> None:
    for p in (1, 2, 3):
        commit(client, write_of(p, 0, 4))
    held = fences.decode(client.get(PLAIN.fence("people", 3)))
    held.version = HELD
    client.set(PLAIN.fence("people", 3), fences.encode(held))
    client.set(PLAIN.fence("people", 4), b"no fence")
    writes = [write_of(0, 0, 3), write_of(1, 3, 6), write_of(2, 5, 6), write_of(3, 4, 9)]
    writes += [write_of(4, 0, 2), write_of(5, 0, 7)]
    assert rounds(client, writes) == {1: Fenced, 2: WritesLost, 3: Fenced, 4: UnreadableFence}
    client.delete(PLAIN.fence("people", 4))
    assert offsets(client, 6) == [3, 4, 4, 4, 0, 7]


def test_a_fence_that_moves_after_the_look_at_it_takes_out_its_partition(
    client: Client, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_client.connect(Settings(redis_url=redis_url)) as other:
        after_watch(monkeypatch, lambda: commit(other, write_of(2, 0, 1)))
        assert rounds(client, [write_of(p, 0, 3) for p in range(4)]) == {2: Fenced}
    assert offsets(client, 4) == [3, 3, 1, 3]


def test_a_fence_that_moved_and_came_back_takes_out_all(
    client: Client, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zombie that moves people to the lake stores the same fence: whose it was is not to be seen."""
    for p in (0, 1):
        commit(client, write_of(p, 0, 4))
    key = PLAIN.fence("people", 0)
    with redis_client.connect(Settings(redis_url=redis_url)) as other:
        after_watch(monkeypatch, lambda: other.set(key, other.get(key)))
        failed = rounds(client, [write_of(p, 4, 5) for p in (0, 1)])
    assert failed == ({0: Fenced} if redis_client.is_cluster(client) else {0: Fenced, 1: Fenced})


def test_what_a_lost_connection_left_the_fence_shows(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost_answer(monkeypatch)
    with pytest.raises(redis.ConnectionError):
        commit(client, write_of(0, 0, 5))
    assert offsets(client, 1)[0] in (0, 5)
    run(client, {0: [40]}, lambda writes: None)
    assert offsets(client, 1) == [LENGTH]


def test_a_redis_that_is_full_refuses_each_and_tears_none(client: Client) -> None:
    writes = [write_of(p, 0, 5) for p in range(3)]
    for server in redis_client.servers(client):
        server.config_set("maxmemory", 1)
    try:
        assert rounds(client, writes) == dict.fromkeys(range(3), StoreFull)
    finally:
        for server in redis_client.servers(client):
            server.config_set("maxmemory", 0)
    assert list(client.scan_iter()) == []
    assert rounds(client, writes) == {}
    assert offsets(client, 3) == [5, 5, 5]


@pytest.mark.check
def test_a_batch_of_a_crowd_takes_little_memory_beside_its_write(client: Client) -> None:
    """More people than one command takes: rows, appends and fields of each."""
    crowd, row = KEYS_PER_COMMAND + 20_000, b"r" * 700
    write = Write("people", 0, 0, Fence("topic-1", 16, 9, 9, VERSION), PLAIN)
    names = [f"{n:032x}" for n in range(crowd)]
    write.values = {PLAIN.row(0, name): row for name in names}
    write.appends = {PLAIN.seen(0, name): b"s" * 16 for name in names}
    write.fields = {PLAIN.tallies(0): {name.encode(): b"1" for name in names}}
    tracemalloc.start()
    try:
        assert rounds(client, [write]) == {}
        assert tracemalloc.get_traced_memory()[1] < 100 * crowd
    finally:
        tracemalloc.stop()
    assert client.get(PLAIN.row(0, names[-1])) == row
    assert client.get(PLAIN.seen(0, names[-1])) == b"s" * 16
    assert client.hlen(PLAIN.tallies(0)) == crowd
    write.first, write.fence.offset = 9, 10
    write.fields, write.removed = {}, {PLAIN.tallies(0): list(write.fields[PLAIN.tallies(0)])}
    write.deleted, write.values, write.appends = list(write.values), {}, {}
    assert rounds(client, [write]) == {}
    assert not client.exists(PLAIN.tallies(0), PLAIN.row(0, names[-1]))


def test_a_commit_is_of_the_clients_user_and_database(redis_single: str) -> None:
    """Also on a connection that was lost in between: redis-py opens it."""
    plain = Settings(redis_url=redis_single)
    url = redis_single.replace("redis://", "redis://flow:secret@").replace("/0", "/5")
    with redis_client.connect(plain) as root:
        root.flushall()
        root.acl_setuser(
            "flow", enabled=True, passwords=["+secret"], keys=["*{0}*"], categories=["+@all"]
        )
        try:
            with redis_client.connect(Settings(redis_url=url)) as client:
                commit(client, write_of(0, 0, 5))
                root.client_kill_filter(_type="normal", skipme=True)
                commit(client, write_of(0, 5, 6))
                assert offsets(client, 1) == [6]
                with pytest.raises(redis.exceptions.NoPermissionError):
                    commit(client, write_of(1, 0, 5))
                commit(client, write_of(0, 6, 7))
            assert root.dbsize() == 0
        finally:
            root.acl_deluser("flow")
