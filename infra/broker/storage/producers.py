"""Idempotent producers of one partition: what was appended last, and what may come next.

The rules are Kafka's `ProducerStateManager`: the last five batches are remembered and answered
again with their offset; a gap, an overlap or an older batch is out of order; an older epoch is
fenced; a newer one must begin at sequence 0; an unknown producer may begin anywhere.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from infra.broker.codes import Code, Refused

REMEMBERED: Final = 5
MAX_SEQUENCE: Final = 2**31 - 1
MAX_PRODUCERS: Final = 10_000  # a partition; the one idle longest goes first


class Appended(NamedTuple):
    """Sequence numbers (inclusive) and first offset of a batch that is in the log."""

    first: int
    last: int
    offset: int


class Producers:
    """Per producer id: its epoch and last batches. Rebuilt from the log's headers on start."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, list[Appended]]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def duplicate(self, producer: int, epoch: int, first: int, count: int) -> int | None:
        """The offset at which exactly this batch was appended before, or None if it is next.

        Errors: `Refused` with INVALID_PRODUCER_EPOCH or OUT_OF_ORDER_SEQUENCE.
        """
        known = self._known.get(producer)
        if known is None:
            return None
        at_epoch, batches = known
        if epoch < at_epoch:
            raise Refused(Code.INVALID_PRODUCER_EPOCH, "producer epoch is older than the log's")
        if epoch > at_epoch:
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

    def note(self, producer: int, epoch: int, first: int, count: int, offset: int) -> None:
        """Remembers a batch that was appended."""
        known = self._known.pop(producer, None)  # re-inserted below: the dict is in order of use
        batches = known[1] if known is not None and known[0] == epoch else []
        batches.append(Appended(first, last_sequence(first, count), offset))
        del batches[:-REMEMBERED]
        self._known[producer] = (epoch, batches)
        if len(self._known) > MAX_PRODUCERS:
            del self._known[next(iter(self._known))]


def last_sequence(first: int, count: int) -> int:
    """Sequence of the last of `count` records; numbers wrap to 0 after 2^31 - 1.

    >>> last_sequence(2**31 - 1, 2)
    0
    """
    return (first + count - 1) & MAX_SEQUENCE
