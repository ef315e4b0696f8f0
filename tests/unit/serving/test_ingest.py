"""Events at the edge: accepted records, and refusals by field. No server, no clock."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kernels.loading import kernel, missing
from schemas import times
from schemas.events import Action, EventIn, decode_stored
from schemas.identity import partition_of, pseudonym
from schemas.reject import Rejected
from serving.edge.events import Ingested, RequestContext, ingest
from serving.edge.identity import People
from serving.http.errors import Problem

KEY = (1, b"k" * 32)
PARTITIONS = 4
NOW = 1_767_225_600_000  # 2026-01-01T00:00:00Z
MINUTE = 60_000
DAY = 86_400_000
VIEW: dict[str, Any] = {"user_id": "u1", "item_id": "i1", "action": "view"}
SECRET = "sw0rdfish"


def lookup(item_id: str) -> tuple[bool, str, str]:
    return (True, "drama", "g1") if item_id == "i1" else (False, "", "")


def send(body: Any, **options: Any) -> Ingested:
    """`body` as JSON unless it is bytes."""
    numbers = itertools.count()
    given = {"received_at": NOW, "make_id": lambda: f"made{next(numbers)}", **options}
    ask = RequestContext(**given)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ingest(content, ask, People(KEY, PARTITIONS), lookup)


def action(done: Ingested, index: int = 0) -> Action:
    found = decode_stored(done.records[index].value)
    assert isinstance(found, Action)
    return found


def rejections(done: Ingested) -> list[tuple[int, str, str]]:
    return [(why.index, why.field, why.code) for why in done.rejected]


def refusal(body: Any, **options: Any) -> tuple[int, str, str]:
    """(status, field, code) of a body refused whole."""
    try:
        send(body, **options)
    except Rejected as rejected:
        return 422, rejected.field, rejected.code
    except Problem as problem:
        return problem.status, problem.errors[0].field, problem.errors[0].code
    pytest.fail("it was taken")


def test_an_event_is_enriched() -> None:
    done = send(
        {**VIEW, "event_id": "e1", "session_id": "s1", "rank": 3, "context": {"device": "ios"}}
    )
    record, enriched = done.records[0], action(done)
    person = pseudonym(*KEY, "u1")
    assert (record.key, record.partition) == (person.encode(), partition_of(person.encode(), 4))
    assert enriched == Action(
        event_id="e1",
        person=person,
        item_id="i1",
        action="view",
        occurred_at=NOW,
        received_at=NOW,
        category="drama",
        group="g1",
        known=True,
        session_id="s1",
        rank=3,
        context={"device": "ios"},
    )
    assert b"u1" not in record.key + record.value
    assert (done.single, done.assigned_ids, done.rejected) == (True, [None], [])


def test_an_unknown_item_is_taken_and_marked() -> None:
    enriched = action(send({**VIEW, "item_id": "i2"}))
    assert (enriched.known, enriched.category) == (False, "")


def test_user_id_counts_where_both_ids_are_given() -> None:
    both = action(send({**VIEW, "anonymous_id": "a1"}))
    assert both.person == pseudonym(*KEY, "u1")


def test_an_anonymous_id_is_not_the_user_of_the_same_name() -> None:
    anonymous = {"anonymous_id": "u1", "item_id": "i1", "action": "view"}
    assert action(send(anonymous)).person != action(send(VIEW)).person


def test_every_form_of_a_body_gives_the_same_records() -> None:
    several = [{**VIEW, "event_id": f"e{n}", "user_id": f"u{n}"} for n in range(3)]
    batch = send({"events": several})
    lines = send(b"\n\n".join(json.dumps(e).encode() for e in several) + b"\r\n", ndjson=True)
    array = send(several)
    single = [send(event).records[0] for event in several]
    assert batch.records == array.records == lines.records == single
    assert not batch.single
    assert not array.single
    assert not send([VIEW]).single


def test_bad_events_of_a_batch_are_rejected_alone() -> None:
    done = send({"events": [VIEW, {**VIEW, "action": "stare"}, {**VIEW, "item_id": 5}, VIEW]})
    assert len(done.records) == 2
    assert rejections(done) == [(1, "action", "unknown_action"), (2, "item_id", "wrong_type")]


def test_bad_events_of_an_array_are_rejected_as_those_of_a_batch() -> None:
    several = [VIEW, 5, {**VIEW, "action": "stare"}, {**VIEW, "item_id": 5}, [VIEW], VIEW]
    array, batch = send(several), send({"events": several})
    assert array == batch
    assert len(array.records) == 2


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"user_id": "\xff", "item_id": "i1", "action": "view"}', "not_utf8"),
        (b'{"user_id": "u", "item_id": "i1", "action": "view", "variant": "\xff"}', "not_utf8"),
        (b"\xff\xfe", "not_utf8"),
        (json.dumps(VIEW).encode() + b"\r" + json.dumps(VIEW).encode(), "malformed_json"),
        (b"\0", "malformed_json"),
        (b"\0\0\0\0", "malformed_json"),
        (b"[" * 10_000, "wrong_type"),
        (b"\x1c", "malformed_json"),
    ],
)
def test_a_bad_line_costs_that_line(line: bytes, code: str) -> None:
    good = json.dumps(VIEW).encode()
    done = send(b"\n".join([good, b"", b" \r", line, good + b"\r", b""]), ndjson=True)
    assert (len(done.records), rejections(done)) == (2, [(1, "body", code)])


def test_a_broken_line_is_rejected_alone() -> None:
    body = json.dumps(VIEW).encode() + b'\n{"user_id": \n' + json.dumps(VIEW).encode()
    done = send(body, ndjson=True)
    assert (len(done.records), rejections(done)) == (2, [(1, "body", "malformed_json")])


@pytest.mark.parametrize(
    ("event", "field", "code"),
    [
        ({"item_id": "i1", "action": "view"}, "user_id", "required"),
        ({"user_id": "u1", "action": "view"}, "item_id", "required"),
        ({**VIEW, "action": SECRET}, "action", "unknown_action"),
        ({**VIEW, SECRET[:4]: 1}, SECRET[:4], "unknown_field"),
        ({**VIEW, "user_id": ""}, "user_id", "not_an_id"),
        ({**VIEW, "user_id": SECRET * 40}, "user_id", "out_of_range"),
        ({**VIEW, "user_id": "é" * 129}, "user_id", "too_long"),
        ({**VIEW, "user_id": SECRET + "\n"}, "user_id", "control_character"),
        ({**VIEW, "session_id": SECRET + "\x85"}, "session_id", "control_character"),
        ({**VIEW, "item_id": "a\x00b"}, "item_id", "control_character"),
        ({**VIEW, "event_id": "a\x7f"}, "event_id", "control_character"),
        ({**VIEW, "occurred_at": SECRET}, "occurred_at", "not_a_time"),
        ({**VIEW, "occurred_at": "2026-01-01T00:00:00"}, "occurred_at", "not_a_time"),
        ({**VIEW, "occurred_at": "2026-01-01"}, "occurred_at", "not_a_time"),
        ({**VIEW, "occurred_at": 1767225600}, "occurred_at", "wrong_type"),
        ({**VIEW, "occurred_at": "1989-12-31T23:59:59Z"}, "occurred_at", "out_of_range"),
        ({**VIEW, "occurred_at": "2100-01-01T00:00:01Z"}, "occurred_at", "out_of_range"),
        ({**VIEW, "occurred_at": "0001-01-01T00:00:00+14:00"}, "occurred_at", "out_of_range"),
        ({**VIEW, "rank": -1}, "rank", "out_of_range"),
        ({**VIEW, "rank": 10**30}, "rank", "out_of_range"),
        ({**VIEW, "rank": 1.5}, "rank", "wrong_type"),
        ({**VIEW, "dwell_ms": -1}, "dwell_ms", "out_of_range"),
        ({**VIEW, "action": "cart", "value": 1e300}, "value", "out_of_range"),
        ({**VIEW, "value": SECRET}, "value", "wrong_type"),
        ({**VIEW, "context": {"a": [SECRET]}}, "context[...]", "wrong_type"),
        ({**VIEW, "context": {"a": 2**60}}, "context", "out_of_range"),
        ({**VIEW, "context": {"a": SECRET * 40}}, "context", "too_long"),
        ({**VIEW, "context": {str(n): n for n in range(33)}}, "context", "too_many"),
    ],
)
def test_a_field_is_refused_by_name_and_without_its_value(
    event: dict[str, Any], field: str, code: str
) -> None:
    done = send({"events": [VIEW, event]})
    assert rejections(done) == [(1, field, code)]
    assert SECRET not in str(done.rejected)


@pytest.mark.parametrize(
    ("body", "status", "field", "code"),
    [
        (b"", 400, "body", "empty"),
        (b"{", 400, "body", "malformed_json"),
        (b'{"value": NaN}', 400, "body", "malformed_json"),
        (b'{"user_id": "\\ud800"}', 400, "body", "malformed_json"),
        (b'{"events": [{"user_id": "\xff"}]}', 400, "body", "not_utf8"),
        (b'{"item_id": "i", "action": "view", "variant": "\xff"}', 400, "body", "not_utf8"),
        (b"[" * 100_000, 400, "body", "too_deep"),
        (b"[]", 422, "events", "empty"),
        (b'[{"user_id": 1}', 400, "body", "malformed_json"),
        (b'[{"user_id": "\xff"}]', 400, "body", "not_utf8"),
        (b'[], "sent_at": "2026-01-01T00:00:00Z"', 400, "body", "malformed_json"),
        (b"[" + b"{}," * 1000 + b"{}]", 413, "events", "too_many"),
        (b"[" + b"{}," * 300_000 + b"{}]", 413, "events", "too_many"),
        (b'{"a":' * 100_000, 400, "body", "too_deep"),
        (b'{"events":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "body", "too_deep"),
        (b"null", 422, "body", "wrong_type"),
        (b'{"events": null}', 422, "events", "wrong_type"),
        (b'{"events": []}', 422, "events", "empty"),
        (b'{"events": [1], "sent": 1}', 422, "sent", "unknown_field"),
        (b'{"events": [' + b"{}," * 1000 + b"{}]}", 413, "events", "too_many"),
        (b'{"events": [' + b"{}," * 300_000 + b"{}]}", 413, "events", "too_many"),
    ],
)
def test_a_body_is_refused_whole(body: bytes, status: int, field: str, code: str) -> None:
    assert refusal(body) == (status, field, code)


def test_lines_are_counted() -> None:
    line = json.dumps(VIEW).encode() + b"\n"
    assert len(send(line * 1000, ndjson=True).records) == 1000
    assert refusal(line * 1001, ndjson=True) == (413, "events", "too_many")
    assert refusal(b"\n" * 900_000, ndjson=True) == (413, "events", "too_many")
    assert refusal(b" \n\n", ndjson=True) == (400, "body", "empty")


def test_an_event_is_of_bounded_size() -> None:
    texts = {f"{n:02d}" + "😀" * 250: "😀" * 250 for n in range(32)}
    assert rejections(send({**VIEW, "context": texts})) == [(0, "body", "too_large")]


def test_null_in_an_event_is_not_said() -> None:
    optional = set(EventIn.__struct_fields__) - {"item_id", "action", "user_id"}
    done = send({**VIEW, **dict.fromkeys(optional)})
    assert done.rejected == []
    assert (action(done), done.ignored) == (action(send(VIEW)), 0)
    assert send({**VIEW, "variant": None, "propensity": 0.5}).ignored == 1


def test_fields_of_the_server_are_ignored_and_counted() -> None:
    said = {**VIEW, "experiments": [{"id": "x"}], "variant": "b", "propensity": 0.5}
    done = send({"events": [VIEW, said]})
    assert (len(done.records), done.ignored) == (2, 1)
    assert action(done, 0).person == action(done, 1).person
    assert b"propensity" not in done.records[1].value


def test_event_ids_that_the_server_makes_are_answered() -> None:
    done = send({"events": [VIEW, {**VIEW, "event_id": "mine"}, {**VIEW, "action": "no"}, VIEW]})
    assert done.assigned_ids == ["made0", None, None, "made2"]
    assert [action(done, n).event_id for n in range(3)] == ["made0", "mine", "made2"]


def test_an_idempotency_key_names_events_the_same_way_again() -> None:
    batch = {"events": [VIEW, {**VIEW, "event_id": "mine"}, VIEW]}
    done, again = (send(batch, idempotency_key="k1") for _ in range(2))
    names = ["\0key\0k1\x000", "mine", "\0key\0k1\x002"]
    assert [action(done, n).event_id for n in range(3)] == names
    assert (again.records, done.assigned_ids) == (done.records, [None, None, None])


def at(millis: int) -> str:
    seconds = f"{millis // 1000 % 86400 // 3600:02d}:{millis // 60_000 % 60:02d}"
    day = 1 + (millis - NOW) // DAY
    assert day >= 1
    return f"2026-01-{day:02d}T{seconds}:{millis // 1000 % 60:02d}.{millis % 1000:03d}Z"


@pytest.mark.parametrize(
    ("ahead", "clamped"), [(0, False), (5 * MINUTE, False), (5 * MINUTE + 1, True), (DAY, True)]
)
def test_a_clock_that_runs_ahead_is_clamped_beyond_five_minutes(ahead: int, clamped: bool) -> None:
    enriched = action(send({**VIEW, "occurred_at": at(NOW + ahead)}))
    assert enriched.clamped is clamped
    assert enriched.occurred_at == (NOW if clamped else NOW + ahead)
    assert enriched.received_at == NOW


def test_sent_at_corrects_the_clients_clock() -> None:
    # an hour fast: what it calls 01:00:30 was half a minute after its 01:00:00, our 00:00:00
    batch = {
        "events": [{**VIEW, "occurred_at": at(NOW + 61 * MINUTE)}],
        "sent_at": at(NOW + 60 * MINUTE),
    }
    enriched = action(send(batch))
    assert (enriched.occurred_at, enriched.clamped) == (NOW + MINUTE, False)
    assert refusal({**batch, "sent_at": "yesterday"}) == (422, "sent_at", "not_a_time")
    assert refusal({**batch, "sent_at": 5}) == (422, "sent_at", "wrong_type")


def test_a_correction_cannot_leave_the_range_of_times() -> None:
    batch = {"events": [{**VIEW, "occurred_at": "1990-01-01T00:00:00Z"}], "sent_at": at(NOW + DAY)}
    assert rejections(send(batch)) == [(0, "occurred_at", "out_of_range")]


def test_a_clock_that_was_reset_is_corrected_before_the_range_is_asked() -> None:
    batch = {
        "sent_at": "1970-01-01T00:06:00Z",
        "events": [{**VIEW, "occurred_at": "1970-01-01T00:05:00Z"}],
    }
    enriched = action(send(batch))
    assert (enriched.occurred_at, enriched.clamped) == (NOW - MINUTE, False)
    ahead = {**batch, "sent_at": "2250-01-01T00:00:00Z"}
    assert rejections(send(ahead)) == [(0, "occurred_at", "out_of_range")]
    ahead["events"] = [{**VIEW, "occurred_at": "2249-12-31T23:00:00Z"}]
    assert action(send(ahead)).occurred_at == NOW - 60 * MINUTE


FUTURE = [
    {"event_id": "f1", "user_id": "kim", "item_id": "lamp", "action": "view"},
    {"event_id": "f2", "user_id": "lee", "item_id": "lamp", "action": "purchase"},
    {"event_id": "f3", "user_id": "max", "item_id": "rug", "action": "view"},
]
TIMES = ("2025-11-28T10:00:00Z", "2025-11-28T10:05:00Z", "2062-01-01T00:00:00Z")


def test_nothing_of_2062_gets_in() -> None:
    lines = [{**it, "occurred_at": when} for it, when in zip(FUTURE, TIMES, strict=True)]
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    imported = send(body, ndjson=True, imported=True)
    assert len(imported.records) == 2
    assert rejections(imported) == [(2, "occurred_at", "in_the_future")]
    live = send(body, ndjson=True)
    assert (len(live.records), action(live, 2).clamped, action(live, 2).occurred_at) == (
        3,
        True,
        NOW,
    )


@given(st.integers(-(10**12), 10**13), st.none() | st.integers(-(10**12), 10**13), st.booleans())
def test_no_claim_is_later_than_five_minutes_after_arrival(
    occurred: int, sent: int | None, imported: bool
) -> None:
    batch: dict[str, Any] = {"events": [{**VIEW, "occurred_at": rfc3339(occurred)}]}
    if sent is not None:
        batch["sent_at"] = rfc3339(sent)
    done = send(batch, imported=imported)
    shift = 0 if sent is None or imported else NOW - sent
    if not done.records:
        [(_, field, code)] = rejections(done)
        assert field == "occurred_at"
        assert code in ("out_of_range", "in_the_future")
        assert imported or not times.EARLIEST <= occurred + shift <= times.LATEST
        return
    enriched = action(done)
    assert times.EARLIEST <= enriched.occurred_at <= NOW + 5 * MINUTE
    assert enriched.received_at <= NOW + 5 * MINUTE
    assert enriched.clamped == (occurred + shift > NOW + 5 * MINUTE)
    assert enriched.clamped or enriched.occurred_at == occurred + shift


def rfc3339(millis: int) -> str:
    moment = times.EPOCH + timedelta(milliseconds=millis)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize("year", [1995, 2025])
def test_an_import_is_received_when_it_occurred(year: int) -> None:
    event = {**VIEW, "occurred_at": f"{year}-06-01T12:00:00.5+02:00"}
    enriched = action(send({"events": [event], "sent_at": at(NOW)}, imported=True))
    assert enriched.received_at == enriched.occurred_at
    assert not enriched.clamped


def test_an_import_needs_its_time() -> None:
    assert rejections(send(VIEW, imported=True)) == [(0, "occurred_at", "required")]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode()), st.booleans())
def test_every_body_gives_records_or_refusals(body: bytes, ndjson: bool) -> None:
    try:
        done = send(body, ndjson=ndjson)
    except Rejected:
        return
    except Problem as problem:
        refused = problem.status
    else:
        refused = 0
        assert len(done.records) + len(done.rejected) == len(done.assigned_ids)
    assert refused in (0, 400, 413)


FIELDS = ("user_id", "item_id", "action", "event_id", "occurred_at", "rank", "value", "context")


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_whatever_a_field_holds_a_record_that_is_taken_can_be_read(change: dict[str, Any]) -> None:
    for record in send({"events": [{**VIEW, **change}, VIEW]}).records:
        assert isinstance(decode_stored(record.value), Action)


TWICE = b'{"user_id":"u1","item_id":"i1","action":"view","context":{"a":1,"\\u0061":2}}'


@pytest.mark.skipif(kernel is None, reason=missing)
def test_a_field_that_is_there_twice_is_refused_where_it_is() -> None:
    good = json.dumps(VIEW).encode()
    assert refusal(TWICE) == (422, "context.a", "repeated")
    for body, options in (
        (b'{"events":[%b,%b]}' % (good, TWICE), {}),
        (b"[%b,%b]" % (good, TWICE), {}),
        (b"%b\n%b" % (good, TWICE), {"ndjson": True}),
        (b"%b\n%b\n{" % (good, TWICE), {"ndjson": True}),
    ):
        done = send(body, **options)
        assert len(done.records) == 1
        assert rejections(done)[0] == (1, "context.a", "repeated")
    assert refusal(b'{"events":[%b],"events":[%b]}' % (TWICE, good)) == (422, "events", "repeated")
    sent_at = b'"sent_at":"2026-01-01T00:00:00Z"'
    twice = b'{%b,%b,"events":[%b]}' % (sent_at, sent_at, good)
    assert refusal(twice) == (422, "sent_at", "repeated")
