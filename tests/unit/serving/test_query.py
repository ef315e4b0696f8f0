"""Query strings: parsed parameters, and refusals by name and never by value."""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.alphabet import Position
from schemas.reject import Rejected
from serving.http.errors import Problem
from serving.read import cursor, query, rows


def test_a_query_with_every_parameter_is_read() -> None:
    shown = cursor.encode(b"", [("i1", "")])
    asked = query.recommendations(
        urlencode(
            [
                ("user_id", "ü +1"),
                ("count", "100"),
                ("placement", "replay"),
                ("session_id", "s"),
                ("item_id", "i"),
                ("category", "a b"),
                ("exclude", "x"),
                ("exclude", "y"),
                ("cursor", shown),
                ("after", "7:129341"),
                ("max_wait_ms", "0"),
                ("explain", "full"),
                ("personalized", "false"),
                ("now", "2020-01-01T00:00:00Z"),
                ("filter", "f"),
            ]
        ).encode()
    )
    assert (asked.user_id, asked.count, asked.category, asked.exclude) == (
        "ü +1",
        100,
        "a b",
        ("x", "y"),
    )
    assert (asked.after, asked.max_wait_ms, asked.personalized) == (Position(7, 129341), 0, False)
    assert asked.cursor == cursor.decode(shown or "")
    assert asked.now == 1_577_836_800_000
    assert asked.filter == "f"  # the placement decides later whether there is such a filter


REFUSED = [
    ("", "user_id", "required"),
    ("user_id=", "user_id", "not_an_id"),
    ("user_id=u&anonymous_id=a", "anonymous_id", "conflicts_with_user_id"),
    ("user_id=u&user_id=v", "user_id", "repeated"),
    ("user_id=%00", "user_id", "control_character"),
    ("user_id=%ff", "user_id", "not_utf8"),
    ("user_id=" + "x" * 257, "user_id", "too_long"),
    ("user_id=u&count=0", "count", "out_of_range"),
    ("user_id=u&count=-1", "count", "out_of_range"),
    ("user_id=u&count=1000000000", "count", "out_of_range"),
    ("user_id=u&count=" + "9" * 5000, "count", "out_of_range"),
    ("user_id=u&count=ten", "count", "wrong_type"),
    ("user_id=u&count=1.0", "count", "wrong_type"),
    ("user_id=u&count=%D9%A1", "count", "wrong_type"),
    ("user_id=u&max_wait_ms=5001", "max_wait_ms", "out_of_range"),
    ("user_id=u&after=7", "after", "malformed"),
    ("user_id=u&after=-1:5", "after", "malformed"),
    ("user_id=u&cursor=!", "cursor", "malformed"),
    ("user_id=u&cursor=AAAA", "cursor", "malformed"),
    ("user_id=u&explain=all", "explain", "unknown_value"),
    ("user_id=u&personalized=1", "personalized", "wrong_type"),
    ("user_id=u&now=yesterday", "now", "not_a_time"),
    ("user_id=u&now=1989-12-31T23:59:59Z", "now", "out_of_range"),
    ("user_id=u&filter=f&filter=g", "filter", "repeated"),
    ("user_id=u&colour=red", "colour", "unknown_field"),
    ("user_id=u&c%3Co=red", "query", "unknown_field"),
    ("user_id=u&=", "query", "unknown_field"),
    ("user_id=u" + "&exclude=x" * 501, "exclude", "too_many"),
]


@pytest.mark.parametrize(("text", "field", "code"), REFUSED)
def test_a_parameter_is_refused_by_name(text: str, field: str, code: str) -> None:
    with pytest.raises(Rejected) as why:
        query.recommendations(text.encode())
    assert (why.value.field, why.value.code) == (field, code)


def test_an_empty_parameter_is_not_said() -> None:
    names = [name for name in query.READERS if name not in ("user_id", "anonymous_id")]
    asked = query.recommendations(b"user_id=u&" + "&".join(f"{name}=" for name in names).encode())
    assert asked == query.Query(user_id="u")
    assert query.recommendations(b"&user_id=u&&count=3&") == query.Query(user_id="u", count=3)
    query.no_parameters(b"&")
    assert query.recommendations(b"user_id=&anonymous_id=a") == query.Query(anonymous_id="a")
    for name in names:
        if name != "exclude":  # empty or not, it comes once
            with pytest.raises(Rejected, match=f"{name}: repeated"):
                query.recommendations(f"user_id=u&{name}=&{name}=x".encode())


def test_a_query_that_is_too_long_names_the_body() -> None:
    with pytest.raises(Problem) as why:
        query.recommendations(b"user_id=u&" + b"x" * 40_000)
    assert (why.value.status, why.value.code) == (414, "uri_too_long")
    assert "POST /v1/recommendations" in why.value.detail


def _read(raw: bytes) -> query.Query | Rejected:
    try:
        return query.recommendations(raw)
    except Rejected as why:
        return why


@given(st.binary(max_size=200))
def test_any_bytes_are_a_query_or_a_rejection(raw: bytes) -> None:
    read = _read(raw)
    assert (
        isinstance(read, query.Query)
        or read.field in (*query.READERS, "query")
        or (read.code == "unknown_field")
    )


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=50))
def test_an_id_comes_out_as_it_went_in(text: str) -> None:
    read = _read(f"user_id={quote(text, safe='')}".encode())
    if isinstance(read, Rejected):
        assert read.code in ("control_character", "not_an_id")
    else:
        assert read.user_id == text


TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)


@given(
    st.lists(
        st.lists(st.tuples(TEXTS, TEXTS), max_size=30),
        max_size=5,
    )
)
def test_cursors_add_up(pages: list[list[tuple[str, str]]]) -> None:
    shown = b""
    for page in pages:
        text = cursor.encode(shown, page)
        assert text is not None
        shown = cursor.decode(text)
    assert len(shown) == 4 * sum(map(len, pages))


def test_a_cursor_that_would_not_fit_is_none() -> None:
    assert cursor.encode(b"", [("x", "")] * cursor.MAX_ITEMS_PER_LIST) is not None
    assert cursor.encode(b"", [("x", "")] * (cursor.MAX_ITEMS_PER_LIST + 1)) is None


def test_a_row_overrides_what_all_share() -> None:
    asked = rows.parse(
        b'{"user_id": "u", "count": 3, "category": "c", "distinct": true, "requests":'
        b' [{}, {"count": 4, "category": null}, {"anonymous_id": "a", "exclude": ["x"]}]}'
    )
    assert (asked.single, asked.distinct) == (False, True)
    assert [(row.user_id, row.anonymous_id) for row in asked.rows] == [
        ("u", None),
        ("u", None),
        (None, "a"),
    ]
    assert [(row.count, row.category) for row in asked.rows] == [(3, "c"), (4, None), (3, "c")]
    assert [row.exclude for row in asked.rows] == [(), (), ("x",)]
    assert asked.path(1, "count") == "requests[1].count"
    assert asked.path(2, "count") == "count"


def test_one_row_is_asked_for_without_a_page() -> None:
    asked = rows.parse(b'{"user_id": "u", "after": "7:1", "cursor": null}')
    assert (asked.single, asked.distinct) == (True, False)
    assert asked.rows == (query.Query(user_id="u", after=Position(7, 1)),)
    assert asked.path(0, "after") == "after"


def test_null_is_not_said() -> None:
    names = {*rows.PageIn.__struct_fields__} - {"user_id"}
    body = json.dumps({"user_id": "u", **dict.fromkeys(names)}).encode()
    assert rows.parse(body) == rows.parse(b'{"user_id": "u"}')


FIELDS = st.sampled_from([*query.READERS, "requests", "distinct", "context", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
)


@given(JSON | st.dictionaries(FIELDS, JSON, max_size=6))
def test_any_json_is_rows_or_a_refusal(given: object) -> None:
    try:
        asked = rows.parse(json.dumps(given).encode())
    except (Rejected, Problem):
        return
    assert all((row.user_id is None) != (row.anonymous_id is None) for row in asked.rows)
    assert 1 <= len(asked.rows) <= rows.MAX_ROWS


@given(st.binary(max_size=100))
def test_any_bytes_are_rows_or_a_refusal(raw: bytes) -> None:
    with pytest.raises((Rejected, Problem)):
        rows.parse(raw)
