"""Identifiers: pseudonyms of people, hashes of items and categories, partitions of keys."""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from typing import Final

from schemas.alphabet import Pseudonym
from schemas.reject import Rejected

MAX_ID_BYTES = 256
NOT_PEOPLE: Final = frozenset({"null", "undefined", "[object object]", "nan", "none"})
"""What programs write for nothing, without case: no id of a person."""
NOT_ITEMS: Final = frozenset({"undefined", "[object Object]"})
"""The same for items, whose ids may be words such as ``None``."""
_BLANKS: Final = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u200b\u2060\ufeff"
"""All white space, and what has no width: a zero-width space, a word joiner, a byte order mark."""


def check_text(value: str, field: str) -> str:
    """`value`, if it is 1 to 256 bytes of UTF-8 without control characters; else `Rejected`."""
    if not value:
        raise Rejected(field, "empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise Rejected(field, "not_utf8") from None
    if size > MAX_ID_BYTES:
        raise Rejected(field, "too_long")
    if not value.isprintable() and any(c < " " or "\x7f" <= c <= "\x9f" for c in value):
        raise Rejected(field, "control_character")
    return value


def trimmed(value: str) -> str:
    """`value` in Unicode's form NFC (UAX #15), without blanks at its ends.

    >>> trimmed(" sale\u00a0"), trimmed("\u200b ")
    ('sale', '')
    """
    # NFC changes no ASCII, whose one printable blank is the space
    if value.isascii() and value.isprintable():
        return value.strip(" ")
    return unicodedata.normalize("NFC", value).strip(_BLANKS)


def check_id(value: str, field: str, blank: str = "empty") -> str:
    """The id that `value` spells: in Unicode's form NFC (UAX #15), without blanks at its ends, so that ids
    which look the same are the same. Every id that is compared passes here.

    Errors: `Rejected` as `check_text`'s, with the code `blank` where nothing but blanks is there.

    >>> check_id(" cafe\u0301 ", "item_id") == check_id("\ufeffcaf\u00e9\u200b", "item_id")
    True
    """
    # NFC changes no ASCII, whose one blank is the space
    if value.isascii() and value.isprintable():
        text = value.strip(" ")
        if 0 < len(text) <= MAX_ID_BYTES:
            return text
        raise Rejected(field, "too_long" if text else blank)
    text = unicodedata.normalize("NFC", check_text(value, field)).strip(_BLANKS)
    if not text:
        raise Rejected(field, blank)
    return check_text(text, field)


def check_item_id(value: str, field: str) -> str:
    """`check_id` for an item. Errors: `Rejected`; ``not_an_id`` for blanks alone and for `NOT_ITEMS`."""
    text = check_id(value, field, "not_an_id")
    if text in NOT_ITEMS:
        raise Rejected(field, "not_an_id")
    return text


def check_person_id(value: str, field: str, not_ids: frozenset[str] = NOT_PEOPLE) -> str:
    """`check_id` for a person. Errors: `Rejected`; ``not_an_id`` for blanks alone and for the words
    `not_ids`, without case (`str.casefold`)."""
    text = check_id(value, field, "not_an_id")
    if text.casefold() in not_ids:
        raise Rejected(field, "not_an_id")
    return text


def pseudonym(key_id: int, key: bytes, user_id: str, *, epoch: int = 0) -> Pseudonym:
    """2 hex of key id + 30 hex of HMAC-SHA256(key, epoch || user id) (RFC 2104).

    `epoch` (u32, big-endian) is 0 unless the person was erased: after an erasure the same
    user id becomes a new person. Errors: ValueError where `key_id` is not in 0..255.

    >>> pseudonym(1, b"k" * 32, "u1")[:2]
    '01'
    """
    if not 0 <= key_id <= 255:
        raise ValueError("key_id must be in 0..255")
    digest = hmac.digest(key, epoch.to_bytes(4, "big") + user_id.encode(), "sha256")
    return Pseudonym(f"{key_id:02x}{digest.hex()[:30]}")


def anonymous(key_id: int, key: bytes, anonymous_id: str) -> Pseudonym:
    """The pseudonym of an anonymous id: never that of a user whose id is spelled the same.

    No id holds a NUL, so the marked text is no user id.
    """
    return pseudonym(key_id, key, f"\0anonymous\0{anonymous_id}")


def item_hash(item_id: str) -> int:
    """64-bit BLAKE2b (RFC 7693) of the id, little-endian, never 0: what rows, facts and tables hold.

    A dense number would be a second input to the fold; a hash is a function of the event alone.
    """
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "little") or 1


def group_hash(group_id: str) -> int:
    """The hash of a group of items, as `item_hash`: never that of an item, since no id holds a NUL."""
    return item_hash(f"\0group\0{group_id}")


def category_hash(category: str) -> int:
    """32-bit BLAKE2b of a category's name; 0 is "no category"."""
    if not category:
        return 0
    return int.from_bytes(hashlib.blake2b(category.encode(), digest_size=4).digest(), "little") or 1


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of `key` among `partitions`, by Kafka's murmur2 (its Java client's default).

    One function for every producer and reader, since the defaults of clients differ on 149 of 200 keys.
    """
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    # Austin Appleby's MurmurHash2, 32 bit, with Kafka's seed
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
