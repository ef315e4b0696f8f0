"""Records of `events` as columns: what a fold of many actions needs of each, without an object an event.

`decode_by_msgspec` defines the columns. The kernel (records.c) takes actions and served records in canonical
JSON, as `schemas.events.encode` writes it; every other record is decoded by msgspec.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from models.arrays import I64, U64
from models.dedupe import identities
from models.kernels.loading import kernel
from schemas import events
from schemas.actions import CLIENT_ACTIONS, CODE, NEGATIVE
from schemas.alphabet import Millis
from schemas.events import EVERY_KIND, Action, Event
from schemas.identity import category_hash, item_hash
from schemas.state.facts import IMPORTED, UNKNOWN, currency_code

UNDECODED: Final = 255
"""The kind of a record that does not decode."""
KIND: Final = {kind: code for code, kind in enumerate(EVERY_KIND)}
"""Class of an event -> its code in `RecordColumns.kind`."""
ACTION: Final = KIND[Action]
SECOND_SEED: Final = 1
"""Of `person2`."""
MAX_AMOUNT: Final = 2**53
"""Minor units of one purchase; more counts as so many."""
MAX_QUANTITY: Final = 2**31 - 1
NOT_IN_COLUMNS: Final = 2**32 - 1
"""The currency of an action whose price does not fit the columns: its event says it."""
_CURRENCY_BYTES: Final = 4
ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What a record that does not decode raises."""
_xxh = xxhash.xxh3_64_intdigest


class RecordColumns:
    """n records of `events`, in the order in which they were read; every column has n rows.

    Of every record: `timestamp`, its own, ms; `kind`: index into `schemas.events.EVERY_KIND`, or `UNDECODED`;
    `person` and `person2`: XXH3 of the pseudonym with the seeds 0 and `SECOND_SEED`, which name the person by
    128 bits together; `name` and `id`: `models.dedupe.identities`. Those are 0 where the record does not
    decode.

    Of actions, and 0 elsewhere: `item` and `category` (`schemas.identity`); `session` and `slate`: XXH3 of
    the id, 0 for none (of a session at least 1); `occurred` and `received` in ms, at most `timestamp`;
    `action`: its code; `flags`: bits `UNKNOWN` and `IMPORTED` of `schemas.state.facts`; `group`: 1 where the
    item has a group; `amount`, `currency` and `quantity`: `price_of`.
    """

    __slots__ = (
        *(
            "_events",
            "_middle",
            "_person_at",
            "_small",
            "_wide",
            "action",
            "amount",
            "category",
            "currency",
            "flags",
            "group",
        ),
        *(
            "id",
            "item",
            "kind",
            "name",
            "occurred",
            "person",
            "person2",
            "quantity",
            "received",
            "session",
            "slate",
        ),
        *("timestamp", "values"),
    )
    person: U64
    person2: U64
    name: U64
    id: U64
    item: U64
    session: U64
    slate: U64
    occurred: I64
    received: I64
    amount: I64
    category: NDArray[np.uint32]
    currency: NDArray[np.uint32]
    quantity: NDArray[np.uint32]
    kind: NDArray[np.uint8]
    action: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    group: NDArray[np.uint8]
    _person_at: NDArray[np.uint32]
    """Where the 32 bytes of the pseudonym begin in the value; 0: the event says it."""

    def __init__(self, values: Sequence[bytes | None], timestamps: Sequence[Millis]) -> None:
        """Zeros."""
        n = len(values)
        self.values = values
        self.timestamp: I64 = np.array(timestamps, np.int64)
        self._events: dict[int, Event] = {}
        # the kernel takes the columns as these arrays
        self._wide = np.zeros((10, n), np.uint64)
        self._middle = np.zeros((4, n), np.uint32)
        self._small = np.zeros((4, n), np.uint8)
        (
            self.person,
            self.person2,
            self.name,
            self.id,
            self.item,
            self.session,
            self.slate,
            occurred,
            received,
            amount,
        ) = self._wide
        self.occurred, self.received = occurred.view(np.int64), received.view(np.int64)
        self.amount = amount.view(np.int64)
        self.category, self._person_at, self.currency, self.quantity = self._middle
        self.kind, self.action, self.flags, self.group = self._small

    def __len__(self) -> int:
        return len(self.values)

    def event(self, i: int) -> Event:
        """The event of record i, decoded once. Errors: `ERRORS`; ValueError for a record without a value."""
        found = self._events.get(i)
        if found is None:
            value = self.values[i]
            if value is None:
                raise ValueError("a record without a value")
            found = self._events[i] = events.decode(value, int(self.timestamp[i]))
        return found

    def person_text(self, i: int) -> str:
        """The pseudonym in record i. Errors: as `event`'s."""
        at, value = int(self._person_at[i]), self.values[i]
        if at and value is not None:
            return value[at : at + 32].decode()
        return self.event(i).person

    def people(self, which: I64) -> list[str]:
        """(k,) the pseudonyms in the records at the indices `which`. Errors: as `event`'s."""
        values, places = self.values, self._person_at[which].tolist()
        return [
            value[at : at + 32].decode() if at and (value := values[i]) else self.event(i).person
            for i, at in zip(which.tolist(), places, strict=True)
        ]

    def take(self, which: Any) -> RecordColumns:
        """The records under the mask, or at the ascending indices, `which`."""
        at = np.arange(len(self))[which].tolist()
        made = object.__new__(RecordColumns)
        made.values = [self.values[i] for i in at]
        made._events = {n: self._events[i] for n, i in enumerate(at) if i in self._events}
        for name in _ARRAYS:
            setattr(made, name, getattr(self, name)[which])
        return made


_NO_COLUMNS: Final = {"values", "_events", "_wide", "_middle", "_small"}
_ARRAYS: Final = tuple(it for it in RecordColumns.__slots__ if it not in _NO_COLUMNS)


class Remembered:
    """Hashes of the names of items and categories, by their bytes: 512 kB, for one thread at a time."""

    ENTRIES: Final = 8_192
    ENTRY_BYTES: Final = 64

    def __init__(self) -> None:
        self.entries = np.zeros(self.ENTRIES * self.ENTRY_BYTES, np.uint8)


def decode(
    values: Sequence[bytes | None],
    timestamps: Sequence[Millis],
    remembered: Remembered | None = None,
) -> RecordColumns:
    """The columns of records with these values and timestamps (ms). With `remembered`, a name that came
    before is not hashed again."""
    if kernel is None:
        return decode_by_msgspec(values, timestamps)
    columns = RecordColumns(values, timestamps)
    plain: Any = values
    if None in values:
        plain = [value or b"" for value in values]
    ffi, n = kernel.ffi, len(values)
    rest = kernel.lib.records_decode(
        b"".join(plain),
        ffi.from_buffer("int64_t[]", np.fromiter(map(len, plain), np.int64, n)),
        ffi.from_buffer("int64_t[]", columns.timestamp),
        n,
        ffi.from_buffer("uint64_t[]", columns._wide),
        ffi.from_buffer("uint32_t[]", columns._middle),
        ffi.from_buffer("uint8_t[]", columns._small),
        ffi.from_buffer("uint64_t[]", _ACTION_NAMES),
        ffi.from_buffer("uint8_t[]", _ACTION_CODES),
        len(CLIENT_ACTIONS),
        _in_8_bytes("purchase"),
        ffi.NULL if remembered is None else ffi.from_buffer("uint8_t[]", remembered.entries),
        Remembered.ENTRIES - 1,
    )
    if rest:
        which = np.flatnonzero(columns.kind == UNDECODED)
        columns.kind[which] = 0
        _fill(columns, which.tolist())
    return columns


def _in_8_bytes(name: str) -> int:
    return int.from_bytes(name.encode().ljust(8, b"\0"), "little")


_ACTION_NAMES: Final = np.array([_in_8_bytes(name) for name in CLIENT_ACTIONS], np.uint64)
_ACTION_CODES: Final = np.array(
    [
        *(CODE[name] for name in CLIENT_ACTIONS),
        *(NEGATIVE.get(name, CODE[name]) for name in CLIENT_ACTIONS),
    ],
    np.uint8,
)


def of_events(found: Sequence[Event], timestamps: Sequence[Millis]) -> RecordColumns:
    """The columns of events that were decoded before."""
    columns = RecordColumns([None] * len(found), timestamps)
    columns._events = dict(enumerate(found))
    _fill(columns, range(len(found)))
    return columns


def decode_by_msgspec(
    values: Sequence[bytes | None], timestamps: Sequence[Millis]
) -> RecordColumns:
    """The definition of `decode`."""
    columns = RecordColumns(values, timestamps)
    _fill(columns, range(len(values)))
    return columns


def _fill(columns: RecordColumns, which: Sequence[int]) -> None:
    """Decodes the records at the indices `which` into their rows, which are 0."""
    at, found = [], []
    for i in which:
        try:
            found.append(columns.event(i))
            at.append(i)
        except (*ERRORS, ValueError):
            columns.kind[i] = UNDECODED
    if not at:
        return
    columns.kind[at] = [KIND[type(e)] for e in found]
    people = [e.person.encode() for e in found]
    columns.person[at] = np.array([_xxh(it) for it in people], np.uint64)
    columns.person2[at] = np.array([_xxh(it, SECOND_SEED) for it in people], np.uint64)
    columns.name[at], columns.id[at] = identities(found)
    for i, e in zip(at, found, strict=True):
        if isinstance(e, Action):
            _fill_action(columns, i, e)


def _fill_action(columns: RecordColumns, i: int, e: Action) -> None:
    columns.item[i], columns.category[i] = item_hash(e.item_id), category_hash(e.category)
    columns.session[i] = (_xxh(e.session_id.encode()) or 1) if e.session_id else 0
    columns.slate[i] = _xxh(e.slate_id.encode()) if e.slate_id else 0
    columns.occurred[i], columns.received[i] = e.occurred_at, e.received_at
    code = CODE[e.action]
    # the edge marks only these two; of another action the mark says nothing
    columns.action[i] = NEGATIVE.get(e.action, code) if e.negative else code
    imported = e.source is not None and e.source.mode == "import"
    columns.flags[i] = (0 if e.known else UNKNOWN) | (IMPORTED if imported else 0)
    columns.group[i] = e.group != ""
    columns.amount[i], columns.currency[i], columns.quantity[i] = price_of(e)


def price_of(e: Action) -> tuple[int, int, int]:
    """What the line of an action cost, as its columns have it: amount, in minor units, code of the currency
    (`schemas.state.facts.currency_code`, 0: none) and quantity, none above its bound. Where they do not fit
    (an amount below 0): 0, `NOT_IN_COLUMNS`, 0."""
    if e.amount < 0 or e.quantity < 0 or len(e.currency.encode()) > _CURRENCY_BYTES:
        return 0, NOT_IN_COLUMNS, 0
    return min(e.amount, MAX_AMOUNT), currency_code(e.currency), min(e.quantity, MAX_QUANTITY)
