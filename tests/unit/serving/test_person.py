"""A person as the store holds them: what is refused, and what is decoded when."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.outcomes import impressions
from models.outcomes.impressions import IMPRESSION
from models.seen import ENTRY, VIEW
from schemas.identity import item_hash
from serving.decide.person import STORED_FIELDS, Blobs, Unreadable, decode
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
