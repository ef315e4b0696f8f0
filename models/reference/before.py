"""The start of the slow definitions: a partition as a snapshot holds it.

They take the snapshot as it is, and every record from its offset on. The result is the same: each
definition goes on from the stored value as if it had read all earlier records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from struct import iter_unpack
from typing import Any, Final

from models.features.registry import FEATURES, HAS_MERGED, read_row
from models.outcomes import impressions, open_slates, reversibles
from models.outcomes.join import REACH
from models.outcomes.open_slates import Account
from models.outcomes.strangers import read_bucket
from models.outcomes.touched import Reach
from models.reference.dedupe import Window
from models.reference.people import Person, PersonSnapshot
from models.reference.recents import MAX_ITEMS
from schemas import events
from schemas.keys import DEDUPE, PLAIN, STRANGERS

_OF_PEOPLE: Final[tuple[Callable[[int, str], bytes], ...]] = (
    PLAIN.row,
    PLAIN.seen,
    PLAIN.overflow,
    PLAIN.preferences,
    PLAIN.link,
    PLAIN.impressions,
    PLAIN.open_slates,
    PLAIN.reversibles,
    PLAIN.likes,
)


class SnapshotState:
    """`values`: string keys of `PLAIN`, each record of the version that this code writes;
    `received`, `tallies`: the fields of ``or:{p}`` and ``n:{p}``; `newest`: highest record time so far, ms.

    Errors of `person`: ValueError for a value that does not decode.
    """

    def __init__(
        self,
        partition: int,
        newest: int,
        values: Mapping[bytes, bytes],
        received: Mapping[bytes, bytes],
        tallies: Mapping[bytes, bytes],
    ) -> None:
        self._partition, self._newest, self._values = partition, newest, values
        self.received = {int(source): events.merge_number(it) for source, it in received.items()}
        """Source partition -> highest (offset, n) received from its outbox."""
        self.tallies = {reason.decode(): int(total) for reason, total in tallies.items()}
        """Reason -> how many records were accepted and are not counted."""
        self.strangers = self._strangers()
        """The accounts of strangers, oldest first."""
        self.names = self._names()
        """The people with a key in the snapshot, ascending."""

    def window(self, span: int) -> Window:
        """The ids that de-duplication remembers. `span` in ms."""
        start = PLAIN.start(DEDUPE, self._partition)
        held = {
            int(key.removeprefix(start)): _hashes(value)
            for key, value in self._values.items()
            if key.startswith(start)
        }
        return Window(span, self._newest, held)

    def person(
        self, name: str, kept: bool, reach: Reach = REACH, max_seen: int = MAX_ITEMS
    ) -> Person:
        """The person as the snapshot holds them; empty for one that it lacks. `kept`: they are checked."""
        row, seen, overflow, preferences, _, shown, slates, rows, liked = (
            self._values.get(key(self._partition, name)) for key in _OF_PEOPLE
        )
        return Person(
            kept,
            PersonSnapshot(
                values=_values(row) if row is not None else None,
                # only those of a checked person grow, and matter
                seen=tuple(iter_unpack("<QIB", seen or b"")) if kept else (),
                seen_limit=int(read_row(row)["seen_limit"]) if row is not None else 0,
                overflow=_numbers(overflow or b""),
                preferences=_preferences(preferences) if preferences is not None else None,
                account=_account(slates, rows, liked) if slates or rows or liked else None,
                shown=impressions.value(impressions.read(shown)) if shown is not None else None,
                duplicates=int(read_row(row)["duplicates"]),
                merged=bool(read_row(row)["flags"] & HAS_MERGED),
            ),
            reach,
            max_seen,
        )

    @property
    def met(self) -> set[str]:
        """Who is no stranger: who has a row, or an account."""
        kinds = (PLAIN.row, PLAIN.open_slates, PLAIN.reversibles, PLAIN.likes)
        return self._people(kinds)

    def _strangers(self) -> dict[str, Account]:
        start = PLAIN.start(STRANGERS, self._partition)
        entries = [
            entry
            for key, value in self._values.items()
            if key.startswith(start)
            for entry in read_bucket(value).items()
        ]
        entries.sort(key=lambda it: it[1].order)
        return {name: open_slates.decode(entry.stored) for name, entry in entries}

    def _names(self) -> list[str]:
        return sorted(self._people(_OF_PEOPLE))

    def _people(self, kinds: Sequence[Callable[[int, str], bytes]]) -> set[str]:
        """Who has a key of these kinds."""
        starts = tuple(key(self._partition, "") for key in kinds)
        return {PLAIN.person_of(key) for key in self._values if key.startswith(starts)}


def _values(row: bytes) -> dict[str, Any]:
    held = read_row(row)
    return {feature.name: feature.value(held) for feature in FEATURES}


def _account(slates: bytes | None, rows: bytes | None, liked: bytes | None) -> Account:
    account = open_slates.decode(slates)
    reversibles.load(account, rows or b"")
    account.likes = liked or b""
    return account


def _preferences(value: bytes) -> events.Preferences:
    held = events.decode_stored(value)
    if not isinstance(held, events.Preferences):
        raise ValueError("these are no preferences")
    return held


def _numbers(data: bytes) -> tuple[int, ...]:
    return tuple(number for (number,) in iter_unpack("<I", data))


def _hashes(data: bytes) -> tuple[int, ...]:
    return tuple(number for (number,) in iter_unpack("<Q", data))
