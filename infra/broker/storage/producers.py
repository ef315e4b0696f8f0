"""Idempotent producers of one partition: the last batches, and the check of the next one.

The rules are Kafka's `ProducerStateManager`. A repeat of one of the last five batches is answered
with its offset. A gap, an overlap or an older batch is out of order. An older epoch is fenced; a
newer one must begin at sequence 0. An unknown producer may begin at any sequence.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from infra.broker.codes import Code, Refused

BATCHES_PER_PRODUCER: Final = 5
MAX_SEQUENCE: Final = 2**31 - 1
MAX_PRODUCERS: Final = 10_000  # a partition; the longest idle one is dropped first


class Appended(NamedTuple):
    """Sequence numbers (inclusive) and first offset of a batch that is in the log."""

    first: int
    last: int
    offset: int


class Producers:
    """Epoch and last batches by producer id. Rebuilt from the log's headers on start."""

    def __init__(self) -> None:
        self._producers: dict[int, tuple[int, list[Appended]]] = {}

    def __len__(self) -> int:
        return len(self._producers)

    def duplicate(self, producer: int, epoch: int, first: int, count: int) -> int | None:
        """The offset of this same batch where it was appended before; None for the next batch.

        Errors: `Refused` with INVALID_PRODUCER_EPOCH or OUT_OF_ORDER_SEQUENCE.
        """
        entry = self._producers.get(producer)
        if entry is None:
            return None
        current_epoch, batches = entry
        if epoch < current_epoch:
            raise Refused(Code.INVALID_PRODUCER_EPOCH, "producer epoch is older than the log's")
        if epoch > current_epoch:
            if first != 0:
                raise Refused(Code.OUT_OF_ORDER_SEQUENCE, "a new epoch must begin at sequence 0")
            return None
        last = last_sequence(first, count)
        for batch in batches:
            if (batch.first, batch.last) == (first, last):
                return batch.offset
        if first != last_sequence(batches[-1].last, 2):
            raise Refused(Code.OUT_OF_ORDER_SEQUENCE, "sequence does not follow the last one")
        return None

    def record(self, producer: int, epoch: int, first: int, count: int, offset: int) -> None:
        """Records an appended batch."""
        entry = self._producers.pop(producer, None)  # put back below: the order is that of use
        batches = entry[1] if entry is not None and entry[0] == epoch else []
        batches.append(Appended(first, last_sequence(first, count), offset))
        del batches[:-BATCHES_PER_PRODUCER]
        self._producers[producer] = (epoch, batches)
        if len(self._producers) > MAX_PRODUCERS:
            del self._producers[next(iter(self._producers))]


def last_sequence(first: int, count: int) -> int:
    """Sequence of the last of `count` records; sequences wrap to 0 after 2^31 - 1.

    >>> last_sequence(2**31 - 1, 2)
    0
    """
    return (first + count - 1) & MAX_SEQUENCE
