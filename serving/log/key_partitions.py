"""The partitions of many keys at once, as `schemas.identity.partition_of` has the one of a key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from schemas.identity import partition_of

MIN_KEYS: Final = 16
"""Fewer keys cost less one by one: 3 us each, and all at once 40 us and .1 us each."""
_SEED: Final = 0x9747B28C
_FACTOR: Final = np.uint32(0x5BD1E995)


def partitions_of(keys: Sequence[bytes], partitions: int) -> list[int]:
    """The partition of each key among `partitions`. Keys of one length are hashed together.

    >>> partitions_of([b"%08d" % n for n in range(99)], 7)[42] == partition_of(b"00000042", 7)
    True
    """
    size = len(keys[0]) if keys else 0
    if len(keys) < MIN_KEYS or not size or {*map(len, keys)} != {size}:
        return [partition_of(key, partitions) for key in keys]
    # murmur2 of four bytes at a time; what is left at the end of a key is padded with zeros
    whole = size // 4
    padded = np.zeros((len(keys), 4 * (whole + 1)), np.uint8)
    padded[:, :size] = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), size)
    words = padded.view("<u4")
    mixed = words[:, :whole] * _FACTOR
    mixed ^= mixed >> 24
    mixed *= _FACTOR
    hashes = np.full(len(keys), _SEED ^ size, np.uint32)
    for column in mixed.T:
        hashes *= _FACTOR
        hashes ^= column
    if size % 4:
        hashes ^= words[:, whole]
        hashes *= _FACTOR
    hashes ^= hashes >> 13
    hashes *= _FACTOR
    hashes ^= hashes >> 15
    found: list[int] = ((hashes & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)).tolist()
    return found
