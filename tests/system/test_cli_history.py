"""Sending history: order within a key, batches, retries with the same ids, refusals as sentences."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from infra.client.history import EVENTS, Line, Summary, check_answers, send
from infra.client.over_limit import count_of, count_so_far
from infra.client.senders import BATCH_BYTES, NotSent
from tests.support.api import Answer, Api, accepted, serving


@pytest.fixture
def edge() -> Iterator[Api]:
    with serving() as server:
        yield server


def lines(count: int, people: int = 5) -> list[Line]:
    return [
        Line(f"u{n % people}", json.dumps({"user": f"u{n % people}", "n": f"{n:05}"}).encode())
        for n in range(count)
    ]


def test_everything_arrives_and_each_persons_in_order(edge: Api) -> None:
    done: list[int] = []
    summary = send(edge.url, EVENTS, lines(1000), connections=3, batch=70, progress=done.append)
    assert (summary.sent, summary.accepted, sum(done)) == (1000, 1000, 1000)
    assert summary.positions == {0: 7, 1: 70}
    assert max(map(len, edge.bodies)) == 70
    for person in range(5):
        got = [it["n"] for body in edge.bodies for it in body if it["user"] == f"u{person}"]
        assert got == sorted(got)
        assert len(got) == 200


@pytest.mark.parametrize("trouble", [(503, {"code": "not_durable"}), (429, {}), None])
def test_a_temporary_refusal_is_sent_again_as_it_was(edge: Api, trouble: Answer | None) -> None:
    edge.answers = [trouble, trouble]
    summary = send(edge.url, EVENTS, lines(20), connections=1)
    assert (summary.accepted, summary.retries) == (20, 2)
    assert edge.bodies[0] == edge.bodies[1] == edge.bodies[2]


def test_rejections_are_counted_also_where_all_are_rejected(edge: Api) -> None:
    errors = [
        {"field": "events[0].action", "code": "unknown_action"},
        {"field": "events[1]", "code": "not_an_object"},
    ]
    edge.answers = [(422, {"code": "invalid", "errors": errors}), accepted(1)]
    summary = send(edge.url, EVENTS, lines(3), connections=1, batch=2)
    assert (summary.sent, summary.accepted) == (3, 1)
    assert summary.rejected == {("action", "unknown_action"): 1, ("", "not_an_object"): 1}


def test_what_will_not_count_is_added_up(edge: Api) -> None:
    taken = {"accepted": 9, "rejected": [], "positions": [], "duplicates": 1, "unknown_items": 4}
    edge.answers = [(202, taken), (202, taken)]
    summary = send(edge.url, EVENTS, lines(30), connections=1, batch=10)
    assert (summary.accepted, summary.duplicates, summary.unknown_items) == (28, 2, 8)


def tables(at: str, over_limit: int) -> Answer:
    body = {"release": "", "tables": at, "unknown_over_limit": over_limit, "stands": None}
    return 200, body


def test_an_import_knows_its_events_over_the_limit_once_the_tables_have_read_them(
    edge: Api,
) -> None:
    summary = Summary(unknown_items=8, positions={0: 7, 1: 100})
    edge.statuses = [tables("0", 5), tables("8.100", 6), tables("8.101", 9)]
    assert (before := count_so_far(edge.url)) == 5
    assert count_of(summary, before, edge.url) == 4
    edge.statuses = [tables("8.101", 99)]
    assert count_of(summary, before, edge.url) == 8, "more than it has are of others"
    assert count_of(Summary(), None, edge.url) == 0, "none can be, and nothing is asked"


def test_what_an_import_cannot_know_of_its_events_over_the_limit_is_not_zero(edge: Api) -> None:
    summary = Summary(unknown_items=8, positions={0: 7})
    assert count_of(summary, None, edge.url) is None
    assert count_of(replace(summary, spooled=True), 5, edge.url) is None
    edge.statuses = [tables("7", 9)]
    assert count_of(summary, 5, edge.url, seconds=0) is None, "the tables are behind"
    edge.statuses = [tables("8", 0)]
    assert count_of(summary, 5, edge.url) is None, "other tables count"
    edge.statuses = [(403, {"code": "forbidden"})]
    assert count_so_far(edge.url) is None


def test_a_final_refusal_stops_the_import_with_a_sentence(edge: Api) -> None:
    edge.answers = [(401, {"code": "unauthorized"})] * 10
    with pytest.raises(NotSent, match="POST /v1/events\\?mode=import answered 401 unauthorized"):
        send(edge.url, EVENTS, lines(50_000), connections=2, batch=10)
    assert len(edge.bodies) <= 2, "each connection stops at its first refusal"


def test_an_api_that_does_not_listen_is_a_sentence_without_the_password() -> None:
    with pytest.raises(NotSent, match=r"nothing answers at http://127\.0\.0\.1:1: is"):
        check_answers("http://me:secret@127.0.0.1:1")


def test_a_batch_stays_below_what_the_api_takes(edge: Api) -> None:
    text = "x" * (BATCH_BYTES // 3)
    big = [Line("u", json.dumps({"user": "u", "n": text}).encode()) for _ in range(7)]
    assert send(edge.url, EVENTS, big, connections=1).accepted == 7
    assert [len(body) for body in edge.bodies] == [2, 2, 2, 1]


def test_nothing_to_send_is_nothing_sent(edge: Api) -> None:
    assert send(edge.url, EVENTS, []).sent == 0
    assert edge.bodies == []


def test_a_body_that_is_refused_whole_costs_the_line_that_is_the_cause(edge: Api) -> None:
    bad: Answer = (400, {"code": "malformed", "errors": [{"field": "body", "code": "not_utf8"}]})
    edge.refuse = lambda body: bad if b'"00013"' in body else None
    summary = send(edge.url, EVENTS, lines(100), connections=1, batch=50)
    assert (summary.sent, summary.accepted) == (100, 99)
    assert summary.rejected == {("body", "not_utf8"): 1}
    assert [it["n"] for it in edge.lines] == [f"{n:05}" for n in range(100) if n != 13]


def test_an_address_that_takes_no_line_at_all_stops_the_import(edge: Api) -> None:
    edge.refuse = lambda body: (415, {"code": "unsupported_media_type"})
    with pytest.raises(NotSent, match="answered 415 unsupported_media_type for every line"):
        send(edge.url, EVENTS, lines(10_000), connections=1)
    assert edge.bodies == []


def test_no_thread_goes_on_after_a_failure(edge: Api) -> None:
    before = set(threading.enumerate())
    edge.refuse = lambda body: (401, {"code": "unauthorized"}) if b'"00031"' in body else None
    for count in (40, 10_000):  # it fails at the end, and while lines are put
        with pytest.raises(NotSent, match="401 unauthorized"):
            send(edge.url, EVENTS, lines(count, people=40), connections=4, batch=10)
        ours = [it for it in set(threading.enumerate()) - before if "_run" in it.name]
        assert ours == []
