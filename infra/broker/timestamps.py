"""Record times: the producer's, within bounds, or the broker's own."""

from __future__ import annotations

import struct

from crc32c import crc32c

from infra.broker.batch import CRC_FROM, HEADER, LOG_APPEND_TIME_BIT, Header
from infra.broker.codes import Code, Refused
from infra.broker.configs import Rules


def check_time(header: Header, rules: Rules, now: int) -> None:
    """Errors: `Refused` with INVALID_TIMESTAMP too far from `now`, in ms since 1970."""
    ahead = max(header.max_time, header.base_time) - now
    if ahead > rules.max_ahead or (header.base_time >= 0 and -ahead > rules.max_behind):
        raise Refused(Code.INVALID_TIMESTAMP, "record timestamp too far from the broker's clock")


def with_append_time(records: bytes, header: Header, now: int) -> tuple[bytes, Header]:
    """The batch with the broker's time as every record's, and a checksum that fits."""
    header = header._replace(attributes=header.attributes | LOG_APPEND_TIME_BIT, max_time=now)
    data = bytearray(HEADER.pack(*header))
    data += memoryview(records)[HEADER.size :]
    header = header._replace(crc=crc32c(memoryview(data)[CRC_FROM:]))
    struct.pack_into(">I", data, CRC_FROM - 4, header.crc)
    return bytes(data), header
