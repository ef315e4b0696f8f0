"""A person as the store holds them: what is refused, and what is decoded when."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.outcomes import impressions, join, open_slates
from models.outcomes.impressions import IMPRESSION
from models.outcomes.open_slates import Account
from models.outcomes.slots import Shown
from models.outcomes.strangers import Entry, pack, write_bucket
from models.seen import ENTRY, VIEW
from schemas.alphabet import Pseudonym
from schemas.identity import item_hash
from schemas.keys import PLAIN
from serving.decide.person import STORED_FIELDS, Blobs, Unreadable, decode
from serving.state.people import blobs_of, stored_keys
from tests.support import worlds
from tests.support.worlds import NOW


def test_a_person_is_decoded_as_far_as_is_asked() -> None:
    row = worlds.person([("a", 0), ("b", 2)], shown={"a": 3})
    stored = impressions.write(row.impressions)
    string = np.array([(item_hash("c"), 5, VIEW)], ENTRY)
    blobs: Blobs = [None, string.tobytes(), None, None, stored, None, None, None, None]
    who = decode(blobs)
    assert (who.seen_is_whole, who.newest, who.recorded) == (False, 0, True)
    who.row_bytes = row.row_bytes
    assert who.newest == NOW
    assert who.seen["item"].tolist() == [item_hash(name) for name in "cab"]
    assert who.impressions.tolist() == row.impressions.tolist()
    other = who._replace(seen=string)
    assert (other.seen_is_whole, other.seen.tolist()) == (True, string.tolist())
    assert other.row_bytes == who.row_bytes


@pytest.mark.parametrize(
    ("what", "blob"),
    [
        ("seen", b"x" * (ENTRY.itemsize + 1)),
        ("impressions", b"x" * IMPRESSION.itemsize * 65),
        ("impressions", b"\1"),
        ("vector", msgspec.msgpack.encode(("r", True, b"x" * 126))),
        ("row", b"\3\0"),
    ],
)
def test_what_is_no_value_of_a_person_is_refused_at_the_door(what: str, blob: bytes) -> None:
    blobs: Blobs = [blob if name == what else None for name in STORED_FIELDS]
    with pytest.raises(Unreadable) as refused:
        decode(blobs)
    assert refused.value.what == what


def test_of_a_stranger_what_their_slates_showed_is_read() -> None:
    shown = Shown(7, 5_000, 1, [item_hash("a"), item_hash("b")])
    account = Account()
    join.serve(account, shown)
    entries = {
        who: Entry(n, pack(open_slates.encode(account)))
        for n, who in enumerate(("a" * 32, "b" * 32))
    }
    keys = stored_keys(Pseudonym("b" * 32), 0, PLAIN)
    there: Blobs = [None] * len(STORED_FIELDS)
    there[-1] = write_bucket(entries)
    who = decode(blobs_of(keys, there))
    assert {(it, 1, 5) for it in shown.items} == set(map(tuple, who.impressions.tolist()))
    assert who.recorded
    assert not decode(blobs_of(stored_keys(Pseudonym("c" * 32), 0, PLAIN), there)).recorded
    # who has keys of a person is a stranger no more
    there[4] = impressions.write(np.array([(3, 2, 1)], IMPRESSION))
    assert decode(blobs_of(keys, there)).impressions.tolist() == [(3, 2, 1)]
    there[4], there[-1] = None, write_bucket(entries)[:-1]
    with pytest.raises(Unreadable) as refused:
        decode(blobs_of(keys, there))
    assert refused.value.what == "stranger"
