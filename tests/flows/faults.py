"""Driving the flows through faults: a worker that is killed, restarted and shadowed by a zombie."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kafka import TopicPartition

from flows.verify.run import verify
from infra.kafka import kafka_client
from infra.kafka.reader import Topics
from infra.settings import Settings, to_environment
from infra.store import generation, redis_client
from models.aggregates.tables import Tables
from schemas import events
from schemas.alphabet import Pseudonym
from schemas.identity import partition_of
from schemas.keys import PLAIN
from schemas.state import fences, tables
from schemas.topics import EVENTS
from tests.laws.world import action
from tests.support.started import Started, start

POISON = b'{"kind":"action","event_id":'


class Flow:
    """One flow as a process; started again whenever it is found dead, as the supervisor would."""

    def __init__(self, settings: Settings, name: str, log: Path) -> None:
        self._settings, self._name, self._log = settings, name, log
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.process = spawn(self._settings, self._name, self._log)
        self.starts += 1

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def revive(self) -> None:
        if self.process.poll() is not None:
            self.start()


def spawn(settings: Settings, name: str, log: Path) -> Started:
    command = ("infra.cli", "flows", "run", name)
    return start(*command, environment=to_environment(settings), log=log)


def traffic(n: int, people: int, rnd: random.Random) -> list[events.Action]:
    """n actions of a crowd, in sessions; a tenth of them are out of order in time."""
    crowd = [f"{rnd.getrandbits(128):032x}" for _ in range(people)]
    made = []
    for i in range(n):
        who = min(int(rnd.paretovariate(1.1)) - 1, people - 1)
        item = f"i{min(int(rnd.paretovariate(0.6)), 800)}"
        e = action(i, 0, item, rnd.choice(["view", "click", "purchase", "hide"]))
        back = rnd.choice([0] * 9 + [20_000])
        made.append(
            events.Action(
                **{
                    **{f: getattr(e, f) for f in e.__struct_fields__},
                    "person": Pseudonym(crowd[who]),
                    "session_id": f"s{who}-{i // 2000}" if who % 2 else "",
                    "occurred_at": e.occurred_at - back,
                }
            )
        )
    return made


def produce(
    settings: Settings,
    made: Sequence[events.Event],
    rnd: random.Random,
    meanwhile: Callable[[int], None],
) -> int:
    """Sends the traffic shuffled, 5 % of it twice, with some poison. Answers the number of records."""
    producer = kafka_client.producer(settings, linger_ms=5)
    order = sorted(range(len(made)), key=lambda i: i + rnd.random() * 40)
    sent = 0
    for n, i in enumerate(order):
        again = [order[rnd.randrange(n + 1)]] if rnd.random() < 0.05 else []
        for j in [i, *again]:
            key = made[j].person.encode()
            producer.send(
                EVENTS.name,
                key=key,
                value=events.encode(made[j]),
                partition=partition_of(key, settings.partitions),
            )
            sent += 1
        if n % 3000 == 77:
            producer.send(
                EVENTS.name, key=b"poison", value=POISON, partition=n % settings.partitions
            )
            sent += 1
        meanwhile(n)
    producer.flush()
    producer.close()
    return sent


def whole_log(settings: Settings) -> dict[int, list[tuple[int, bytes]]]:
    """Every record of `events`: partition -> (offset, value), read with a consumer of our own."""
    consumer = kafka_client.consumer(settings, max_poll_records=5000)
    topics = [TopicPartition(EVENTS.name, p) for p in range(settings.partitions)]
    consumer.assign(topics)
    consumer.seek_to_beginning()
    end_offsets = consumer.end_offsets(topics)
    log: dict[int, list[tuple[int, bytes]]] = {p: [] for p in range(settings.partitions)}
    while any(consumer.position(tp) < end for tp, end in end_offsets.items()):
        for tp, records in consumer.poll(500).items():
            log[tp.partition] += [(r.offset, r.value) for r in records]
    consumer.close()
    return log


def behind(settings: Settings, client: Any) -> str:
    """The fences or stored tables that are behind the end offsets; "" where none is."""
    held = stored_tables(client)
    return _behind(settings, client, held.positions if held else [])


def behind_published(settings: Settings, client: Any) -> str:
    """As `behind`, for the published tables: tables are stored once a minute only."""
    meta = client.get(generation.live_keys(client, settings).tables().meta)
    return _behind(settings, client, tables.META_DECODER.decode(meta).positions if meta else [])


def _behind(settings: Settings, client: Any, positions: list[int]) -> str:
    log, partitions = Topics(settings), range(settings.partitions)
    keyspace = generation.live_keys(client, settings)
    end_offsets = [log.bounds(EVENTS.name, p)[1] for p in partitions]
    held = redis_client.mget(client, [keyspace.fence("people", p) for p in partitions])
    fence_offsets = [fences.decode(f).offset if f else 0 for f in held]
    caught_up = end_offsets == fence_offsets == positions
    return "" if caught_up else f"ends {end_offsets}, fences {fence_offsets}, tables {positions}"


def stored_tables(client: Any) -> Tables | None:
    names = PLAIN.in_generation(generation.live(client, PLAIN)).tables()
    while head := client.get(names.base):
        data = client.mget(names.base_chunks(head))
        if all(data):  # else a newer one took its place meanwhile
            return Tables.load(b"".join(data))
    return None


def wait(behind: Callable[[], str], meanwhile: Callable[[], None], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while still := behind():
        meanwhile()
        assert time.monotonic() < until, still
        time.sleep(0.1)


def wrong(settings: Settings) -> dict[str, int]:
    """Everything in Redis against the slow definitions over the log: what is wrong, by kind."""
    report = verify(settings, Topics(settings))
    assert report.people_checked > 0
    for mismatch in report.mismatches[:20]:
        print(mismatch)
    return dict(report.wrong())
