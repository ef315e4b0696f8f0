"""What a relay has sent: its stored position, or else the highest numbers in the log (law 7)."""

from __future__ import annotations

from itertools import chain
from typing import Final, NamedTuple

from infra.kafka import fetch, kafka_client
from infra.kafka.names import topic_partition
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from schemas import events
from schemas.alphabet import Millis
from schemas.events import Merge, merge_number
from schemas.keys import Keyspace
from schemas.state import fences
from schemas.topics import EVENTS

Number = tuple[int, int]
"""(offset, n) of a record that a partition's fold emitted."""
NONE_SENT: Final[Number] = (-1, 0)
_MERGE: Final = b'{"kind":"merge"'


class Relayed(NamedTuple):
    """The highest number sent from an outbox to the topic with this id."""

    topic: str
    number: Number

    @classmethod
    def read(cls, value: bytes | None) -> Relayed | None:
        """Decodes a stored position; None where it is missing or unreadable: then the log is read."""
        number_text, _, topic = (value or b"").partition(b" ")
        try:
            return cls(topic.decode(), merge_number(number_text)) if topic else None
        except ValueError:
            return None

    def stored(self) -> bytes:
        return b"%d-%d %b" % (*self.number, self.topic.encode())


def sent_before(
    settings: Settings, client: Client, partitions: int, keyspace: Keyspace
) -> dict[int, Number]:
    """By source partition, the highest number that the log holds.

    Up to their fences the folds have stored what they received; beyond the fences the log is read, which is
    short unless the folds lag far behind. Errors: Kafka's, Redis's.
    """
    highest: dict[int, Number] = {}
    start: dict[int, int] = {}
    for p in range(partitions):
        start[p], received = _received(client, p, keyspace)
        _raise(highest, received)
    _raise_by_log(highest, settings, start)
    return highest


def _raise(highest: dict[int, Number], numbers: dict[int, Number]) -> None:
    for source, at in numbers.items():
        highest[source] = max(highest.get(source, NONE_SENT), at)


def _received(client: Client, partition: int, keyspace: Keyspace) -> tuple[int, dict[int, Number]]:
    """A fold's offset, and the numbers that it has received up to there, read in one transaction."""
    with client.pipeline(transaction=True) as pipe:
        pipe.get(keyspace.fence("people", partition))
        pipe.hgetall(keyspace.received(partition))
        fence, received = pipe.execute()
    if fence is None:
        return 0, {}
    return fences.decode(fence).offset, {
        int(p): merge_number(at) for p, at in redis_client.fields(received).items()
    }


def _raise_by_log(highest: dict[int, Number], settings: Settings, start: dict[int, int]) -> None:
    consumer = fetch.consumer(settings)
    places = {topic_partition(settings, EVENTS.name, p): at for p, at in start.items()}
    try:
        consumer.assign(list(places))
        bounds = kafka_client.bounds(consumer, list(places))
        for place, (begin, end) in bounds.items():
            # a fence beyond the end belongs to another log: its flow refuses to start
            consumer.seek(place, max(min(places[place], end), begin))
        while any(consumer.position(place) < end for place, (_, end) in bounds.items()):
            for pieces in consumer.poll(200).values():
                for value, at in chain.from_iterable(
                    zip(piece.values, piece.timestamps, strict=True) for piece in pieces
                ):
                    # a cheap check first: nearly every record is an action
                    if value and value.startswith(_MERGE):
                        _raise(highest, _merge_number(value, at))
    finally:
        consumer.close()


def _merge_number(value: bytes, timestamp: Millis) -> dict[int, Number]:
    merge = events.decode(value, timestamp)
    return {merge.source: (merge.offset, merge.n)} if isinstance(merge, Merge) else {}
