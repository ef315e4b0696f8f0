"""Ids at the edge: what spells the same id, what is none, and which lines of a request are one."""

from __future__ import annotations

import itertools
import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import events, items
from schemas.events import Preferences
from schemas.identity import MAX_ID_BYTES, check_id, check_item_id, check_text, item_hash
from schemas.items import PutItem
from schemas.reject import Rejected
from serving.edge import items as ingest_items
from serving.edge import people as ingest_people
from serving.edge.events import Ingested, RequestContext, ingest
from serving.edge.identity import People
from serving.edge.source import client, source
from serving.read import query, rows
from tests.unit.serving.test_ingest import KEY, NOW, VIEW, action, lookup, rejections, send

CAFE = "caf\u00e9"
SPELLED = (CAFE, "cafe\u0301", f" {CAFE}", "cafe\u0301\u00a0 ", f"\u2003{CAFE}\u3000")
NOTHING = ("null", "undefined", "[object Object]", "NaN", "None", "", " ", "\u00a0\u2003")
WORDS = [
    *NOTHING,
    *map(str.upper, NOTHING),
    "nONE",
    " null ",
    "Undefined",
    "\u200b",
    "\ufeff \u2060",
    "null\u200b",
]
PEOPLE = People(KEY, 4)


def refused(call: Any, *arguments: Any) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        call(*arguments)
    return caught.value.field, caught.value.code


def preferences(body: Any, user_id: str = "u1") -> Preferences:
    record = ingest_people.preferences(json.dumps(body).encode(), user_id, "e1", NOW, PEOPLE)
    found = events.decode_stored(record.value)
    assert isinstance(found, Preferences)
    return found


@pytest.mark.parametrize("spelled", SPELLED)
def test_an_id_is_the_same_however_it_is_spelled(spelled: str) -> None:
    ids = dict.fromkeys(("user_id", "item_id", "event_id", "session_id", "slate_id"), spelled)
    done, plain = (send({**ids_, "action": "view"}) for ids_ in (ids, dict.fromkeys(ids, CAFE)))
    assert done.records == plain.records
    assert PEOPLE.user(spelled) == PEOPLE.user(CAFE)
    assert PEOPLE.anonymous(spelled) == PEOPLE.anonymous(CAFE)
    body = json.dumps({"item_id": spelled, "group_id": spelled, "owner_id": spelled}).encode()
    item = items.decode(ingest_items.put_many(body, NOW, 4, ndjson=False).records[0].value)
    assert isinstance(item, PutItem)
    assert (item.item.item_id, item.item.group_id, item.item.owner_id) == (CAFE, CAFE, CAFE)
    assert items.decode(ingest_items.put(body, CAFE, NOW, 4).record.value) == item
    said = {"hidden_items": [spelled], "hidden_owners": [spelled]}
    assert preferences(said, spelled) == preferences({name: [CAFE] for name in said}, CAFE)
    page = json.dumps({"user_id": spelled, "item_id": spelled, "exclude": [spelled]}).encode()
    (row,) = rows.parse(page).rows
    assert (row.item_id, row.exclude) == (CAFE, (CAFE,))
    assert row.user_id == spelled, "the answer repeats what was asked"


@pytest.mark.parametrize("word", WORDS)
def test_what_a_program_writes_for_nothing_is_no_id_of_a_person(word: str) -> None:
    for field in ("user_id", "anonymous_id"):
        done = send({"item_id": "i1", "action": "view", field: word})
        assert rejections(done) == [(0, field, "not_an_id")]
    assert refused(preferences, {}, word) == ("user_id", "not_an_id")
    for does in (ingest_people.link, ingest_people.unlink):
        assert refused(does, word, "u1", "e1", NOW, PEOPLE) == ("anonymous_id", "not_an_id")
        assert refused(does, "a1", word, "e1", NOW, PEOPLE) == ("user_id", "not_an_id")
    for read in (PEOPLE.user, PEOPLE.anonymous):
        assert refused(read, word)[1] == "not_an_id"


@pytest.mark.parametrize("word", ["undefined", "[object Object]", "", " ", "\u00a0", " undefined "])
def test_what_is_no_id_of_an_item(word: str) -> None:
    assert rejections(send({**VIEW, "item_id": word})) == [(0, "item_id", "not_an_id")]
    body = json.dumps({"items": [{"item_id": word}, {"item_id": "i"}]}).encode()
    [why] = ingest_items.put_many(body, NOW, 4, ndjson=False).rejected
    assert (why.index, why.field, why.code) == (0, "item_id", "not_an_id")
    assert refused(preferences, {"hidden_items": [word]}) == ("hidden_items[0]", "not_an_id")


@pytest.mark.parametrize("word", ["null", "None", "NaN", "0", "UNDEFINED", "nothing", "NULL"])
def test_a_word_may_be_the_id_of_an_item(word: str) -> None:
    assert action(send({**VIEW, "item_id": word})).item_id == word


def test_words_of_the_settings_are_no_ids_of_people_either() -> None:
    people = People(KEY, 4, not_ids=frozenset({"0", "guest"}))
    for word in ("0", "guest", "Guest", " 0", "null"):
        assert refused(people.user, word) == ("user_id", "not_an_id")
        assert refused(people.anonymous, word) == ("anonymous_id", "not_an_id")
    assert people.user("guest1") == PEOPLE.user("guest1")
    assert PEOPLE.user("guest")
    assert PEOPLE.user("0")


@pytest.mark.parametrize("nothing", ["", " ", "\u00a0", None])
def test_an_id_of_blanks_beside_the_other_one_is_not_said(nothing: str | None) -> None:
    view = {"item_id": "i1", "action": "view"}
    visitor = action(send({**view, "user_id": nothing, "anonymous_id": "a1"}))
    assert visitor.person == PEOPLE.anonymous("a1").pseudonym
    user = action(send({**view, "user_id": "u1", "anonymous_id": nothing}))
    assert user.person == PEOPLE.user("u1").pseudonym
    for asked, other in (("user_id", "anonymous_id"), ("anonymous_id", "user_id")):
        (row,) = rows.parse(json.dumps({asked: "x", other: nothing}).encode()).rows
        assert (getattr(row, asked), getattr(row, other)) == ("x", None)
    assert query.recommendations(b"user_id=&anonymous_id=a1").anonymous_id == "a1"
    assert query.recommendations(b"user_id=u1&anonymous_id=%20").user_id == "u1"
    assert refused(query.recommendations, b"user_id=&anonymous_id=") == (
        "anonymous_id",
        "not_an_id",
    )
    assert refused(query.recommendations, b"anonymous_id=+") == ("anonymous_id", "not_an_id")


@given(st.text(max_size=80), st.text(" \u00a0\u2003\u3000", max_size=3))
def test_a_checked_id_is_its_own_spelling(text: str, blanks: str) -> None:
    try:
        found = check_id(text, "item_id")
    except Rejected:
        return
    assert check_id(found, "item_id") == check_text(found, "item_id") == found
    assert found == unicodedata.normalize("NFC", found) == found.strip()
    for other in (unicodedata.normalize("NFD", text), blanks + text + blanks):
        if len(other.encode()) <= MAX_ID_BYTES:
            assert check_id(other, "item_id") == found
            assert item_hash(check_id(other, "item_id")) == item_hash(found)


def test_the_bytes_of_an_id_are_counted_as_it_is_compared() -> None:
    assert check_id(" " * 300 + "a", "x") == "a"
    assert refused(check_id, "a" * 257, "x") == ("x", "too_long")
    grows = "\U0001d160" * 60  # NFC makes three letters of one: UAX #15, composition exclusions
    assert refused(check_id, grows, "x") == ("x", "too_long")
    assert refused(check_item_id, "\ud800", "x") == ("x", "not_utf8")


LINE = {**VIEW, "event_id": "order-1001", "action": "purchase"}


def test_each_line_of_an_order_counts() -> None:
    lines = [{**LINE, "item_id": item} for item in ("lamp", "rug", "vase")]
    done = send({"events": lines})
    assert ([action(done, n).item_id for n in range(3)], done.duplicates) == (
        ["lamp", "rug", "vase"],
        0,
    )


def test_lines_alike_in_all_that_names_an_action_are_one() -> None:
    lines = [
        LINE,
        {**LINE, "value": 5},
        {**LINE, "value": -5},
        {**LINE, "event_id": " order-1001"},
        {**LINE, "user_id": "u2"},
        {**LINE, "action": "view"},
        {**LINE, "action": "rate", "value": 1},
        {**LINE, "action": "rate", "value": 5},
        {**LINE, "action": "stare"},
        {**LINE, "event_id": "order-1002"},
    ]
    done = send({"events": lines})
    assert (len(done.records), done.duplicates, len(done.rejected)) == (6, 3, 1)
    assert action(done, 0).value is None, "the first one of them is appended"
    assert [action(done, n).negative for n in (1, 4)] == [True, True]


@given(
    st.lists(
        st.tuples(*(st.integers(0, 1) for _ in range(4)), st.sampled_from([-1, 1])), max_size=12
    )
)
def test_as_many_lines_are_appended_as_differ(drawn: list[tuple[int, ...]]) -> None:
    lines = [
        {
            "user_id": f"u{u}",
            "event_id": f"e{e}",
            "item_id": f"i{i}",
            "action": ("purchase", "cart")[a],
            "value": sign,
        }
        for u, e, i, a, sign in drawn
    ]
    done = send({"events": [VIEW, *lines]})
    names = [(u, e, i, a, sign if not a else 1) for u, e, i, a, sign in drawn]
    assert len(done.records) == 1 + len(set(names))
    assert done.duplicates == len(names) - len(set(names))


def test_events_without_an_id_are_never_alike() -> None:
    assert send({"events": [VIEW, VIEW]}).duplicates == 0
    assert send({"events": [VIEW, VIEW]}, idempotency_key="k").duplicates == 0


def test_unknown_items_are_counted() -> None:
    strange = {**VIEW, "item_id": "i2"}
    twice = {**strange, "event_id": "e1"}
    done = send({"events": [VIEW, strange, twice, twice, {**strange, "rank": -1}]})
    assert (done.unknown_items, done.duplicates) == (2, 1)


def keyed(body: Any, **options: Any) -> Ingested:
    numbers = itertools.count()
    given = {
        "received_at": NOW,
        "make_id": lambda: f"made{next(numbers)}",
        "idempotency_key": "k1",
        **options,
    }
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ingest(content, RequestContext(**given), PEOPLE, lookup)


def test_a_fingerprint_is_of_the_events_and_not_of_their_times_spaces_or_order_of_fields() -> None:
    more = {"value": 1, "context": {"a": 1, "b": 2}, "experiments": {"home": "b"}}
    batch = {"events": [VIEW, {**VIEW, **more}], "sent_at": "2026-01-01T00:00:00Z"}
    reordered = {"context": {"b": 2, "a": 1}, "value": 1, **VIEW}
    same = (
        keyed({**batch, "sent_at": "2026-01-01T00:01:00Z"}),
        keyed(json.dumps(batch, indent=3).encode()),
        keyed(batch, received_at=NOW + 1000),
        keyed(b"\n".join(json.dumps(e).encode() for e in batch["events"]), ndjson=True),
        keyed({"events": [VIEW, reordered]}),
    )
    first = keyed(batch).fingerprint
    assert len(first) == 16
    assert [each.fingerprint for each in same] == [first] * len(same)
    for other in (
        {**batch, "events": [VIEW]},
        {**batch, "events": [VIEW, {**VIEW, "value": 2}]},
        {**batch, "events": [VIEW, {**VIEW, "item_id": "i9"}]},
        {**batch, "events": [{**VIEW, "item_id": 5}, {**VIEW, "value": 1}]},
    ):
        assert keyed(other).fingerprint != first
    assert send(batch).fingerprint == b""


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("python-requests/2.31.0", "python-requests"),
        ("Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101", "Mozilla"),
        ("curl", "curl"),
        ("a" * 500 + "/1", "a" * 32),
        ("(no product)", ""),
        ("", ""),
        ("\u00e9tude/1", ""),
    ],
)
def test_a_client_is_the_name_of_its_first_product(user_agent: str, name: str) -> None:
    assert client(user_agent) == name


def test_the_source_of_an_event_is_in_its_record() -> None:
    page = source(
        {b"user-agent": b"Mozilla/5.0", b"origin": b"https://shop.example"}, imported=False
    )
    assert page is not None
    assert (page.client, page.agent, page.mode) == ("Mozilla", "browser", "live")
    assert action(send(VIEW, source=page)).source == page
    fetched = source({b"sec-fetch-site": b"same-origin"}, imported=True)
    assert fetched is not None
    assert (fetched.client, fetched.agent, fetched.mode) == ("", "browser", "import")
    assert source({}, imported=False) is None
    assert action(send(VIEW)).source is None
