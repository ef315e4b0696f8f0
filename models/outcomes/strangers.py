"""What is kept of a stranger: an id that was shown slates, and has done nothing yet. Its form has a bound.

An entry is the account as it would be stored (`layout`), cut to `MAX_ACCOUNT_BYTES`: the newest slate that
fits, older ones where there is room, and the units. What they were shown is what its slates hold. Entries lie
together in buckets, by a hash of the person, so that a reader who knows the person finds theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from struct import Struct
from typing import Final, NamedTuple

import xxhash

from models.kernels.loading import kernel
from models.outcomes import impressions, layout, open_slates
from models.outcomes.open_slates import Account

BUCKETS: Final = 8192
"""Of a partition. For life, as the form: another number needs a rebuild."""
VERSION: Final = 1
"""The first byte of a bucket."""
_HEAD: Final = Struct("<16sQH")
"""Of an entry: the pseudonym's bytes, its order, the bytes of the account."""
MAX_ENTRY_BYTES: Final = 250
MAX_ACCOUNT_BYTES: Final = MAX_ENTRY_BYTES - _HEAD.size
_NO_SLATES: Final = layout.write(layout.Plain(0, 0, (), (), b"", (), b"", False, False)) or b""
MAX_UNITS: Final = (MAX_ACCOUNT_BYTES - len(_NO_SLATES)) // 22
"""So many fit without any slate."""
_UNREADABLE: Final = "a bucket of strangers cannot be read: rebuild"
_PSEUDONYM: Final = re.compile("[0-9a-f]{32}")
_xxh = xxhash.xxh3_64_intdigest


class Entry(NamedTuple):
    """`order`: above that of all who were shown a slate before. `stored`: the account as it is stored."""

    order: int
    stored: bytes


def has_form(person: str) -> bool:
    """Whether the name has the form of a pseudonym: 32 lower hexadecimal digits. No other is a stranger.

    >>> has_form("0a" * 16), has_form("0A" * 16), has_form("0a 0b")
    (True, False, False)
    """
    return _PSEUDONYM.fullmatch(person) is not None


def bucket_of(person: str) -> int:
    """The bucket of a pseudonym."""
    return _xxh(person.encode()) % BUCKETS


def write_bucket(entries: Mapping[str, Entry]) -> bytes:
    """The entries of a bucket by person, oldest first, as they are stored: `VERSION`, then of each `_HEAD`
    and the account. b"" for none."""
    parts = [
        part
        for person, (order, stored) in entries.items()
        for part in (_HEAD.pack(bytes.fromhex(person), order, len(stored)), stored)
    ]
    return bytes((VERSION,)) + b"".join(parts) if parts else b""


def read_bucket(blob: bytes | None) -> dict[str, Entry]:
    """The opposite. Errors: ValueError for other bytes."""
    found: dict[str, Entry] = {}
    if not blob:
        return found
    if blob[0] != VERSION:
        raise ValueError(_UNREADABLE)
    at = 1
    while at < len(blob):
        start = at + _HEAD.size
        if start > len(blob):
            raise ValueError(_UNREADABLE)
        person, order, size = _HEAD.unpack_from(blob, at)
        at = start + size
        if at > len(blob):
            raise ValueError(_UNREADABLE)
        found[person.hex()] = Entry(order, blob[start:at])
    return found


def find(blob: bytes, person: str) -> bytes | None:
    """The account of `person` in a bucket; None where they have none. Errors: ValueError for other bytes,
    where they may hold the person."""
    if not has_form(person) or bytes.fromhex(person) not in blob:
        return None
    entry = read_bucket(blob).get(person)
    return entry.stored if entry else None


def cut(stored: bytes) -> bytes:
    """A stored account without what does not fit `MAX_ACCOUNT_BYTES`: the oldest slates, as many as it takes,
    then the last items of the newest one. Its units keep their counts."""
    if len(stored) <= MAX_ACCOUNT_BYTES:
        return stored
    if kernel is not None:
        made = bytearray(MAX_ACCOUNT_BYTES)
        out = kernel.ffi.from_buffer("uint8_t[]", made)
        n = kernel.lib.strangers_cut(stored, len(stored), MAX_UNITS, out, len(made))
        if n > 0:
            return bytes(made[:n])
    return cut_by_python(stored)


def cut_by_python(stored: bytes) -> bytes:
    account = open_slates.decode(stored)
    # what a stranger cannot have, but for what an earlier version stored
    account.touched, account.unit_sets = b"", []
    account.waiting, account.links, account.conversions = [], None, []
    while len(made := open_slates.encode(account)) > MAX_ACCOUNT_BYTES and _drop(account):
        pass
    return made


def _drop(account: Account) -> bool:
    """Drops the next thing that goes. Whether there was one."""
    if len(account.slates) > 1:
        del account.slates[0]
    elif account.slates and account.slates[0].states:
        slate = account.slates[0]
        slate.items, slate.states = slate.items[:-8], slate.states[:-1]
        if slate.explored >= len(slate.states):
            slate.explored = -1
    elif account.slates:
        account.slates = []
    elif len(account.units) > MAX_UNITS:
        account.units = account.units[:MAX_UNITS]
    else:
        return False
    return True


def shown(stored: bytes) -> bytes:
    """What the slates of a stored account showed, as `impressions` stores it; b"" for nothing."""
    if kernel is not None:
        made = bytearray(impressions.MAX_BYTES)
        out = kernel.ffi.from_buffer("uint8_t[]", made)
        n = kernel.lib.strangers_shown(stored, len(stored), out)
        if n >= 0:
            return bytes(made[:n])
    return shown_by_python(stored)


def shown_by_python(stored: bytes) -> bytes:
    held = b""
    for slate in open_slates.decode(stored).slates:
        if slate.states:
            held = impressions.updated_by_numpy(held, slate.items, slate.at // 1000)
    return held
