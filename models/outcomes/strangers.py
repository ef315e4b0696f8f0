"""What is kept of a stranger: an id that was shown slates, and has done nothing yet. Its form has a bound.

It is the account as it would be stored (`layout`), cut to `MAX_ACCOUNT_BYTES`: the newest slate that fits,
older ones where there is room, and the units. What they were shown is what its slates hold. In a bucket it
lies packed (`pack`), and each takes at most `MAX_ENTRY_BYTES`. Entries lie together in buckets, by a hash of
the person, so that a reader who knows the person finds theirs.

A packed account, little-endian: u1 number of units, and 16 times that of slates; u1 number of items; newest
u6; newest - since u5; of each unit experiment u4, version u2, variant u4, slots served u2; the items u8, each
once, in the order in which the slates name them; of each slate id u8, newest - at u4, placement u4, number of
items u1, explored + 1 u1, units u1 (a bit each), and where the highest bit of the number is set, the index u1
of each item: else they are the first ones. What does not fit follows the byte `_WHOLE` as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from struct import Struct, error
from typing import Final, NamedTuple

import xxhash

from models.kernels.loading import kernel
from models.outcomes import impressions, layout, open_slates
from models.outcomes.open_slates import Account

BUCKETS: Final = 2048
"""Of a partition: a key each, of some 10 strangers where there are 20,000. For life, as the form: another
number needs a rebuild."""
VERSION: Final = 1
"""The first byte of a bucket."""
_HEAD: Final = Struct("<16sIBB")
"""Of an entry: the pseudonym's bytes, its order (u5), the bytes of the packed account."""
_VERSION: Final = bytes((VERSION,))
_MAX_ORDER_LOW: Final = 0xFFFF_FFFF
MAX_ENTRY_BYTES: Final = 250
MAX_ACCOUNT_BYTES: Final = 224
"""As stored; packed it has at most 4 more."""
_NO_SLATES: Final = layout.write(layout.Plain(0, 0, (), (), b"", (), b"", False, False)) or b""
MAX_UNITS: Final = (MAX_ACCOUNT_BYTES - len(_NO_SLATES)) // 22
"""So many fit without any slate."""
_UNREADABLE: Final = "a bucket of strangers cannot be read: rebuild"
_PSEUDONYM: Final = re.compile("[0-9a-f]{32}")
_xxh = xxhash.xxh3_64_intdigest


class Entry(NamedTuple):
    """`order`: above that of all who were shown a slate before; `packed`: the account."""

    order: int
    packed: bytes

    @property
    def stored(self) -> bytes:
        """The account as it is stored. Errors: ValueError for bytes that are none."""
        return unpack(self.packed)


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
    and the packed account. b"" for none."""
    return join_entries([write_entry(person, entry) for person, entry in entries.items()])


def write_entry(person: str, entry: Entry) -> bytes:
    """An entry as it lies in its bucket."""
    order, packed = entry
    name = bytes.fromhex(person)
    return _HEAD.pack(name, order & _MAX_ORDER_LOW, order >> 32, len(packed)) + packed


def join_entries(written: Collection[bytes]) -> bytes:
    """A bucket of what `write_entry` gives, oldest first; b"" for none."""
    return _VERSION + b"".join(written) if written else b""


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
        person, low, high, size = _HEAD.unpack_from(blob, at)
        at = start + size
        if at > len(blob):
            raise ValueError(_UNREADABLE)
        found[person.hex()] = Entry(low | high << 32, blob[start:at])
    return found


def find(blob: bytes, person: str) -> bytes | None:
    """The account of `person` in a bucket; None where they have none. Errors: ValueError for other bytes,
    where they may hold the person."""
    if not has_form(person) or (name := bytes.fromhex(person)) not in blob:
        return None
    if blob[0] != VERSION:
        raise ValueError(_UNREADABLE)
    at, end = 1, len(blob)
    while at + _HEAD.size <= end:
        start = at + _HEAD.size
        at, found = start + blob[start - 1], blob.startswith(name, at)
        if found and at <= end:
            return unpack(blob[start:at])
    if at != end:
        raise ValueError(_UNREADABLE)
    return None


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


# -- packed -------------------------------------------------------------------------------

_WHOLE: Final = b"\xff"
_NUMBERS: Final = Struct("<BBIHIB")
"""Units and slates, items, newest u6, newest - since u5."""
_UNIT: Final = Struct("<IHIH")
_SLATE: Final = Struct("<QIIBBB")
_MAX_SLATES: Final = 14
_MAX_SLATE_ITEMS: Final = 127
_INDEXED: Final = 128
_SERVED: Final = 1
_MAX_PACKED: Final = 2 * MAX_ACCOUNT_BYTES
_MAX_UNPACKED: Final = 4096


def pack(stored: bytes) -> bytes:
    """A stored account of at most `MAX_ACCOUNT_BYTES`, packed."""
    if kernel is not None:
        made = bytearray(_MAX_PACKED)
        out = kernel.ffi.from_buffer("uint8_t[]", made)
        n = kernel.lib.strangers_pack(stored, len(stored), out, len(made))
        if n > 0:
            return bytes(made[:n])
    return pack_by_python(stored)


def unpack(packed: bytes) -> bytes:
    """The opposite of `pack`. Errors: ValueError for bytes that it does not give."""
    if kernel is not None:
        made = bytearray(_MAX_UNPACKED)
        out = kernel.ffi.from_buffer("uint8_t[]", made)
        n = kernel.lib.strangers_unpack(packed, len(packed), out, len(made))
        if n > 0:
            return bytes(made[:n])
    return unpack_by_python(packed)


def pack_by_python(stored: bytes) -> bytes:
    account = open_slates.decode(stored)
    if not _fits(account):
        return _WHOLE + stored
    slates, units = account.slates, account.units
    items, indices = layout.indexed_by_python(b"".join(slate.items for slate in slates))
    newest, ago = account.newest, account.newest - account.since
    parts = [
        _NUMBERS.pack(
            len(units) | len(slates) << 4, len(items) // 8,
            newest & 0xFFFF_FFFF, newest >> 32, ago & 0xFFFF_FFFF, ago >> 32,
        ),
        *[_UNIT.pack(it.experiment, it.version, it.variant, it.counts[0]) for it in units],
        items,
    ]  # fmt: skip
    at = 0
    for slate in slates:
        n = len(slate.states)
        of_slate, at = indices[2 * at : 2 * (at + n) : 2], at + n
        indexed = of_slate != bytes(range(n))
        mask = sum(1 << place for place in slate.units)
        named = n | _INDEXED * indexed
        since = newest - slate.at
        parts.append(_SLATE.pack(slate.id, since, slate.placement, named, slate.explored + 1, mask))
        if indexed:
            parts.append(of_slate)
    return b"".join(parts)


def _fits(account: Account) -> bool:
    """Whether `pack` has a column for all of it."""
    return (
        account.links is None
        and not (account.touched or account.unit_sets or account.waiting or account.conversions)
        and len(account.slates) <= _MAX_SLATES
        and len(account.units) <= MAX_UNITS
        and account.newest < 1 << 48
        and 0 <= account.newest - account.since < 1 << 40
        and all(not any(unit.counts[1:]) and unit.counts[0] < 1 << 16 for unit in account.units)
        and all(
            len(slate.states) <= _MAX_SLATE_ITEMS
            and slate.states.count(_SERVED) == len(slate.states)
            and list(slate.units) == sorted(set(slate.units))
            and all(place < len(account.units) for place in slate.units)
            and account.newest - slate.at < 1 << 32
            for slate in account.slates
        )
        and len(
            {it.items[at : at + 8] for it in account.slates for at in range(0, len(it.items), 8)}
        )
        < 256
    )


def unpack_by_python(packed: bytes) -> bytes:
    if packed[:1] == _WHOLE:
        return packed[1:]
    try:
        return open_slates.encode(_unpacked(packed))
    except (error, IndexError):
        raise ValueError(_UNREADABLE) from None


def _unpacked(packed: bytes) -> Account:
    both, n_items, *numbers = _NUMBERS.unpack_from(packed)
    newest = numbers[0] | numbers[1] << 32
    n_units, at = both & 15, _NUMBERS.size
    units = []
    for _ in range(n_units):
        experiment, version, variant, served = _UNIT.unpack_from(packed, at)
        units.append(open_slates.Unit(experiment, version, variant, (served, 0, 0, 0, 0, 0)))
        at += _UNIT.size
    items = [packed[at + 8 * n : at + 8 * n + 8] for n in range(n_items)]
    at += 8 * n_items
    slates = []
    for _ in range(both >> 4):
        slate, ago, placement, named, explored, mask = _SLATE.unpack_from(packed, at)
        n, at = named & _MAX_SLATE_ITEMS, at + _SLATE.size
        indices = packed[at : at + n] if named & _INDEXED else bytes(range(n))
        at += n if named & _INDEXED else 0
        held = b"".join([items[index] for index in indices])
        places = tuple(place for place in range(8) if mask >> place & 1)
        if at > len(packed) or len(held) < 8 * n or explored > n or mask >> n_units:
            raise ValueError(_UNREADABLE)
        states = bytearray((_SERVED,)) * n
        slates.append(
            open_slates.OpenSlate(
                slate, newest - ago, placement, held, states, explored - 1, places
            )
        )
    since = newest - (numbers[2] | numbers[3] << 32)
    if at != len(packed) or since < 0 or any(it.at < 0 for it in slates) or n_units > MAX_UNITS:
        raise ValueError(_UNREADABLE)
    return Account(newest=newest, since=since, slates=slates, units=units)
