"""Record timestamps: the producer's, within bounds, or the broker's own."""

from __future__ import annotations

import struct

from crc32c import crc32c

from infra.broker.batch import CRC_START, HEADER, LOG_APPEND_TIME_BIT, Header
from infra.broker.codes import Code, Refused
from infra.broker.configs import LogConfig


def check_timestamp(header: Header, config: LogConfig, now: int) -> None:
    """Errors: `Refused` with INVALID_TIMESTAMP for one too far from `now`, in ms since 1970."""
    ahead = max(header.max_timestamp, header.base_timestamp) - now
    if ahead > config.max_ahead_ms or (
        header.base_timestamp >= 0 and -ahead > config.max_behind_ms
    ):
        raise Refused(Code.INVALID_TIMESTAMP, "record timestamp too far from the broker's clock")


def with_append_time(records: bytes, header: Header, now: int) -> tuple[bytes, Header]:
    """The batch with `now`, in ms, as the timestamp of every record, and the new checksum."""
    header = header._replace(attributes=header.attributes | LOG_APPEND_TIME_BIT, max_timestamp=now)
    data = bytearray(HEADER.pack(*header))
    data += memoryview(records)[HEADER.size :]
    header = header._replace(crc=crc32c(memoryview(data)[CRC_START:]))
    struct.pack_into(">I", data, CRC_START - 4, header.crc)
    return bytes(data), header
