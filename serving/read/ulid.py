"""ULIDs (github.com/ulid/spec): 48 bits of time, 80 random bits, in Crockford's base 32."""

from __future__ import annotations

from typing import Final

from schemas.alphabet import Millis

_PAIRS: Final = [
    a + b for a in "0123456789ABCDEFGHJKMNPQRSTVWXYZ" for b in "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
]


def ulid(at: Millis, random_bytes: bytes) -> str:
    """26 characters, ordered by `at` (Unix ms). `random_bytes`: 10 of them.

    >>> ulid(1_469_918_176_385, bytes(10))
    '01ARYZ6S410000000000000000'
    """
    value = at << 80 | int.from_bytes(random_bytes, "big")
    # ten bits at a time: half as many steps as characters
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])
