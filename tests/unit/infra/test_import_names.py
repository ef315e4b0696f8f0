"""Names of events: what an event says names it, not how or where it is written."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.apps.bulk_import import names
from infra.apps.bulk_import.hashes import HashBag, occurrences
from infra.datasets.rows import Chunk, Fault, Notes

VIEW = '{"user_id":"kim","item_id":"cup","action":"view","occurred_at":"2026-11-27T09:00:00Z"}'


def read(*lines: str | bytes) -> names.NamedEvents:
    bodies = [line.encode() if isinstance(line, str) else line for line in lines]
    return names.read(Chunk(bodies, range(1, len(bodies) + 1), []), Notes())


@pytest.mark.parametrize(
    "spelled",
    [
        VIEW.replace(",", " , ").replace('":', '" : '),
        '{"occurred_at":"2026-11-27T09:00:00Z","action":"view","item_id":"cup","user_id":"kim"}',
        VIEW.replace("00Z", "00+00:00"),
        VIEW.replace("00Z", "00.000Z"),
        VIEW.replace("00Z", "00.0004Z"),
        VIEW.replace("09:00:00Z", "10:30:00+01:30"),
        VIEW.replace("cup", "\\u0063up"),
        VIEW.replace("kim", " kim").replace("cup", "cup\\u200b"),
        VIEW.replace("}", ',"event_id":null,"rank":null}'),
        VIEW.replace("}", ',"variant":"b","propensity":0.5}'),
    ],
)
def test_the_spelling_of_an_event_does_not_change_its_name(spelled: str) -> None:
    one, other = read(VIEW), read(spelled)
    assert one.hashes.tolist() == other.hashes.tolist()
    assert one.times.tolist() == other.times.tolist() == [1_795_770_000_000]
    assert one.faults == other.faults == []


@pytest.mark.parametrize(
    "other",
    [
        VIEW.replace("kim", "lee"),
        VIEW.replace("user_id", "anonymous_id"),
        VIEW.replace("view", "click"),
        VIEW.replace("00Z", "00.001Z"),
        VIEW.replace("}", ',"rank":1}'),
        VIEW.replace("}", ',"context":{"a":1}}'),
    ],
)
def test_what_an_event_says_changes_its_name(other: str) -> None:
    assert read(VIEW).hashes.tolist() != read(other).hashes.tolist()


def test_the_order_of_a_context_does_not_change_a_name() -> None:
    one, other = ('{"a":1,"b":2}', '{"b":2,"a":1}')
    hashes = read(*(VIEW.replace("}", f',"context":{it}}}') for it in (one, other))).hashes
    assert hashes[0] == hashes[1]


def test_an_id_of_a_client_names_person_item_action_and_sign() -> None:
    order = VIEW.replace("view", "purchase").replace("}", ',"event_id":"o1","value":5}')
    taken_back = order.replace(":5", ":-5")
    later = order.replace("09:00", "11:00").replace(":5", ":7")
    read_ = read(order, later, taken_back, order.replace("cup", "pan"), order.replace("kim", "lee"))
    assert read_.hashes[0] == read_.hashes[1]
    assert len(set(read_.hashes.tolist())) == 4
    assert read_.bodies[0] == order.encode(), "it is sent as it is"
    assert not read_.unnamed.any()


def test_what_is_sent_is_the_event_with_its_name() -> None:
    found = read(VIEW)
    (body,) = names.with_ids(found, np.array([3]))
    sent: dict[str, Any] = msgspec.json.decode(body)
    assert sent.pop("event_id") == f"import-{int(found.hashes[0]):016x}-3"
    assert sent == {
        "user_id": "kim",
        "item_id": "cup",
        "action": "view",
        "occurred_at": "2026-11-27T09:00:00Z",
    }


def test_a_line_that_cannot_be_read_costs_that_line() -> None:
    found = read(
        VIEW,
        "{",
        VIEW.replace(',"occurred_at":"2026-11-27T09:00:00Z"', ""),
        VIEW.replace("}", ',"colour":"red"}'),
        VIEW.replace("2026-11", "2026-13"),
        VIEW.replace("kim", "k\xff").encode("latin-1"),
        VIEW,
    )
    assert found.lines.tolist() == [1, 7]
    assert [it.line for it in found.faults] == [2, 3, 4, 5, 6]
    assert found.faults[0] == Fault(2, "line", "malformed_json")
    assert found.faults[1] == Fault(3, "occurred_at", "required")
    assert found.faults[2] == Fault(4, "colour", "unknown_field")


TIMES = ("09:00:00Z", "09:00:00.000Z", "11:30:00.1239+02:30", "09:00:00+00:00")


@given(
    st.lists(
        st.builds(
            lambda time, item, tail: (
                VIEW.replace("09:00:00Z", time).replace("cup", item)[:-1] + tail
            ),
            st.sampled_from(TIMES),
            st.sampled_from(["cup", "caf\u00e9", " cup "]),
            st.sampled_from(["}", ',"event_id":"e"}', ',"rank":2,"value":1}', ',"variant": 1 }']),
        )
    )
)
def test_a_chunk_is_read_as_line_by_line(lines: list[str]) -> None:
    """A bad line sends its whole chunk the slow way, which is the definition."""
    fast, slow = read(*lines), read(*lines, "{")
    assert fast.hashes.tolist() == slow.hashes.tolist()
    assert fast.times.tolist() == slow.times.tolist()
    assert fast.bodies == slow.bodies
    assert fast.lines.tolist() == slow.lines.tolist()
    one_by_one = [value for line in lines for value in read(line).hashes.tolist()]
    assert one_by_one == fast.hashes.tolist()


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=8))
def test_occurrences_are_counted_as_by_hand(chunks: list[list[int]]) -> None:
    bag, count = HashBag(), Counter[int]()
    for chunk in chunks:
        hashes, expected = np.array(chunk, np.uint64), []
        for value in chunk:
            count[value] += 1
            expected.append(count[value])
        assert occurrences(hashes, bag).tolist() == expected
        bag.add(hashes)
    assert Counter(bag.all().tolist()) == count
    assert bag.size == count.total()


def test_the_keys_of_equal_events_differ_and_the_first_is_the_hash() -> None:
    numbers = np.arange(1, 10_001)
    keys = names.keys(np.full(10_000, 7, np.uint64), numbers)
    assert keys[0] == 7
    assert len(set(keys.tolist())) == 10_000
