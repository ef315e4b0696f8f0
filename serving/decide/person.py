"""The person as a decision needs them: their row, items and preferences, decoded from the store's values."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models import seen as seen_items
from models.features.registry import ROW, ForeignRow, read_row
from models.outcomes import impressions as shown
from models.outcomes.impressions import IMPRESSION
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
)
"""The values that the store has of a person, in the order they are read."""
REMEDY: Final = "fold the log again (freshet rebuild --from beginning)"

_PREFERENCES: Final = msgspec.json.Decoder(Preferences)
NO_IMPRESSIONS: Final[NDArray[np.void]] = np.empty(0, IMPRESSION)
_EMPTY_ROW: Final[np.void] = np.zeros(1, ROW)[0]

Blobs = list[bytes | None]


class StoreDown(Exception):
    """The store did not answer, or not with what this code can read."""


class Unreadable(StoreDown):
    """The value `what` of a person is stored in a form that this code does not read. The text names the form
    found and the remedy, never the data."""

    def __init__(self, what: str, text: str) -> None:
        super().__init__(text)
        self.what = what


class Person(NamedTuple):
    """`row` as `models.features.registry.ROW` (zeros: no event yet); `seen`: all entries of what they
    have seen, ordered by time (`models.seen.of_person`)."""

    row: np.void
    seen: seen_items.Entries
    preferences: Preferences | None
    fence: Fence | None
    """The fence of the person's partition, read together with the rest; None where nothing was folded yet."""
    impressions: NDArray[np.void] = NO_IMPRESSIONS
    """Their latest impressions, `models.outcomes.impressions.IMPRESSION`."""
    vector: Vector | None = None
    """As the flow last encoded it: valid for its release only."""
    links: Links = stored_links.NONE
    cold: bool = False
    """They sent no event for long: their records lie in the lake until the flow has brought them back."""

    @property
    def recorded(self) -> bool:
        """Whether anything is stored of them."""
        return bool(
            self.row["version"]
            or self.cold
            or self.preferences
            or len(self.impressions)
            or self.links != stored_links.NONE
        )


EMPTY_PERSON: Final = Person(_EMPTY_ROW, seen_items.NONE, None, None)


def decode(blobs: Blobs) -> Person:
    """The person that `blobs` hold, one blob per field of `STORED_FIELDS`, None where the store has none.

    Errors: `Unreadable`.
    """
    try:
        return _decode(blobs)
    except (ValueError, msgspec.MsgspecError):
        raise _unreadable(blobs) from None


def _decode(blobs: Blobs) -> Person:
    """Errors: `ForeignRow`, ValueError, MsgspecError."""
    stored_row, string, preferences, fence, impressions, vector, links, tombstone = blobs
    row = read_row(stored_row) if stored_row else _EMPTY_ROW
    return Person(
        row,
        seen_items.of_person(seen_items.read(string), row),
        _PREFERENCES.decode(preferences) if preferences else None,
        fences.decode(fence) if fence else None,
        shown.read(impressions) if impressions else NO_IMPRESSIONS,
        vectors.DECODER.decode(vector) if vector else None,
        stored_links.decode(links),
        tombstone is not None,
    )


def _unreadable(blobs: Blobs) -> Unreadable:
    """The error for the first of `blobs` that cannot be decoded: each is decoded alone."""
    for index, what in enumerate(STORED_FIELDS):
        alone: Blobs = [None] * len(STORED_FIELDS)
        alone[index] = blobs[index]
        try:
            _decode(alone)
        except ForeignRow as error:
            return Unreadable(what, str(error))
        except (ValueError, msgspec.MsgspecError) as error:
            text = f"a person's {what} cannot be read ({type(error).__name__}), it is of another version"
            return Unreadable(what, f"{text} or damaged: {REMEDY}")
    raise AssertionError("each can be read by itself")


def from_log(row: bytes | None, seen: bytes | None, impressions: bytes | None) -> Person:
    """A person made of what the log alone gives. Errors: `Unreadable`."""
    return decode([row, seen, None, None, impressions, None, None, None])
