"""What a consumer of the log has polled, the records of frames one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from infra.frames import spread
from infra.log_reader import Batch, Headers


class Single(NamedTuple):
    partition: int
    offset: int
    index_in_frame: int
    timestamp: int
    key: bytes
    value: bytes
    headers: Headers


def singles(topic: str, polled: Iterable[Any]) -> Iterator[Single]:
    """The records of `topic` that these records of a consumer are, or hold. None may be a bad frame."""
    for record in polled:
        at, offset = record.partition, record.offset
        batch = Batch(
            at,
            offset,
            offset + 1,
            [offset],
            [record.timestamp],
            [record.value],
            keys=[record.key],
            headers=[tuple(record.headers)],
        )
        batch = spread(topic, batch)
        assert not batch.refused
        for n, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
            yield Single(
                at,
                offset,
                batch.index(n),
                record.timestamp,
                key or b"",
                value or b"",
                batch.headers[n],
            )
