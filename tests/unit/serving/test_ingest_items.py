"""Items, preferences, links, placements and experiments at the edge. No server, no clock."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from models.kernels.loading import kernel, missing
from schemas import control, events, items, times
from schemas.alphabet import Pseudonym
from schemas.control_checks import definitions
from schemas.events import Link, Linking, Preferences, Unlink
from schemas.identity import anonymous, partition_of, pseudonym
from schemas.items import DeleteItem, Item, ItemIn, PutItem
from schemas.reject import Rejected
from schemas.state.links import Links
from serving.access.caller import LOCAL
from serving.edge import control as ingest_control
from serving.edge import items as ingest_items
from serving.edge import people as ingest_people
from serving.edge.identity import People
from serving.read import rows

KEY = (1, b"k" * 32)
NOW = 1_767_225_600_000
FULL: dict[str, Any] = {
    "type": "film",
    "categories": ["drama", "crime"],
    "tags": ["old"],
    "title": "M",
    "text": "A city looks for a murderer",
    "attributes": {"year": 1931, "colour": False},
    "embedding": [0.5, -1],
    "owner_id": "o1",
    "available": False,
    "published_at": "2026-01-01T01:00:00.25+01:00",
    "expires_at": "2027-01-01T00:00:00Z",
}

HUGE = {f"{n}": "\x01" * 1024 for n in range(100)}
"""Attributes that take six bytes a letter in JSON."""


def encode(body: Any) -> bytes:
    return json.dumps(body).encode()


def put(body: Any, item_id: str = "i1") -> Item:
    record = ingest_items.put(encode(body), item_id, NOW, 4).record
    assert (record.key, record.partition) == (item_id.encode(), partition_of(item_id.encode(), 4))
    change = items.decode(record.value)
    assert isinstance(change, PutItem)
    assert change.received_at == NOW
    return change.item


def patched(before: Item | None, body: Any, *, creates: bool = False) -> Item | None:
    made = ingest_items.patch(encode(body), "i1", NOW, 4, creates=creates)
    return items.apply(items.decode(made.record.value), before)


def test_an_item_is_put_whole() -> None:
    assert put(FULL) == Item(
        item_id="i1",
        type="film",
        category="drama",
        categories=("drama", "crime"),
        tags=("old",),
        title="M",
        text="A city looks for a murderer",
        attributes={"year": 1931, "colour": False},
        embedding=(0.5, -1.0),
        owner_id="o1",
        available=False,
        published_at=NOW + 250,
        expires_at=NOW + 365 * 86_400_000,
    )
    assert put({}) == Item(item_id="i1")
    both = put({"category": "a", "categories": ["b"]})
    assert (both.category, both.categories) == ("a", ("a", "b"))


def test_a_patch_changes_what_it_names() -> None:
    before = put(FULL)
    assert patched(before, {}) == before
    now = patched(before, {"title": "N", "expires_at": None, "embedding": None})
    assert now is not None
    assert (now.title, now.expires_at, now.embedding, now.published_at) == (
        "N",
        None,
        None,
        NOW + 250,
    )
    joined = patched(before, {"group_id": "shirt"})
    assert joined is not None
    assert joined.group_id == "shirt"
    without = patched(joined, {"group_id": ""})
    assert without == before
    assert patched(None, {"title": "N"}) is None
    assert patched(None, {"title": "N"}, creates=True) == Item(item_id="i1", title="N")


@pytest.mark.parametrize(
    ("body", "category", "categories"),
    [
        ({"categories": ["war"]}, "war", ("war",)),
        ({"categories": []}, "", ()),
        ({"category": "war"}, "war", ("war", "drama", "crime")),
        ({"category": "crime"}, "crime", ("drama", "crime")),
        ({"category": ""}, "drama", ("drama", "crime")),
        ({"category": "", "categories": ["war", "old"]}, "war", ("war", "old")),
        ({"category": "old", "categories": ["war"]}, "old", ("old", "war")),
        ({"category": None, "categories": None}, "drama", ("drama", "crime")),
    ],
)
def test_the_primary_category_is_always_among_the_categories(
    body: Any, category: str, categories: tuple[str, ...]
) -> None:
    now = patched(put(FULL), body)
    assert now is not None
    assert (now.category, now.categories) == (category, categories)
    as_put = put({name: FULL[name] for name in ("categories",)} | body | {"title": None})
    if "categories" in body and body["categories"] is not None:
        assert (as_put.category, as_put.categories) == (category, categories)


def test_a_record_of_before_creates_and_its_item_gets_its_primary_category() -> None:
    old = b'{"kind":"patch","item_id":"i","fields":{"category":"a"},"received_at":1}'
    assert items.apply(items.decode(old), None) == Item(
        item_id="i", category="a", categories=("a",)
    )
    whole = b'{"kind":"put","item":{"item_id":"i","category":"a","categories":[" b","b"]},"received_at":1}'
    assert items.apply(items.decode(whole), None) == Item(
        item_id="i", category="a", categories=("a", "b")
    )
    assert items.decode_item(b'{"item_id":"i","categories":["c"]}').category == "c"


@pytest.mark.parametrize("name", [name for name in ItemIn.__struct_fields__ if name != "item_id"])
def test_null_is_not_said(name: str) -> None:
    assert put({**FULL, name: None}) == put({k: v for k, v in FULL.items() if k != name})
    before, after = put(FULL), patched(put(FULL), {name: None})
    if name in items.NULL_CLEARS:
        assert after is not None
        assert getattr(after, name) is None
    else:
        assert after == before


def test_blanks_go_and_ends_are_trimmed() -> None:
    item = put(
        {
            "tags": [None, " ", "old", "\u00a0old ", "\t", "new"],
            "categories": ["", "cafe\u0301 ", None, "caf\u00e9"],
            "category": " ",
            "type": " film ",
            "owner_id": "  ",
            "group_id": "",
            "title": " A\r\nB\x00 ",
            "text": "one\ntwo",
        }
    )
    assert item == Item(
        item_id="i1",
        tags=("old", "new"),
        category="caf\u00e9",
        categories=("caf\u00e9",),
        type="film",
        title="A B",
        text="one\ntwo",
    )
    assert put({"title": " \u200b"}).title == ""


def test_an_attribute_that_cannot_be_kept_costs_itself_alone() -> None:
    attributes = {
        "year": 1931,
        "sizes": [1, 2],
        "maker": {"name": "x"},
        "none": None,
        "big": 2**53 + 1,
        "edge": -(2**53),
        "a b": [],
        "\x00": {},
        "share": 1e300,
        "flag": False,
    }
    for way in (ingest_items.put, ingest_items.patch):
        made = way(encode({"attributes": attributes}), "i1", NOW, 4)
        item = items.apply(items.decode(made.record.value), Item(item_id="i1"))
        assert item is not None
        assert item.attributes == {"year": 1931, "edge": -(2**53), "share": 1e300, "flag": False}
        assert [(it.field, it.code) for it in made.dropped] == [
            ("attributes.sizes", "wrong_type"),
            ("attributes.maker", "wrong_type"),
            ("attributes.none", "null"),
            ("attributes.big", "out_of_range"),
            ("attributes", "wrong_type"),
            ("attributes", "wrong_type"),
        ]
    numbers = b'{"attributes": {"a": 1e999, "b": -%s, "c": 1}}' % (b"9" * 5000)
    made = ingest_items.put(numbers, "i1", NOW, 4)
    assert [(it.field, it.code) for it in made.dropped] == [
        ("attributes.a", "out_of_range"),
        ("attributes.b", "out_of_range"),
    ]
    batch = {"items": [{"title": "?"}, {"item_id": "i", "attributes": {"sizes": [1]}}]}
    for body, ndjson in (
        (encode(batch), False),
        (b"\n".join(map(encode, batch["items"])), True),
    ):
        done = ingest_items.put_many(body, NOW, 4, ndjson=ndjson)
        assert [(it.index, it.field, it.code) for it in done.dropped] == [
            (1, "attributes.sizes", "wrong_type")
        ]
        assert len(done.records) == 1


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("1939-08-15", "1939-08-15T00:00:00.000Z"),
        ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("9999-12-31", "9999-12-31T00:00:00.000Z"),
        ("9999-12-31T23:59:59.9999Z", "9999-12-31T23:59:59.999Z"),
        ("2026-01-01T01:00:00.25+01:00", "2026-01-01T00:00:00.250Z"),
    ],
)
def test_a_time_of_any_year_comes_back_as_it_was_put(text: str, rendered: str) -> None:
    item = put({"published_at": text, "expires_at": text})
    shown = items.document(items.decode_item(msgspec.json.encode(item)))
    assert (shown["published_at"], shown["expires_at"]) == (rendered, rendered)
    assert item.published_at is not None
    assert times.iso(item.published_at) == times.render(item.published_at) == rendered


def test_the_bytes_of_a_text_are_bounded() -> None:
    longest = {"title": "\u00e9" * 512, "text": "\u00e9" * 32768, "attributes": {"a": "x" * 1024}}
    item = put(longest)
    assert {name: getattr(item, name) for name in longest} == longest


def test_an_item_is_deleted() -> None:
    record = ingest_items.delete("i1", NOW, 4)
    assert items.decode(record.value) == DeleteItem(item_id="i1", received_at=NOW)


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"titel": "x"}, "titel", "unknown_field"),
        ({"title": 5}, "title", "wrong_type"),
        ({"item_id": "i2"}, "item_id", "mismatch"),
        ({"category": "a\nb"}, "category", "control_character"),
        ({"categories": ["a", 5]}, "categories[1]", "wrong_type"),
        ({"categories": ["a", "b\x07c"]}, "categories[1]", "control_character"),
        ({"tags": [f"t{n}" for n in range(101)]}, "tags", "too_many"),
        ({"tags": ["t" * 257]}, "tags[0]", "too_long"),
        ({"title": "t" * 1025}, "title", "too_long"),
        ({"title": "\u00e9" * 513}, "title", "too_long"),
        ({"text": "t" * 65537}, "text", "too_long"),
        ({"attributes": {"colour": "x" * 1025}}, "attributes.colour", "too_long"),
        ({"attributes": {"a b": "x" * 1025}}, "attributes", "too_long"),
        ({"attributes": {"x" * 1025: 1}}, "attributes", "too_long"),
        ({"attributes": []}, "attributes", "wrong_type"),
        ({"owner_id": "o" * 257}, "owner_id", "too_long"),
        ({"group_id": "a\nb"}, "group_id", "control_character"),
        ({"published_at": "soon"}, "published_at", "not_a_time"),
        ({"published_at": "1939-02-30"}, "published_at", "not_a_time"),
        ({"published_at": "10000-01-01"}, "published_at", "not_a_time"),
        ({"expires_at": "0001-01-01T00:00:00+01:00"}, "expires_at", "out_of_range"),
        ({"expires_at": "9999-12-31T23:59:59-01:00"}, "expires_at", "out_of_range"),
        ({"embedding": []}, "embedding", "out_of_range"),
        ({"embedding": [1, 1e7]}, "embedding[1]", "out_of_range"),
        ({"embedding": ["x"]}, "embedding[0]", "wrong_type"),
        ({"attributes": {str(n): n for n in range(257)}}, "attributes", "too_many"),
        ({"attributes": HUGE}, "body", "too_large"),
    ],
)
def test_a_field_of_an_item_is_refused_by_name(body: Any, field: str, code: str) -> None:
    for way in (ingest_items.put, ingest_items.patch):
        with pytest.raises(Rejected) as caught:
            way(encode(body), "i1", NOW, 4)
        assert (caught.value.field, caught.value.code) == (field, code)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_every_number_is_finite(number: str) -> None:
    with pytest.raises(Exception, match=r"malformed|embedding") as caught:
        ingest_items.put(b'{"embedding": [%s]}' % number.encode(), "i1", NOW, 4)
    assert type(caught.value).__name__ in ("Problem", "Rejected")


def test_items_in_a_batch_name_themselves() -> None:
    batch = {"items": [{"item_id": "i1"}, {"title": "?"}, {"item_id": "i\t2"}, {"item_id": "i3"}]}
    done = ingest_items.put_many(encode(batch), NOW, 4, ndjson=False)
    assert [record.key for record in done.records] == [b"i1", b"i3"]
    assert [(why.index, why.field, why.code) for why in done.rejected] == [
        (1, "item_id", "required"),
        (2, "item_id", "control_character"),
    ]


def test_preferences_are_an_event_of_the_person() -> None:
    people = People(KEY, 4)
    body = {"personalized": False, "hidden_items": ["i1"], "liked_categories": ["drama"]}
    record = ingest_people.preferences(encode(body), "u1", "e1", NOW, people)
    person = pseudonym(*KEY, "u1")
    assert record.key == person.encode()
    assert events.decode_stored(record.value) == Preferences(
        event_id="e1",
        person=person,
        received_at=NOW,
        personalized=False,
        liked_categories=("drama",),
        hidden_items=("i1",),
    )


def test_null_and_blanks_in_preferences_are_not_said() -> None:
    fields = ("liked_categories", "hidden_categories", "hidden_items", "hidden_owners")
    body = {
        **dict.fromkeys(("personalized", *fields)),
        "hidden_categories": [None, " ", " war ", "war"],
    }
    record = ingest_people.preferences(encode(body), "u1", "e1", NOW, People(KEY, 4))
    assert events.decode_stored(record.value) == Preferences(
        event_id="e1", person=pseudonym(*KEY, "u1"), received_at=NOW, hidden_categories=("war",)
    )


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"hidden": []}, "hidden", "unknown_field"),
        ({"personalized": "no"}, "personalized", "wrong_type"),
        ({"hidden_items": ["a", 5]}, "hidden_items[1]", "wrong_type"),
        ({"hidden_owners": ["a", "b\n"]}, "hidden_owners[1]", "control_character"),
        ({"hidden_items": ["a"] * 1001}, "hidden_items", "too_many"),
    ],
)
def test_a_preference_is_refused_by_name(body: Any, field: str, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        ingest_people.preferences(encode(body), "u1", "e1", NOW, People(KEY, 4))
    assert (caught.value.field, caught.value.code) == (field, code)


def test_a_link_is_a_record_of_the_anonymous_person_and_a_mark_of_the_user() -> None:
    anonymous_id = ingest_people.anonymous_id(encode({"anonymous_id": "a1"}))
    written = ingest_people.link(anonymous_id, "u1", "e1", NOW, People(KEY, 4))
    person, to = anonymous(*KEY, "a1"), pseudonym(*KEY, "u1")
    for record, key in ((written.link, person.encode()), (written.mark, to.encode())):
        assert (record.key, record.partition) == (key, partition_of(key, 4))
    assert events.decode_stored(written.link.value) == Link(
        event_id="e1", person=person, to=to, received_at=NOW
    )
    mark = events.decode_stored(written.mark.value)
    assert mark == Linking(person=to, of=person, link="e1", received_at=NOW)
    assert isinstance(mark, Linking)
    assert "\0" in mark.event_id  # so that no client's event is taken for it


def test_an_unlink_is_a_record_of_the_anonymous_person_alone() -> None:
    record = ingest_people.unlink("a1", "u1", "e1", NOW, People(KEY, 4))
    person, to = anonymous(*KEY, "a1"), pseudonym(*KEY, "u1")
    assert (record.key, record.partition) == (person.encode(), partition_of(person.encode(), 4))
    assert events.decode_stored(record.value) == Unlink(
        event_id="e1", person=person, to=to, received_at=NOW
    )


@pytest.mark.parametrize(
    ("held", "link", "unlink"),
    [
        (Links(), (False, "unlinked"), (False, "not_linked")),
        (Links(by="mine"), (False, "unlinked"), (False, "unlinked")),
        (Links("u", by="mine"), (True, None), (True, "already")),
        (Links("u", by="other"), (True, "already"), (True, "already")),
        (Links("v", by="other"), (False, "linked_elsewhere"), (False, "linked_elsewhere")),
    ],
)
def test_a_verdict_is_of_the_links_after_the_record(held: Links, link: Any, unlink: Any) -> None:
    user = Pseudonym("u")
    assert ingest_people.link_verdict(held, user, "mine") == link
    assert ingest_people.unlink_verdict(held, user, "mine") == unlink


def test_whoever_shows_no_proof_does_not_learn_that_an_id_is_somebody_elses() -> None:
    user = Pseudonym("u")
    for held in (Links(to=Pseudonym("v"), by="x"), Links()):
        verdict = ingest_people.unlink_verdict(held, user, "mine")
        assert ingest_people.without_others(verdict) == (False, "not_linked")
    ended = ingest_people.unlink_verdict(Links(by="mine"), user, "mine")
    assert ingest_people.without_others(ended) == (False, "unlinked")


def test_a_placement_names_the_version_it_replaces() -> None:
    body = {"expected_version": 3, "recipe": {"weights": {"covisit": 1}}, "reason": "why"}
    record = ingest_control.placement(encode(body), "home", LOCAL, NOW)
    change = control.decode(record.value)
    assert (record.key, record.partition) == (b"placement:home", 0)
    assert (change.subject, change.id, change.expected_version) == ("placement", "home", 3)
    assert json.loads(bytes(change.body)) == {"weights": {"covisit": 1.0}}


@pytest.mark.skipif(kernel is None, reason=missing)
def test_a_field_that_is_there_twice_is_refused_whoever_reads_it() -> None:
    placed = b'{"expected_version":0,"recipe":{"weights":{"covisit":1},"depth":null,"depth":2}}'
    for read, path in (
        (lambda: ingest_control.placement(placed, "home", LOCAL, NOW), "recipe.depth"),
        (lambda: ingest_items.put(b'{"title":"a","title":"a"}', "i1", NOW, 4), "title"),
        (lambda: ingest_items.patch(b'{"attributes":{"a":1,"a":1}}', "i1", NOW, 4), "attributes.a"),
        (lambda: ingest_people.anonymous_id(b'{"anonymous_id":"a","anonymous_id":"b"}'), "anonymous_id"),
        (lambda: rows.parse(b'{"requests":[{"count":1},{"count":1,"count":2}]}'), "requests[1].count"),
    ):  # fmt: skip
        with pytest.raises(Rejected) as caught:
            read()
        assert (caught.value.field, caught.value.code) == (path, "repeated")


def test_null_in_a_recipe_or_an_experiment_is_not_said() -> None:
    recipe = {
        "weights": None,
        "category_cap": None,
        "fatigue": {"factor": None, "half_life_hours": 2},
        "filters": {"films": {"types": ["film"], "tags": None}, "none": None},
        "exploration": None,
    }
    body = {"expected_version": 0, "recipe": recipe, "actor": None, "reason": None}
    change = control.decode(ingest_control.placement(encode(body), "home", LOCAL, NOW).value)
    assert json.loads(bytes(change.body)) == {
        "fatigue": {"half_life_hours": 2.0},
        "filters": {"films": {"types": ["film"]}},
    }
    same = experiment({"salt": None, "running": None, "placement": "popular"}, actor=None)
    assert json.loads(bytes(same.body)) == {**EXPERIMENT, "placement": "popular"}
    with pytest.raises(Rejected) as caught:
        ingest_control.placement(
            encode({"recipe": recipe, "expected_version": None}), "home", LOCAL, NOW
        )
    assert (caught.value.field, caught.value.code) == ("expected_version", "required")


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"expected_version": -1}, "expected_version", "out_of_range"),
        ({"recipe": {"weights": {}}}, "recipe.weights", "empty"),
        ({"recipe": {"weights": {"astrology": 1}}}, "recipe.weights", "unknown_source"),
        ({"recipe": {"weights": {"covisit": 1e9}}}, "recipe.weights.covisit", "out_of_range"),
        (
            {"recipe": {"weights": {"covisit": 1}, "category_cap": 0}},
            "recipe.category_cap",
            "out_of_range",
        ),
        (
            {"recipe": {"weights": {"covisit": 1}, "category_cap": 2}},
            "recipe.category_cap",
            "out_of_range",
        ),
        ({"recipe": {"weights": {"covisit": 1}, "depth": 0}}, "recipe.depth", "out_of_range"),
        ({"recipe": {"weights": {"covisit": 1}, "cap": 0}}, "recipe.cap", "unknown_field"),
        ({"recipe": {"exploration": {"epsilon": 2}}}, "recipe.exploration.epsilon", "out_of_range"),
    ],
)
def test_a_placement_is_refused_by_name(change: Any, field: str, code: str) -> None:
    body = {"expected_version": 0, "recipe": {"weights": {"covisit": 1}}, **change}
    with pytest.raises(Rejected) as caught:
        ingest_control.placement(encode(body), "home", LOCAL, NOW)
    assert (caught.value.field, caught.value.code) == (field, code)


EXPERIMENT: dict[str, Any] = {
    "placement": "home",
    "variants": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}],
}


def experiment(change: Any = (), **body: Any) -> control.Change:
    in_force = definitions({"experiment:old": msgspec.convert(EXPERIMENT, control.Experiment)})
    whole = {"expected_version": 0, "experiment": {**EXPERIMENT, **dict(change)}, **body}
    record = ingest_control.experiment(encode(whole), "ranker", in_force, LOCAL, NOW)
    assert (record.key, record.partition) == (b"experiment:ranker", 0)
    return control.decode(record.value)


def test_an_experiment_names_the_version_it_replaces() -> None:
    change = experiment({"placement": "popular"}, expected_version=3, actor="me")
    assert (change.subject, change.id, change.expected_version) == ("experiment", "ranker", 3)
    assert (change.actor, change.received_at) == ("me", NOW)
    assert json.loads(bytes(change.body)) == {**EXPERIMENT, "placement": "popular"}


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({}, "experiment.placement", "overlapping_experiment"),
        ({"placement": "nowhere"}, "experiment.placement", "unknown_placement"),
        ({"variants": []}, "experiment.variants", "too_few"),
        ({"salt": 5}, "experiment.salt", "wrong_type"),
    ],
)
def test_an_experiment_is_refused_by_name(change: Any, field: str, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        experiment(change)
    assert (caught.value.field, caught.value.code) == (field, code)
