"""Cursors: the items that a list has shown so far, kept by the client; opaque, and harmless there.

An item of a group is kept as its group, of which no later page shows a variant.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from schemas.identity import group_hash, item_hash
from schemas.reject import Rejected

VERSION: Final = b"\x01"
MAX_ITEMS_PER_LIST: Final = 500
"""Items that one list pages through; the cursor has 2.7 kB then."""
MAX_LENGTH: Final = (1 + 4 * MAX_ITEMS_PER_LIST + 2) // 3 * 4
"""Characters of a cursor."""
MAX_REMEMBERED: Final = 1 << 15
"""Items whose hash is kept, the last ones shown."""
_LOW_32_BITS: Final = 0xFFFFFFFF


def encode(before: bytes, items: Iterable[tuple[str, str]]) -> str | None:
    """The cursor after a page of `items`, (item id, group or ""); `before` is the decoded cursor of the page
    itself.

    None beyond `MAX_ITEMS_PER_LIST` items: the list ends there.
    """
    shown = before + b"".join([_low_bits(*item) for item in items])
    if len(shown) > 4 * MAX_ITEMS_PER_LIST:
        return None
    return base64.urlsafe_b64encode(VERSION + shown).rstrip(b"=").decode()


@lru_cache(MAX_REMEMBERED)
def _low_bits(item_id: str, group: str) -> bytes:
    # a hash takes 1 us, and the items of answers come again
    value = group_hash(group) if group else item_hash(item_id)
    return (value & _LOW_32_BITS).to_bytes(4, "little")


def decode(text: str, field: str = "cursor") -> bytes:
    """The low 32 bits of the hash of each item shown, or of its group, u32 LE. Errors: `Rejected` malformed.

    >>> decode(encode(b"", [("a", "")])) == decode(encode(b"", [("a", ""), ("b", "")]))[:4]
    True
    """
    try:
        shown = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Rejected(field, "malformed") from None
    if shown[:1] != VERSION or len(shown) % 4 != 1 or len(shown) > 4 * MAX_ITEMS_PER_LIST + 1:
        raise Rejected(field, "malformed")
    return shown[1:]
