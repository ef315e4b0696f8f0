"""What reads of ids that nobody has seen leave in Redis: their served records, folded.

Broker, Redis and the flows people, rollup and relay of a system of its own, which people have used before:
tables by item are there. The served records of one read an id are written as serving writes them, in frames,
`ITEMS_A_SLATE` items each; Redis's memory is read once the flows have folded them and the roll-up has trimmed
the delta log.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from infra.apps.bench import audience, cpu
from infra.apps.bench.load import NotMeasured
from infra.apps.bench.replay import FLOWS
from infra.apps.bench.services import SERVICES, Announce, up, wait
from infra.frames import framed
from infra.kafka import kafka_client
from infra.kafka.names import broker_name
from infra.local import home
from infra.local.plan import plan
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from schemas import events
from schemas.events import Assigned, Served
from schemas.identity import anonymous, partition_of
from schemas.record import Record
from schemas.state import fences
from schemas.topics import EVENTS

READS: Final = (100_000, 1_000_000)
"""Redis's memory is read after so many."""
ITEMS_A_SLATE: Final = 10
"""As many as a read gets that asks for no number."""
ITEMS: Final = 2_000
STEP_MS: Final = 5
RECORDS_A_FRAME: Final = 50
_ENVIRONMENT: Final = {"FRESHET_BASE_SECONDS": "2"}
"""The roll-up trims the delta log as often: what waits for it is no stranger's."""
EVENTS_BEFORE: Final = 20_000
"""Of people, in the log before the first read."""
LAST_READS: Final = 40
"""Folded by themselves: the last entry of a delta log stays in Redis until another comes."""
_CHUNK: Final = 20_000
"""Reads that are folded before the next ones are written, so that none waits long."""
_SETTLE_SECONDS: Final = 1.0
_KEY: Final = (1, b"the bench's pseudonyms are no secret")


class Strangers(NamedTuple):
    """`grown`: by number of reads so far, bytes that Redis's memory has grown by. `held`: strangers in the
    rings at the end. `people_us`: CPU of `people` a served record, µs."""

    grown: dict[int, int]
    held: int
    people_us: float
    partitions: int


def measure(
    folder: Path, announce: Announce = lambda line: None, reads: tuple[int, ...] = READS
) -> Strangers:
    """Errors: `NotMeasured`."""
    with home.claimed(folder) as directory:
        planned = plan(directory, _ENVIRONMENT)
        settings = planned.settings
        with up(planned, SERVICES) as services, redis_client.connect(settings) as client:
            wait(services, lambda: services.was_ready, "broker and Redis are not ready")
            with up(planned, FLOWS) as flows:
                both, grown, written = (services, flows), dict[int, int](), Counter[int]()
                wait(both, lambda: flows.was_ready, "the flows are not ready")
                pids = {"people": [flows.children["people"].pid or 0]}
                folded = partial(_folded, client, settings, written)
                trimmed = partial(_trimmed, client, settings)
                announce(f"strangers: writing {EVENTS_BEFORE:,} events of people")
                written.update(audience.write(settings, EVENTS_BEFORE).end_offsets)
                wait(both, folded, "the flow people is behind")
                wait(both, trimmed, "the delta log is not trimmed")
                before, used, done = _memory(client), cpu.cpu_of(pids), 0
                for count in reads:
                    announce(f"strangers: reads of {count - done:,} ids that nobody has seen")
                    for first, stop in _chunks(done, count):
                        written.update(_write(settings, first, stop))
                        wait(both, folded, "the flow people is behind")
                    done = count
                    wait(both, trimmed, "the delta log is not trimmed")
                    grown[count] = _memory(client) - before
                    announce(f"strangers: {grown[count] / 1e6:.1f} MB after {count:,} reads")
                us = cpu.per_event(used, cpu.cpu_of(pids), done)["people"]
                held = _held(client, settings)
    if not 0 < held <= settings.strangers * settings.partitions:
        raise NotMeasured(f"the rings hold {held:,} strangers")
    return Strangers(grown, held, us, settings.partitions)


def _chunks(done: int, count: int) -> Iterator[tuple[int, int]]:
    """(first, stop) of reads that are written, then folded."""
    last = max(done, count - LAST_READS)
    for first in range(done, last, _CHUNK):
        yield first, min(last, first + _CHUNK)
    yield last, count


def _write(settings: Settings, first: int, stop: int) -> Counter[int]:
    """Sends the served records of the reads `first` to `stop` - 1. How many offsets of each partition."""
    producer = kafka_client.producer(settings, linger_ms=20, batch_size=200_000)
    name, sent = broker_name(settings, EVENTS.name), Counter[int]()
    try:
        records = list(_records(settings, first, stop))
        each = RECORDS_A_FRAME * settings.partitions
        for at in range(0, len(records), each):
            for it in framed(EVENTS.name, records[at : at + each]):
                producer.send(name, it.value, it.key, list(it.headers), it.partition)
                sent[it.partition] += 1
        producer.flush()
    finally:
        producer.close()
    return sent


def _records(settings: Settings, first: int, stop: int) -> Iterator[Record]:
    chance = np.random.default_rng(first)
    ranks = audience.items(chance, (stop - first) * ITEMS_A_SLATE, ITEMS).tolist()
    for n in range(first, stop):
        start = (n - first) * ITEMS_A_SLATE
        person = anonymous(*_KEY, f"unknown-{n}")
        slate = Served(
            person=person,
            slate_id=f"{n:026d}",
            placement="home",
            received_at=audience.START_MS + STEP_MS * n,
            items=tuple(f"i{rank}" for rank in ranks[start : start + ITEMS_A_SLATE]),
            experiments=(Assigned("bench", 1, "ab"[n % 2]),),
        )
        partition = partition_of(person.encode(), settings.partitions)
        yield Record(person.encode(), partition, events.encode(slate), tuple(EVENTS.headers))


def _folded(client: Client, settings: Settings, written: Counter[int]) -> bool:
    keyspace = settings.keyspace
    partitions = sorted(written)
    held = client.mget([keyspace.fence("people", p) for p in partitions])
    offsets = [fences.decode(it).offset if it else 0 for it in held]
    return offsets == [written[p] for p in partitions]


def _trimmed(client: Client, settings: Settings) -> bool:
    """Whether each delta log has its last entry alone."""
    return all(client.xlen(settings.keyspace.deltas(p)) <= 1 for p in range(settings.partitions))


def _memory(client: Client) -> int:
    """What Redis has allocated, bytes: the least of a while, since buffers of connections come and go."""
    found, until = list[int](), time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < until:
        found.append(int(client.info("memory")["used_memory"]))
        time.sleep(0.05)
    return min(found)


def _held(client: Client, settings: Settings) -> int:
    from models.outcomes.strangers import BUCKETS, read_bucket

    held = 0
    for p in range(settings.partitions):
        names = [settings.keyspace.strangers_bucket(p, n) for n in range(BUCKETS)]
        held += sum(len(read_bucket(it)) for it in client.mget(names))
    return held
