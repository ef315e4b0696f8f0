"""Values of any form: times, ids, numbers; and the repair of an object that a strict decoder refused."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.datasets import convert
from infra.datasets.fields import EVENTS, ITEMS
from infra.datasets.rows import Notes
from infra.datasets.values import repair_event, repair_item
from schemas import times
from schemas.events import EventIn
from schemas.items import ItemIn
from schemas.reject import Rejected
from tests.unit.infra.datasets.reading import events

AT = "2009-10-27T21:00:21.000Z"


def time(value: Any) -> str:
    return convert.time(value, "at", Notes())


@pytest.mark.parametrize(
    "value",
    [
        1256677221, 1256677221.0, "1256677221", "1256677221.0", "1.256677221e9", 1256677221000,
        "1256677221000", 1256677221000000, 1256677221000000000, "2009-10-27T21:00:21Z",
        "2009-10-27 21:00:21", "2009-10-27 21:00:21 UTC", "2009-10-27T23:00:21+02:00",
        "2009-10-27 23:00:21+02", " 2009-10-27T21:00:21.000999Z ", "20091027T210021Z",
        datetime(2009, 10, 27, 21, 0, 21, tzinfo=UTC),
    ],
)  # fmt: skip
def test_a_time_in_any_form_is_the_same_time(value: Any) -> None:
    assert time(value) == AT


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("2009-10-27", "2009-10-27T00:00:00.000Z"),
        ("20091027", "2009-10-27T00:00:00.000Z"),
        ("1939-08-15", "1939-08-15T00:00:00.000Z"),
        (-958694400, "1939-08-16T00:00:00.000Z"),
        ("9999-12-31", "9999-12-31T00:00:00.000Z"),
        ("2009-10-27 21:00:21.5", "2009-10-27T21:00:21.500Z"),
        (1256677221.0625, "2009-10-27T21:00:21.062Z"),
        (0, "1970-01-01T00:00:00.000Z"),
    ],
)
def test_a_date_is_its_midnight_and_fractions_are_kept(value: Any, at: str) -> None:
    assert time(value) == at


@pytest.mark.parametrize(
    "value",
    ["", "soon", "2009-13-27", "2009-10-27T25:00:00Z", "nan", "inf", float("nan"), float("inf"), 1e30,
     10**30, "9" * 5000, True, [], {}, "0001-01-01T00:00:00+14:00", "27/10/2009"],
)  # fmt: skip
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(Rejected, match="at: not_a_time"):
        time(value)


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1000, 1, 1)), st.integers(-14, 14))
def test_times_with_any_offset_are_those_of_the_schemas(at: datetime, hours: int) -> None:
    local = at.astimezone(timezone(timedelta(hours=hours))) if 1001 < at.year < 9999 else at
    assert time(local.isoformat()) == times.render(times.moment(at.isoformat(), "at"))


@given(st.integers(10**11, 10**14 - 1))
def test_milliseconds_are_kept_to_the_last(at: int) -> None:
    assert convert.moment(at, "at", Notes()) == at == times.moment(time(str(at)), "at")


def test_times_without_an_offset_are_noted(tmp_path: Path) -> None:
    rows = "".join(f"a,b,view,{it}\n" for it in ("2009-10-27 21:00:21", "2009-10-27", AT))
    found = events(tmp_path, "user_id,item_id,action,occurred_at\n" + rows)
    assert found.notes.counts == {"times_without_offset": 1}


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("true", True),
        ("YES", True),
        ("1", True),
        (1, True),
        (0.0, False),
        ("no", False),
        ("0", False),
    ],
)
def test_booleans_in_words_and_digits(value: Any, read: bool) -> None:
    assert convert.boolean(value, "available", Notes()) is read


@pytest.mark.parametrize("value", ["", "maybe", "2", 2, 0.5, [], float("nan"), float("inf")])
def test_other_words_are_no_booleans(value: Any) -> None:
    with pytest.raises(Rejected, match="available: wrong_type"):
        convert.boolean(value, "available", Notes())


@pytest.mark.parametrize(
    ("value", "read"),
    [("2.50", 2.5), ("3.0", 3), ("-1e3", -1000), (7, 7), ("9007199254740993", 2**53 + 1)],
)
def test_numbers_in_texts(value: Any, read: float) -> None:
    assert convert.number(value, "value", Notes()) == read


@pytest.mark.parametrize("value", ["", "nan", "inf", "1,5", "1e999", True, [], "9" * 5000])
def test_what_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(Rejected, match="value: wrong_type"):
        convert.number(value, "value", Notes())


@pytest.mark.parametrize(
    ("cell", "value"),
    [("12.50", 12.5), ("007", "007"), ("-3", -3), ("true", True), ("True", "True"), ("1e5", "1e5"),
     ("1" * 30, "1" * 30), ("", "")],
)  # fmt: skip
def test_the_cell_of_an_attribute_is_a_number_where_json_writes_it_so(
    cell: str, value: Any
) -> None:
    found = convert.scalar(cell, "attributes.a", Notes())
    assert found == value
    assert type(found) is type(value)


def repaired(**fields: Any) -> Any:
    notes = Notes()
    body = repair_event(msgspec.json.encode(fields), notes)
    msgspec.json.decode(body, type=EventIn)
    return msgspec.json.decode(body), {*notes.counts}


def test_an_event_is_repaired_where_that_is_unambiguous() -> None:
    found, notes = repaired(
        user_id=7, item_id=1.0, action="rate", occurred_at=1256677221, rank=3.0, value="4.5",
        scale={"min": "1", "max": 5, "middle": None}, quantity="2", context={"a": 1.5}, session_id=None,
    )  # fmt: skip
    assert found == {
        "user_id": "7", "item_id": "1", "action": "rate", "occurred_at": AT, "rank": 3, "value": 4.5,
        "scale": {"min": 1, "max": 5, "middle": None}, "quantity": 2, "context": {"a": 1.5},
        "session_id": None,
    }  # fmt: skip
    fields = ("user_id", "item_id", "occurred_at", "rank", "value", "quantity")
    assert notes >= {f"repaired_{it}" for it in fields}


@pytest.mark.parametrize("item_id", ["1.0", " a ", 1.5, 2**64])
def test_ids_keep_what_they_say(item_id: Any) -> None:
    assert repaired(item_id=item_id, action="view")[0]["item_id"] == str(item_id)


@pytest.mark.parametrize(
    ("fields", "where"),
    [({"item_id": True}, "item_id: wrong_type"), ({"rank": "first"}, "rank: wrong_type"),
     ({"occurred_at": "soon"}, "occurred_at: not_a_time"), ({"scale": {"min": "a"}}, "scale.min: wrong_type"),
     ({"user_id": ["a"]}, "user_id: wrong_type"), ({"value": {}}, "value: wrong_type")],
)  # fmt: skip
def test_what_cannot_be_repaired_names_its_field(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(Rejected, match=f"^{where}$"):
        repaired(**fields)


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":\xff}', b"[" * 100_000, b"1e999", b'{"a":01}'])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(Rejected, match="line: malformed_json"):
        repair_event(body, Notes())


@pytest.mark.parametrize("body", [b"1", b"[]", b'"a"', b"null"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Rejected, match="line: wrong_type"):
        repair_item(body, Notes())


def test_an_item_is_repaired() -> None:
    body = msgspec.json.encode(
        {
            "item_id": 1,
            "title": 1984,
            "available": "no",
            "categories": [1, "a"],
            "published_at": "1939-08-15",
        }
    )
    found = msgspec.json.decode(repair_item(body, Notes()), type=ItemIn)
    assert (found.item_id, found.title, found.available) == ("1", "1984", False)
    assert found.categories == ("1", "a")
    assert found.published_at == "1939-08-15"


def test_a_time_that_the_api_takes_is_not_repaired() -> None:
    for at in ("2026-11-20T09:00:00Z", "2026-11-20t09:00:00.5z", "2026-11-20 09:00:00+02:00"):
        found, notes = repaired(item_id=1, action="view", occurred_at=at)
        assert (found["occurred_at"], notes) == (at, {"repaired_item_id"})
    noted = Notes()
    body = b'{"item_id":"a","tags":"x","published_at":"1939-08-15"}'
    assert b'"1939-08-15"' in repair_item(body, noted)
    assert {*noted.counts} == {"repaired_tags"}


def test_an_attribute_that_is_a_list_costs_itself() -> None:
    body = b'{"item_id":"a","attributes":{"colour":"red","sizes":[1],"of":{},"none":null}}'
    notes = Notes()
    found = msgspec.json.decode(repair_item(body, notes), type=ItemIn)
    assert found.attributes == {"colour": "red", "none": None}
    assert notes.counts["attributes_left_out"] == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda it: st.lists(it, max_size=3) | st.dictionaries(st.text(max_size=3), it, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*EVENTS.converters, *ITEMS.converters, "other"]), JSON))
def test_a_repair_ends_in_an_object_or_a_refusal_and_is_done_once(fields: dict[str, Any]) -> None:
    for repair in (repair_event, repair_item):
        with suppress(Rejected):
            body = repair(msgspec.json.encode(fields), Notes())
            assert repair(body, Notes()) == body
            assert msgspec.json.decode(body).keys() == fields.keys()


def test_every_field_of_the_api_has_a_converter_but_those_that_are_ignored() -> None:
    ignored = {"experiments", "variant", "propensity", "scale"}
    assert {*EventIn.__struct_fields__} - ignored == {
        it for it in EVENTS.converters if "." not in it
    }
    assert {*ItemIn.__struct_fields__} == {*ITEMS.converters}
