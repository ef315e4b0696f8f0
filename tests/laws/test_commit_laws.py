"""Laws 1, 2, 5, 6, 7, 8 and 10 of the commit, on a real Redis."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from flows.kit.commit import Fenced, Torn, commit
from flows.kit.resume import StateMismatch, resume
from flows.people.fold import VERSION, PeopleFold
from flows.rollup.tables import Overtaken, Rollup
from infra.kafka.kafka_client import TopicInfo
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from models.aggregates.popularity import GAIN, HALF_LIVES
from models.aggregates.tables import Hole, Tables
from models.features.registry import read_row
from models.features.ring import recent
from schemas import events, keys
from schemas.actions import CODE
from schemas.flows import BY_NAME
from schemas.identity import item_hash
from schemas.keys import PLAIN
from schemas.state import facts, fences, tables
from schemas.state.counting import BUILT_IN
from schemas.state.fences import Fence
from schemas.state.write import StreamEntry, Write
from schemas.topics import EVENTS, TOPICS
from tests.laws.world import (
    T0,
    Record,
    action,
    assigned,
    cuts,
    fold_log,
    log_of,
    person,
    served,
    write_of,
)
from tests.support.pair_rows import pair_rows
from tests.support.transactions import after_watch

pytestmark = pytest.mark.on_cluster

TOPIC = TopicInfo("topic-1", 4)


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    with redis_client.connect(Settings(redis_url=redis_url)) as connected:
        connected.flushall()
        yield connected


def folded(client: Client, log: list[Record], sizes: list[int], partition: int = 0) -> Fence:
    """Folds a log into Redis, from the stored fence on, as the flow does."""
    fence = resume(client, "people", partition, TOPIC, 0, 10**9, VERSION, PLAIN)
    fold = PeopleFold({partition: fence}, client.mget, 86_400_000, 1000, PLAIN)
    fold.remember_received(partition, client.hgetall(PLAIN.received(partition)))
    fold.remember_tallies(partition, client.hgetall(PLAIN.tallies(partition)))
    log = [record for record in log if record[0] >= fence.offset]
    for piece in cuts(len(log), sizes):
        commit(client, write_of(fold, log[piece], partition))
    return fold.fence(partition)


def new_fold(client: Client) -> PeopleFold:
    fences_ = {0: Fence("topic-1", 4, 0, 0, VERSION)}
    return PeopleFold(fences_, client.mget, 86_400_000, 1000, PLAIN)


def in_redis(client: Client) -> dict[bytes, object]:
    """The state of `Memory.state`, read from Redis."""
    state: dict[bytes, object] = {}
    for key in client.scan_iter(count=1000):
        kind = client.type(key)
        if key[:2] in (b"f:", b"dl"):
            continue
        if kind == b"string":
            state[key] = client.get(key)
        elif kind == b"hash":
            state[key] = client.hgetall(key)
        else:
            state[key] = client.xrange(key)
    return state


def _busy(n: int) -> events.Event:
    """A log whose every tenth record is a slate, with an outcome two records later."""
    if n % 10 == 7:
        return served(f"s{n}", ["i1", "i2"], n % 4, T0 + n * 1000, experiments=(assigned(),))
    if n % 10 == 9:
        return action(n, (n - 2) % 4, "i2", slate_id=f"s{n - 2}")
    return action(n, n % 4, f"i{n % 9}")


BUSY = log_of([_busy(n) for n in range(120)])


def test_law_1_no_key_has_two_owners_and_each_flow_writes_its_own(client: Client) -> None:
    patterns = [key.pattern for key in keys.KEYS]
    assert len(set(patterns)) == len(patterns)
    folded(client, BUSY, [50])
    rollup = Rollup(client, Settings())
    rollup.read()
    rollup.publish()
    rollup.store()
    for name in client.scan_iter():
        owners = {key.owner for key in keys.KEYS if matches(key.pattern, name.decode())}
        assert len(owners) == 1, name


def matches(pattern: str, name: str) -> bool:
    from fnmatch import fnmatchcase

    return fnmatchcase(name, pattern.replace("[", "[[]"))


def test_law_2_everything_about_a_person_is_one_topic_keyed_by_the_person() -> None:
    about = [t for t in TOPICS if t.key == "person"]
    assert about == [EVENTS]
    assert set(EVENTS.records) == set(events.EVERY_KIND)
    of_people = set(events.EVERY_KIND) - {events.Listed}  # a mark for a partition
    assert all("person" in kind.__struct_fields__ for kind in of_people)


def test_state_and_offset_commit_together_and_equal_the_pure_fold(client: Client) -> None:
    fence = folded(client, BUSY, [7, 30])
    pure = fold_log(BUSY, [50])
    assert in_redis(client) == pure.state()
    assert len(pure.arms()) == 3 * 12  # two slots served, one of them clicked
    held = fences.decode(client.get(PLAIN.fence("people", 0)))
    assert (held.offset, held.newest) == (120, BUSY[-1][1]) == (fence.offset, fence.newest)


def test_a_redelivered_batch_is_refused_and_changes_nothing(client: Client) -> None:
    folded(client, BUSY, [50])
    before = in_redis(client)
    write = write_of(new_fold(client), BUSY[:50])
    with pytest.raises(Fenced):
        commit(client, write)
    assert in_redis(client) == before


def test_a_zombie_between_watch_and_exec_is_refused(
    client: Client, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers fold the same batch; the fence moves after one of them has looked at it."""
    writes = []
    for _ in range(2):
        writes.append(write_of(new_fold(client), BUSY[:50]))
    with redis_client.connect(Settings(redis_url=redis_url)) as other:
        # the first worker is overtaken right after its look at the fence
        after_watch(monkeypatch, lambda: commit(other, writes[1]))
        with pytest.raises(Fenced, match="the fence stands at 50"):
            commit(client, writes[0])
    assert in_redis(client) == fold_log(BUSY[:50]).state()


@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(0, 2.2e9), st.sampled_from(["view", "like"])),
             min_size=1, max_size=60),
    st.lists(st.integers(1, 20), max_size=4),
)  # fmt: skip
def test_law_5_forward_decay_adds_up_in_any_order(
    drawn: list[tuple[int, float, str]], sizes: list[int]
) -> None:
    """Up to 70 years of history: sums at `now` equal the plain formula, however they were cut."""
    made = [
        action(n, n % 7, f"i{item}", what, at=int(t * 1000))
        for n, (item, t, what) in enumerate(drawn)
    ]
    held = fold_log(log_of(made), sizes).tables()
    now = max(t for _, t, _ in drawn)
    every_fact = fold_log(log_of(made)).all_facts()
    for column, half_life in enumerate(HALF_LIVES.values()):
        current = held.popularity.landmarks[column].now(held.popularity.sums[:, column], now)
        for item in {fact[1] for fact in every_fact}:
            plain = sum(
                GAIN[fact[3]] * 2 ** ((fact[2] - now) / half_life)
                for fact in every_fact if fact[1] == item
            )  # fmt: skip
            number = held.items.of(np.array([item], np.uint64))[0]
            assert math.isclose(current[number], plain, rel_tol=1e-9, abs_tol=1e-140)


def test_law_4_tables_do_not_depend_on_the_batches() -> None:
    log = log_of(
        [action(n, n % 5, f"i{n * n % 17}", at=T0 + n * 86_400_000 * 5) for n in range(300)]
    )
    one, other = fold_log(log).tables(), fold_log(log, [3, 11]).tables()
    assert one.positions == other.positions
    assert sorted(one.items.hashes.tolist()) == sorted(other.items.hashes.tolist())
    pairs = [pair_rows(it) for it in (one, other)]
    assert pairs[0].keys() == pairs[1].keys()
    assert [pairs[0][key] for key in pairs[1]] == pytest.approx(list(pairs[1].values()), rel=1e-9)
    assert neighbours(one) == neighbours(other)


def test_law_6_no_key_expires_and_an_evicting_store_is_refused(client: Client) -> None:
    folded(client, BUSY, [50])
    assert {client.ttl(key) for key in client.scan_iter()} == {-1}
    # what expires belongs to no flow
    assert {key.owner for key in keys.KEYS if key.expires}.isdisjoint(BY_NAME)
    redis_client.check(client)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(redis_client.StoreMisconfigured, match="noeviction"):
            redis_client.check(client)
    finally:
        client.config_set("maxmemory-policy", "noeviction")


def linked_log() -> list[Record]:
    made: list[events.Event] = [action(n, 1, f"i{n}") for n in range(5)]
    made.append(events.Link(event_id="l1", person=person(1), to=person(2), received_at=T0))
    made.append(events.Link(event_id="l2", person=person(1), to=person(3), received_at=T0))
    made += [action(10 + n, 1, f"j{n}") for n in range(3)]
    return log_of(made)


def test_law_7_what_a_fold_emits_leaves_by_the_outbox_numbered(client: Client) -> None:
    folded(client, linked_log(), [2])
    entries = client.xrange(PLAIN.outbox(0))
    # one link, one more that loses, three later actions
    assert [id_ for id_, _ in entries] == [b"5-1", b"6-1", b"7-1", b"8-1", b"9-1"]
    merges = [decoded_merge(fields[b"v"]) for _, fields in entries]
    assert [(m.source, m.offset, m.n) for m in merges] == [(0, n, 1) for n in range(5, 10)]
    assert [m.person for m in merges] == [person(n) for n in (2, 3, 2, 2, 2)]
    assert [(m.link, m.lost) for m in merges[:3]] == [("l1", False), ("l2", True), ("", False)]
    assert (merges[1].counts, merges[1].seen) == ((), ())  # the first of two links wins


def decoded_merge(value: bytes) -> events.Merge:
    event = events.decode_stored(value)
    assert isinstance(event, events.Merge)
    return event


def test_law_7_the_receiver_takes_each_number_once(client: Client) -> None:
    sent = fold_log(linked_log(), [2]).streams[PLAIN.outbox(0)]
    merges: list[events.Event] = [events.decode_stored(fields[b"v"]) for _, fields in sent]
    own: list[events.Event] = [action(50, 2, "own", at=T0 + 2500)]
    once = fold_log(log_of(own + merges), partition=1)
    twice = fold_log(log_of([*own, *merges[:3], *merges, *merges]), [2], restart=True, partition=1)
    row = PLAIN.row(1, person(2))
    assert once.values[row] == twice.values[row]
    items = [item_hash(name) for name in ("own", *(f"i{n}" for n in range(5)), "j0", "j1", "j2")]
    assert PLAIN.seen(1, person(2)) not in twice.values  # the list has them all
    assert set(recent(read_row(twice.values[row]))["item"].tolist()) == set(items)
    assert [fact[1] for fact in twice.all_facts(1)] == [item_hash("own")]  # a merge emits no facts


def test_law_8_the_fence_knows_its_log(client: Client) -> None:
    folded(client, BUSY, [50])

    def start(
        topic: TopicInfo = TOPIC,
        low: int = 0,
        high: int = 120,
        version: int = VERSION,
        readable: tuple[int, ...] = (),
    ) -> Fence:
        return resume(client, "people", 0, topic, low, high, version, PLAIN, readable)

    assert start().offset == 120
    assert start(version=VERSION + 1, readable=(VERSION, VERSION + 1)).version == VERSION
    wrong: tuple[Callable[[], Fence], ...] = (
        lambda: start(TopicInfo("topic-2", 4)),
        lambda: start(TopicInfo("topic-1", 8)),
        lambda: start(version=VERSION + 1),
        lambda: start(version=VERSION + 2, readable=(VERSION + 1, VERSION + 2)),
        lambda: start(TopicInfo("topic-1", VERSION), readable=(4, VERSION)),
        lambda: start(high=119),
        lambda: start(low=121, high=300),
    )
    for refused in wrong:
        with pytest.raises(StateMismatch, match="rebuild"):
            refused()
    client.delete(PLAIN.fence("people", 0))
    with pytest.raises(StateMismatch, match="rebuild"):
        start(low=5)
    assert start().offset == 0


def test_law_8_a_flow_without_generations_says_which_key_to_delete(client: Client) -> None:
    control = PLAIN.fence("control", 0)
    client.set(control, fences.encode(Fence("topic-2", 4, 3, T0, VERSION)))
    with pytest.raises(StateMismatch, match=re.escape(f"delete the key {control.decode()}")):
        resume(client, "control", 0, TOPIC, 0, 9, VERSION, PLAIN)
    client.delete(control)
    assert resume(client, "control", 0, TOPIC, 0, 9, VERSION, PLAIN).offset == 0


def test_law_10_an_error_inside_exec_tears_the_partition_which_is_folded_again(
    client: Client,
) -> None:
    folded(client, BUSY[:60], [20])
    broken = Write("people", 0, 60, Fence("topic-1", 4, 61, T0, VERSION), PLAIN)
    broken.values[PLAIN.row(0, person(1))] = b"half a transaction"
    # behind: XADD refuses
    broken.entries.append(StreamEntry(PLAIN.deltas(0), b"1-0", {b"d": b"x"}))
    with pytest.raises(Torn):
        commit(client, broken)
    assert client.get(PLAIN.torn("people", 0)) is not None
    client.set(b"u:{1}:other", b"another partition's")
    folded(client, BUSY, [20])
    assert client.delete(b"u:{1}:other") == 1
    assert in_redis(client) == fold_log(BUSY, [20]).state()


def test_an_entry_missing_from_the_delta_log_stops_the_roll_up(client: Client) -> None:
    folded(client, BUSY, [20])
    first = client.xrange(PLAIN.deltas(0), count=2)[1][0]
    client.xdel(PLAIN.deltas(0), first)
    with pytest.raises(Hole):
        Rollup(client, Settings()).read()


def test_a_roll_up_counts_once_across_kills_and_other_batch_boundaries(client: Client) -> None:
    config = Settings()
    folded(client, BUSY[:70], [20])
    rollup = Rollup(client, config)
    rollup.read()
    rollup.store()  # then Redis loses its last second: the partition is folded again, cut elsewhere
    for key in client.scan_iter():
        if not key.startswith(b"tb:"):
            client.delete(key)
    folded(client, BUSY, [13])
    again = Rollup(client, config)
    while again.read():
        pass
    whole = fold_log(BUSY).tables(1)
    assert again.tables.positions[0] == 120
    assert np.allclose(popularity(again.tables), popularity(whole), rtol=1e-9)
    assert neighbours(again.tables) == neighbours(whole)


def popularity(held: Tables) -> list[NDArray[np.float64]]:
    """The sums as of one time: each table has landmarks of its own."""
    columns = zip(held.popularity.landmarks, held.popularity.sums[: len(held.items)].T, strict=True)
    return [landmark.now(sums, T0 / 1000) for landmark, sums in columns]


def neighbours(held: Tables) -> dict[int, bytes]:
    hashes = held.items.hashes
    lists = held.pairs.neighbours(np.arange(len(hashes)), hashes, BUILT_IN.pairs)
    return dict(zip(hashes.tolist(), lists, strict=True))


def test_of_two_roll_ups_one_exits(client: Client) -> None:
    folded(client, BUSY[:60], [20])
    one, other = Rollup(client, Settings()), Rollup(client, Settings())
    for rollup in (one, other):
        rollup.read()
    assert one.publish()
    with pytest.raises(Overtaken):
        other.publish()
    one.store()
    with pytest.raises(Overtaken):
        other.store()


def test_published_tables_are_what_a_reader_reads(client: Client) -> None:
    folded(client, BUSY, [20])
    rollup = Rollup(client, Settings())
    rollup.read()
    rollup.publish()
    assert not rollup.publish()  # nothing new, no version
    meta = tables.META_DECODER.decode(client.get(PLAIN.tables().meta))
    assert (meta.version, meta.positions) == (1, [120, 0, 0, 0])
    held = client.hgetall(PLAIN.tables().neighbours)
    rows = tables.neighbours(held[item_hash("i1").to_bytes(8, "little")])
    assert math.isclose(rows["score"].sum(), 1, rel_tol=1e-6)
    entry = client.xrange(PLAIN.tables().changes)[0]
    changed = tables.DECODER.decode(entry[1][tables.FIELD])
    assert (entry[0], changed.version) == (b"1-0", 1)
    assert set(changed.keys()[0]) == held.keys()


def test_the_log_of_facts_round_trips_and_refuses_what_is_cut_short() -> None:
    entry = facts.Delta(
        0, 120, facts.decode(fold_log(BUSY).streams[PLAIN.deltas(0)][0][1][b"d"]).actions
    )
    data = facts.encode(entry)
    again = facts.decode(data)
    mine: Iterable[NDArray[Any]] = entry.actions
    theirs: Iterable[NDArray[Any]] = again.actions
    assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert set(entry.actions.action.tolist()) == {CODE["click"]}
    for cut in (data[:-1], data + b"x", data[:10]):
        with pytest.raises(ValueError):
            facts.decode(cut)


def test_every_record_round_trips() -> None:
    for event in [e for _, _, e in linked_log()]:
        assert events.decode_stored(events.encode(event)) == event
    with pytest.raises(msgspec.ValidationError):
        events.decode_stored(b'{"kind":"action","person":"short"}')


def test_a_base_that_was_never_headed_is_swept(client: Client) -> None:
    folded(client, BUSY[:60], [20])
    rollup = Rollup(client, Settings())
    rollup.read()
    rollup.store()
    client.set(PLAIN.tables().base_chunk(b"killed", 0), b"half of a base")
    again = Rollup(client, Settings())
    assert again.tables.positions == rollup.tables.positions
    rollup.store()
    client.set(PLAIN.tables().base_chunk(b"1", 0), b"a base that another roll-up is storing")
    Rollup(client, Settings())
    assert not client.exists(
        PLAIN.tables().base_chunk(b"1", 0)
    )  # so the other must not head it: it checks the chunks
    held = list(client.scan_iter(match=PLAIN.tables().base + b"*"))
    assert len(held) == 2  # the head, and one chunk


def test_a_base_whose_chunks_were_swept_is_not_headed(client: Client) -> None:
    """A second roll-up starts, and sweeps, between the first one's chunks and its head."""
    folded(client, BUSY[:60], [20])
    rollup = Rollup(client, Settings())
    rollup.read()
    rollup.store()
    head, guard = client.get(PLAIN.tables().base), rollup._guard

    def late(*arguments: object) -> None:
        Rollup(client, Settings())
        guard(*arguments)  # type: ignore[arg-type]

    rollup._guard = late  # type: ignore[method-assign,assignment]
    with pytest.raises(Overtaken):
        rollup.store()
    assert client.get(PLAIN.tables().base) == head
    assert Rollup(client, Settings()).tables.positions == rollup.tables.positions
    client.delete(PLAIN.tables().base_chunk(head.split(b":")[0], 0))
    with pytest.raises(Hole, match="rebuild"):
        Rollup(client, Settings())
