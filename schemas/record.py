"""One record for the log: its key, its partition, its bytes, its headers."""

from __future__ import annotations

from typing import NamedTuple

from schemas.headers import Headers


class Record(NamedTuple):
    """One record for the log, with the partition that its maker chose."""

    key: bytes
    partition: int
    value: bytes
    headers: Headers = ()
