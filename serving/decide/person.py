"""The person as a decision needs them: their row, items and preferences, decoded from the store's values."""

from __future__ import annotations

from copy import copy
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models import seen as seen_items
from models.features.registry import ROW, ForeignRow, row_bytes
from models.outcomes import impressions as shown
from models.outcomes import strangers
from models.outcomes.impressions import IMPRESSION
from models.release.content import DIM
from schemas.events import Preferences
from schemas.state import fences, vectors
from schemas.state import links as stored_links
from schemas.state.fences import Fence
from schemas.state.links import Links
from schemas.state.vectors import Vector

STORED_FIELDS: Final = (
    "row",
    "seen",
    "preferences",
    "fence",
    "impressions",
    "vector",
    "links",
    "tombstone",
    "stranger",
)
"""The values that the store has of a person, in the order they are read. `stranger`: what is kept of them
where they have done nothing yet (`models.outcomes.strangers`)."""
REMEDY: Final = "fold the log again (freshet rebuild --from beginning)"

_PREFERENCES: Final = msgspec.json.Decoder(Preferences)
NO_IMPRESSIONS: Final[NDArray[np.void]] = np.empty(0, IMPRESSION)
_EMPTY_ROW: Final[np.void] = np.zeros(1, ROW)[0]
_NEWEST_AT: Final = dict(ROW.fields or {})["newest"][1]
_NEWEST: Final = slice(_NEWEST_AT, _NEWEST_AT + 8)
_GRID_BYTES: Final = 2 * DIM

Blobs = list[bytes | None]


class StoreDown(Exception):
    """The store did not answer, or not with what this code can read."""


class Unreadable(StoreDown):
    """The value `what` of a person is stored in a form that this code does not read. The text names the form
    found and the remedy, never the data."""

    def __init__(self, what: str, text: str) -> None:
        super().__init__(text)
        self.what = what


class Person:
    """What is known of one person. The compiled decision reads the bytes; `row`, `seen` and `impressions` are
    arrays of them, made when they are first asked for. Not to be changed.
    """

    __slots__ = (
        *("preferences", "fence", "vector", "links", "cold"),
        *("row_bytes", "seen_bytes", "seen_is_whole", "impressions_bytes"),
        *("_row", "_seen", "_impressions"),
    )

    preferences: Preferences | None
    fence: Fence | None
    """The fence of the person's partition, read together with the rest; None where nothing was folded yet."""
    vector: Vector | None
    """As the flow last encoded it: valid for its release only."""
    links: Links
    cold: bool
    """They sent no event for long: their records lie in the lake until the flow has brought them back."""
    row_bytes: bytes | bytearray | None
    """The row as `models.features.registry.ROW`; None: no event yet."""
    seen_bytes: bytes
    """Entries of `models.seen.ENTRY`."""
    seen_is_whole: bool
    """`seen_bytes` are all entries; else the row's list of recent actions has further ones."""
    impressions_bytes: bytes
    """As `models.outcomes.impressions` stores them."""
    _row: np.void | None
    _seen: seen_items.Entries | None
    _impressions: NDArray[np.void] | None

    def __init__(
        self,
        row: np.void,
        seen: seen_items.Entries,
        preferences: Preferences | None,
        fence: Fence | None,
        impressions: NDArray[np.void] = NO_IMPRESSIONS,
        vector: Vector | None = None,
        links: Links = stored_links.NONE,
        cold: bool = False,
    ) -> None:
        """`seen`: all entries of what they have seen."""
        self.preferences, self.fence, self.vector = preferences, fence, vector
        self.links, self.cold = links, cold
        self._set(row=row, seen=seen, impressions=impressions)

    @classmethod
    def stored(cls, blobs: Blobs) -> Person:
        """Of the store's values, all but the arrays decoded. Errors: `ForeignRow`, ValueError,
        MsgspecError."""
        row, seen, preferences, fence, impressions, vector, links, tombstone, stranger = blobs
        made = cls.__new__(cls)
        made._row = made._seen = made._impressions = None
        made.row_bytes = row_bytes(row) if row else None
        made.seen_bytes, made.seen_is_whole = seen or b"", False
        if len(made.seen_bytes) % seen_items.ENTRY.itemsize:
            raise ValueError("these are no entries")
        made.preferences = _PREFERENCES.decode(preferences) if preferences else None
        made.fence = fences.decode(fence) if fence else None
        if impressions is None and stranger:
            impressions = strangers.shown(stranger)
        made.impressions_bytes = impressions or b""
        if impressions:
            shown.count(impressions)
        made.vector = vectors.DECODER.decode(vector) if vector else None
        if made.vector is not None and len(made.vector.grid) != _GRID_BYTES:
            raise ValueError("this vector has another dimension")
        made.links, made.cold = stored_links.decode(links), tombstone is not None
        return made

    @property
    def row(self) -> np.void:
        """As `models.features.registry.ROW`; zeros: no event yet."""
        if self._row is None:
            held = self.row_bytes
            self._row = _EMPTY_ROW if held is None else np.frombuffer(held, ROW)[0]
        return self._row

    @property
    def seen(self) -> seen_items.Entries:
        """All entries of what they have seen, ordered by time (`models.seen.of_person`)."""
        if self._seen is None:
            self._seen = seen_items.of_person(seen_items.read(self.seen_bytes), self.row)
        return self._seen

    @property
    def impressions(self) -> NDArray[np.void]:
        """Their latest impressions, `models.outcomes.impressions.IMPRESSION`."""
        if self._impressions is None:
            held = self.impressions_bytes
            self._impressions = shown.read(held) if held else NO_IMPRESSIONS
        return self._impressions

    @property
    def newest(self) -> int:
        """Unix ms of their newest action; 0: no event yet."""
        held = self.row_bytes
        return int.from_bytes(held[_NEWEST], "little", signed=True) if held else 0

    @property
    def recorded(self) -> bool:
        """Whether anything is stored of them."""
        return bool(
            (self.row_bytes and self.row["version"])
            or self.cold
            or self.preferences
            or len(self.impressions)
            or self.links != stored_links.NONE
        )

    def _replace(self, **changes: Any) -> Person:
        """The person with other values, by the names of the constructor."""
        made = copy(self)
        if "row" in changes and not self.seen_is_whole:
            made._set(seen=self.seen)
        made._set(**changes)
        return made

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, f"_{name}" if name in ("row", "seen", "impressions") else name, value)
        if "row" in values:
            self.row_bytes = values["row"].tobytes()
        if "seen" in values:
            entries = values["seen"]
            self._seen = entries[np.argsort(seen_items.at(entries), kind="stable")]
            self.seen_bytes, self.seen_is_whole = self._seen.tobytes(), True
        if "impressions" in values:
            self.impressions_bytes = values["impressions"].tobytes()


EMPTY_PERSON: Final = Person.stored([None] * len(STORED_FIELDS))


def decode(blobs: Blobs) -> Person:
    """The person that `blobs` hold, one blob per field of `STORED_FIELDS`, None where the store has none.

    Errors: `Unreadable`.
    """
    try:
        return Person.stored(blobs)
    except (ValueError, msgspec.MsgspecError):
        raise _unreadable(blobs) from None


def _unreadable(blobs: Blobs) -> Unreadable:
    """The error for the first of `blobs` that cannot be decoded: each is decoded alone."""
    for index, what in enumerate(STORED_FIELDS):
        alone: Blobs = [None] * len(STORED_FIELDS)
        alone[index] = blobs[index]
        try:
            Person.stored(alone)
        except ForeignRow as error:
            return Unreadable(what, str(error))
        except (ValueError, msgspec.MsgspecError) as error:
            text = f"a person's {what} cannot be read ({type(error).__name__}), it is of another version"
            return Unreadable(what, f"{text} or damaged: {REMEDY}")
    raise AssertionError("each can be read by itself")


def from_log(row: bytes | None, seen: bytes | None, impressions: bytes | None) -> Person:
    """A person made of what the log alone gives. Errors: `Unreadable`."""
    return decode([row, seen, None, None, impressions, None, None, None, None])
