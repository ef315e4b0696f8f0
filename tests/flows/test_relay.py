"""The outbox at work (law 7): each record reaches the log, and a restarted relay re-sends none."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.kit.commit import commit
from flows.people.fold import VERSION, PeopleFold
from flows.relay.dataflow import OtherTopic, Relay
from flows.relay.sent import NONE_SENT, Relayed, sent_before
from infra.kafka import kafka_client
from infra.kafka.reader import Topics
from infra.local import services
from infra.log_reader import Headers
from infra.settings import Settings
from infra.store import redis_client
from schemas import events
from schemas.events import Link, Merge
from schemas.identity import partition_of
from schemas.keys import PLAIN
from schemas.state import fences
from schemas.state.fences import Fence
from schemas.topics import EVENTS
from tests.flows.faults import Flow, spawn, whole_log
from tests.laws.test_commit_laws import linked_log
from tests.laws.world import T0, action, assigned, fold_log, person, served, write_of

pytestmark = pytest.mark.on_cluster

SENT = [(0, n, 1) for n in range(5, 10)]


@pytest.fixture
def client(settings: Settings) -> Iterator[Any]:
    with redis_client.connect(settings) as client:
        yield client


def merges(settings: Settings) -> list[Merge]:
    found = [
        events.decode_stored(value) for log in whole_log(settings).values() for _, value in log
    ]
    return [event for event in found if isinstance(event, Merge)]


def numbers(settings: Settings) -> list[tuple[int, int, int]]:
    return sorted((merge.source, merge.offset, merge.n) for merge in merges(settings))


def headers(settings: Settings) -> list[Headers]:
    log = Topics(settings)
    batches = [
        batch for p in range(4) for batch in log.read(EVENTS.name, p, *log.bounds(EVENTS.name, p))
    ]
    return [it for batch in batches for it in batch.headers or [()] * len(batch.offsets)]


def fold_links(settings: Settings, client: Any) -> None:
    """Folds a log with a link as partition 0 and leaves its outbox full."""
    topic = kafka_client.ensure_topics(settings)[EVENTS.name]
    log = linked_log()
    held = {0: Fence(topic.id, 4, 0, 0, VERSION)}
    commit(client, write_of(PeopleFold(held, client.mget, 86_400_000, 1000, PLAIN), log))


def step(settings: Settings, client: Any) -> int:
    """The number of records that a relay sends in its first step."""
    relay = Relay(settings, client)
    try:
        return relay.step()
    finally:
        relay.close()


def test_a_relay_sends_all_and_a_restarted_one_re_sends_none(
    settings: Settings, client: Any
) -> None:
    fold_links(settings, client)
    assert step(settings, client) == len(SENT)
    assert step(settings, client) == client.xlen(PLAIN.outbox(0)) == 0
    assert {merge.person for merge in merges(settings)} == {person(2), person(3)}
    assert all(list(it) == list(EVENTS.headers) for it in headers(settings))

    client.flushall()  # and the fold fills it again, before a relay starts
    fold_links(settings, client)
    # the fold has not reached it yet: the log has to be read
    client.delete(PLAIN.fence("people", 0))
    assert step(settings, client) == client.xlen(PLAIN.outbox(0)) == 0
    assert numbers(settings) == SENT


def test_a_relay_that_starts_over_an_empty_redis_re_sends_none(
    settings: Settings, client: Any
) -> None:
    fold_links(settings, client)
    assert step(settings, client) == len(SENT)
    client.flushall()
    relay = Relay(settings, client)  # the records that will be in the outbox were sent
    fold_links(settings, client)
    assert relay.step() == client.xlen(PLAIN.outbox(0)) == 0
    relay.close()
    assert numbers(settings) == SENT


def test_what_the_folds_have_received_need_not_be_read_again(
    settings: Settings, client: Any
) -> None:
    assert sent_before(settings, client, 4, PLAIN) == {}
    end_offsets = {p: len(log) for p, log in whole_log(settings).items()}
    for p in range(4):
        client.set(
            PLAIN.fence("people", p), fences.encode(Fence("t", 4, end_offsets[p], 0, VERSION))
        )
    client.hset(PLAIN.received(1), mapping={b"0": b"7-1", b"2": b"3-2"})
    client.hset(PLAIN.received(3), mapping={b"0": b"9-1"})
    assert sent_before(settings, client, 4, PLAIN) == {0: (9, 1), 2: (3, 2)}
    relay = Relay(settings, client)
    relay.close()
    assert relay.sent == {0: (9, 1), 1: NONE_SENT, 2: (3, 2), 3: NONE_SENT}
    for p, sent in relay.sent.items():
        topic = kafka_client.ensure_topics(settings)[EVENTS.name].id
        assert Relayed.read(client.get(PLAIN.relayed(p))) == (topic, sent)
    # a generation that was made from a snapshot begins with nothing of its own
    assert sent_before(settings, client, 4, PLAIN.in_generation(1)) == {}


def test_two_relays_at_once_repeat_records_which_the_fold_counts_once(
    settings: Settings, client: Any
) -> None:
    one, other = Relay(settings, client), Relay(settings, client)
    fold_links(settings, client)
    waiting, relayed = client.xrange(PLAIN.outbox(0)), client.get(PLAIN.relayed(0))
    assert one.step() == len(SENT)
    client.delete(PLAIN.outbox(0))
    client.set(PLAIN.relayed(0), relayed)
    for name, fields in waiting:  # the outbox as the other relay saw it before
        client.xadd(PLAIN.outbox(0), fields, id=name)
    assert other.step() == len(SENT)
    for relay in (one, other):
        relay.close()
    assert numbers(settings) == sorted(SENT * 2)
    log = whole_log(settings)
    sent = {p: [events.decode_stored(value) for _, value in records] for p, records in log.items()}
    for p, came in sent.items():
        made = [(n, T0, event) for n, event in enumerate(came)]
        if made:
            twice, once = fold_log(made, partition=p), fold_log(made[: len(made) // 2], partition=p)
            for key in (PLAIN.row(p, person(2)), PLAIN.seen(p, person(2))):
                assert twice.values.get(key) == once.values.get(key)


def test_a_recreated_topic_is_not_taken_for_one_that_was_sent(
    settings: Settings, client: Any
) -> None:
    client.set(PLAIN.relayed(0), Relayed("another topic", (1 << 40, 1)).stored())
    client.set(PLAIN.relayed(1), b"not a position")
    relay = Relay(settings, client)
    assert relay.sent == dict.fromkeys(range(4), NONE_SENT)
    relay.sent[0] = (1 << 40, 1)
    fold_links(settings, client)
    fence = fences.decode(client.get(PLAIN.fence("people", 0)))
    fence.topic_id = "made anew"
    client.set(PLAIN.fence("people", 0), fences.encode(fence))
    with pytest.raises(OtherTopic):
        relay.step()
    relay.close()
    assert client.xlen(PLAIN.outbox(0)) == len(SENT)


# -- kills ------------------------------------------------------------------------------------


def visitors(rnd: random.Random, people: int) -> list[events.Event]:
    """Each looks around under an id, says who they are, and goes on under both."""
    made: list[events.Event] = []
    for n in range(people):
        ann, user = 1000 + n, 1 + n % (people // 2)
        mine: list[events.Event] = [
            served(f"s{n}", ["i1", "i2", "i3"], ann, T0 + n, experiments=(assigned(),))
        ]
        for at, who in enumerate((ann, ann, user, ann)):
            item = f"i{rnd.randrange(1, 5)}"
            slate = f"s{n}" if at else ""
            mine.append(action(10 * n + at, who, item, "click", slate_id=slate))
        for twice in ("", "again"):
            link = Link(
                event_id=f"l{n}{twice}",
                person=person(ann),
                to=person(user if not twice else 1),
                received_at=T0 + n,
            )
            mine.insert(rnd.randrange(1, len(mine) + 1), link)
        made += mine
    return made


@pytest.mark.check
@pytest.mark.timeout(120)
def test_links_arrive_once_after_kills_and_a_wiped_redis_re_sends_none(
    settings: Settings, client: Any, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rnd, log = random.Random(seed), tmp_path / "flows.log"
    people, relay = Flow(settings, "people", log), Flow(settings, "relay", log)
    zombie = spawn(settings, "relay", log)

    def revive() -> None:
        people.revive()
        relay.revive()

    try:
        made = visitors(rnd, 300)
        kills = sorted(rnd.sample(range(100, len(made)), 6))
        producer = kafka_client.producer(settings)
        for n, event in enumerate(made):
            key = event.person.encode()
            partition = partition_of(key, settings.partitions)
            producer.send(EVENTS.name, key=key, value=events.encode(event), partition=partition)
            if n in kills:
                producer.flush()
                revive()
                # something of each is in hand: rows folded, records between outbox and log
                services.wait_until(lambda: any(client.scan_iter()), 20, "nothing is folded")
                rnd.choice((people, relay, relay)).kill()
        producer.close()
        settled(settings, client, revive)
        check_log_and_state(settings, client)
        sent = numbers(settings)

        people.kill()
        client.flushall()
        settled(settings, client, revive)
        assert numbers(settings) == sent  # one relay had sent all, the other one ran, too
        relay.kill()
        zombie.kill()
        people.kill()
        client.flushall()
        settled(settings, client, revive)
        assert numbers(settings) == sent
        check_log_and_state(settings, client)
    finally:
        for process in (people.process, relay.process, zombie):
            process.kill()
            process.wait()


def settled(settings: Settings, client: Any, meanwhile: Any) -> None:
    """Waits until all is folded, with what the outboxes sent, and the outboxes are empty."""

    def done() -> bool:
        meanwhile()
        if any(client.xlen(PLAIN.outbox(p)) for p in range(settings.partitions)):
            return False
        fences_ = [client.get(PLAIN.fence("people", p)) for p in range(settings.partitions)]
        offsets = {p: fences.decode(f).offset if f else 0 for p, f in enumerate(fences_)}
        return offsets == {p: end for p, (_, end) in bounds(settings).items()}

    for _ in range(2):  # a record under way at the first look is in the log at the second
        services.wait_until(done, 60, "the flows do not catch up")


def bounds(settings: Settings) -> dict[int, tuple[int, int]]:
    return {p: Topics(settings).bounds(EVENTS.name, p) for p in range(settings.partitions)}


def check_log_and_state(settings: Settings, client: Any) -> None:
    log = whole_log(settings)
    by_partition = {p: [(n, T0, events.decode_stored(value)) for n, value in log[p]] for p in log}
    emitted: Counter[tuple[int, int, int]] = Counter()
    for p, made in by_partition.items():
        if not made:
            continue
        memory = fold_log(made, [500], partition=p)
        for id_, _ in memory.streams.get(PLAIN.outbox(p), []):
            offset, _, n = id_.partition(b"-")
            emitted[p, int(offset), int(n)] += 1
        for prefix in (b"u", b"s", b"l", b"o", b"im"):
            here = {k: v for k, v in memory.values.items() if k.startswith(prefix + b":")}
            names = list(client.scan_iter(match=prefix + b":{%d}:*" % p, count=1000))
            assert dict(zip(names, redis_client.mget(client, names), strict=True)) == here
    assert emitted
    assert set(emitted.values()) == {1}
    assert set(numbers(settings)) == set(emitted)
