"""No time in a record is later than the record's own timestamp (law 14).

The timestamp is the clock of the process that wrote the record, and no broker takes one far ahead
(`infra.kafka.kafka_client`). So an event that claims to be of 2062 is one of the moment it was written.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.alphabet import Millis

MILLIS: Final = frozenset({"occurred_at", "received_at", "at", "first", "newest"})
SECONDS: Final = frozenset({"last"})
"""Names of the fields that hold times, in the records of `events` and in what they hold."""


def bound(record: Any, timestamp: Millis) -> None:
    """Sets every time in a record, at any depth, that is later than `timestamp` to it, in place."""
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if name in MILLIS:
            if value > timestamp:
                setattr(record, name, max(timestamp, 0))
        elif name in SECONDS:
            if value > timestamp // 1000:
                setattr(record, name, max(timestamp // 1000, 0))
        else:
            for held in value if isinstance(value, tuple) else (value,):
                if not isinstance(held, msgspec.Struct):
                    break  # a tuple holds values of one type
                bound(held, timestamp)
