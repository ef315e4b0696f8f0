"""The stored records of one person, decoded into the plain values that the log yields."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from flows.verify.report import Findings
from models.features.registry import FEATURES, HAS_MERGED, LINKED, OVERFLOW, read_row
from models.outcomes import impressions, likes, open_slates, reversibles, touched
from models.reference.people import Person
from schemas import events, keys
from schemas.keys import Keyspace
from schemas.state import links


class StoredRecord(NamedTuple):
    """One kind of record of a person. `read` decodes it to a plain value; `expected` is the value by the log,
    where the record should be `there`. A dict is compared field by field."""

    what: str
    kind: bytes
    key: Callable[[Keyspace, int, str], bytes]
    read: Callable[[bytes], Any]
    there: Callable[[Person], bool]
    expected: Callable[[Person], Any]


def _row(blob: bytes) -> Any:
    row = read_row(blob)
    numbers = ("flags", "duplicates", "seen_n", "seen_limit")
    return {
        **{name: int(row[name]) for name in numbers},
        **{f.name: f.value(row) for f in FEATURES},
    }


def _expected_row(person: Person) -> Any:
    flags = (LINKED if person.link else 0) | (OVERFLOW if person.overflow else 0)
    flags |= HAS_MERGED if person.merged else 0
    seen = {"seen_n": len(person.seen.entries), "seen_limit": person.seen.limit}
    return {"flags": flags, "duplicates": person.duplicates, **seen, **person.features()}


def _hashes(blob: bytes) -> list[int]:
    if len(blob) % 8:
        raise ValueError("these are no hashes")
    return [number for (number,) in struct.iter_unpack("<Q", blob)]


def _numbers(blob: bytes) -> list[int]:
    if len(blob) % 4:
        raise ValueError("these are no items of a day")
    return [number for (number,) in struct.iter_unpack("<I", blob)]


def _seen(blob: bytes) -> list[tuple[int, ...]]:
    if len(blob) % 13:
        raise ValueError("these are no entries of seen items")
    return list(struct.iter_unpack("<QIB", blob))


def _preferences(blob: bytes) -> Any:
    held = events.decode_stored(blob)
    if not isinstance(held, events.Preferences):
        raise ValueError("these are no preferences")
    return msgspec.structs.asdict(held)


def _expected_preferences(person: Person) -> Any:
    return msgspec.structs.asdict(person.preferences) if person.preferences else None


def _slates(slates: Sequence[open_slates.OpenSlate]) -> Any:
    return [
        {
            **msgspec.structs.asdict(slate),
            "items": _hashes(slate.items),
            "states": list(slate.states),
        }
        for slate in slates
    ]


def _units(units: Sequence[open_slates.Unit]) -> Any:
    return [(unit.experiment, unit.version, unit.variant, unit.counts) for unit in units]


def _touched(held: open_slates.Account | open_slates.Guest) -> Any:
    return [touched.rows(held.touched), held.unit_sets]


def plain_account(account: open_slates.Account) -> Any:
    """All of it but what is stored under keys of its own."""
    linked = account.links or open_slates.Links()
    return {
        "newest": account.newest,
        "since": account.since,
        "slates": _slates(account.slates),
        "waiting": [
            [waiting.slate, [(it.item, it.state, it.at, it.identity) for it in waiting.outcomes]]
            for waiting in account.waiting
        ],
        "units": _units(account.units),
        "touched": _touched(account),
        "conversions": [
            (it.identity, it.item, msgspec.structs.astuple(it.conversion))
            for it in account.conversions
        ],
        "linked": [linked.to, linked.by],
        "links": [
            [(mark.of, mark.link, mark.at) for mark in marks]
            for marks in ([linked.first] if linked.first else [], linked.pending, linked.answered)
        ],
        "guests": [
            {"of": guest.of, "newest": guest.newest, "slates": _slates(guest.slates),
             "units": _units(guest.units), "touched": _touched(guest)}
            for guest in linked.guests
        ],
    }  # fmt: skip


def _reversibles(account: open_slates.Account) -> Any:
    """But for their conversions, which are in the account."""
    return [
        msgspec.structs.astuple(msgspec.structs.replace(it, conversion=None))
        for it in reversibles.every(account)
    ]


def _stored_reversibles(blob: bytes) -> Any:
    account = open_slates.Account()
    reversibles.load(account, blob)
    return _reversibles(account)


def _has_account(person: Person) -> bool:
    return person.outcomes is not None and not open_slates.is_blank(person.outcomes.account())


def _expected_account(person: Person) -> Any:
    return plain_account(person.outcomes.account()) if person.outcomes else None


def _expected_link(person: Person) -> Any:
    view = person.outcomes.view() if person.outcomes else None
    return msgspec.structs.asdict(view) if view else None


PERSON_RECORDS: Final = (
    StoredRecord("row", keys.ROW, Keyspace.row, _row, lambda person: person.has_row, _expected_row),
    StoredRecord(
        "seen",
        keys.SEEN,
        Keyspace.seen,
        _seen,
        lambda it: bool(it.seen.entries),
        lambda it: it.seen.entries,
    ),
    StoredRecord(
        "overflow",
        keys.OVERFLOW,
        Keyspace.overflow,
        _numbers,
        lambda it: bool(it.overflow),
        lambda it: it.overflow,
    ),
    StoredRecord(
        "preferences",
        keys.PREFERENCES,
        Keyspace.preferences,
        _preferences,
        lambda person: person.preferences is not None,
        _expected_preferences,
    ),
    StoredRecord(
        "link",
        keys.LINK,
        Keyspace.link,
        lambda blob: msgspec.structs.asdict(links.decode(blob)),
        lambda person: person.outcomes is not None and person.outcomes.links is not None,
        _expected_link,
    ),
    StoredRecord(
        "impressions",
        keys.IMPRESSIONS,
        Keyspace.impressions,
        lambda blob: impressions.value(impressions.read(blob)),
        lambda person: person.shown,
        lambda person: person.impressions(),
    ),
    StoredRecord(
        "slates",
        keys.OPEN_SLATES,
        Keyspace.open_slates,
        lambda blob: plain_account(open_slates.decode(blob)),
        _has_account,
        _expected_account,
    ),
    StoredRecord(
        "reversibles",
        keys.REVERSIBLES,
        Keyspace.reversibles,
        _stored_reversibles,
        lambda person: person.outcomes is not None and bool(person.outcomes.reversibles),
        lambda person: _reversibles(person.outcomes.account()) if person.outcomes else None,
    ),
    StoredRecord(
        "likes",
        keys.LIKES,
        Keyspace.likes,
        likes.rows,
        lambda person: person.outcomes is not None and bool(person.outcomes.likes),
        lambda person: person.outcomes.likes if person.outcomes else None,
    ),
)
"""All records of a person except the vector, a cache that every release makes again."""


def compare(
    findings: Findings, record: StoredRecord, key: bytes, blob: bytes | None, person: Person
) -> None:
    """Compares one record of a person, as stored under `key`, with the log."""
    there = record.there(person)
    if blob is None or not there:
        stored = None if blob is None else f"{len(blob)} bytes"
        if (blob is not None) == there:
            findings.fields += 1
        else:
            findings.wrong(record.what, "value", stored, "to be there" if there else None, key)
        return
    try:
        value = record.read(blob)
    except (ValueError, msgspec.MsgspecError) as error:
        findings.wrong(
            record.what, "value", f"does not decode ({type(error).__name__})", "a value", key
        )
        return
    expected = record.expected(person)
    if not isinstance(value, dict):
        findings.compare(record.what, "value", value, expected, key)
        return
    for field in value:
        findings.compare(record.what, field, value[field], expected[field], key)
