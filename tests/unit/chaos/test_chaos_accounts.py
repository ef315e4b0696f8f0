"""The ledger is read back as it was written, and each kind of wrong in a log is found and counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas import events
from schemas.events import Action, Link, Linking, Merge, Preferences, Served, Unlink
from schemas.identity import anonymous, pseudonym
from serving.edge.events import name_of_key
from tests.chaos.accounts import FAULTS, Found, Pseudonyms, Row, check
from tests.chaos.crowd import Crowd, Named, name, named
from tests.chaos.ledger import Acknowledged, Ledger, Line, Sent, lines, senders
from tests.chaos.ledgers import Ledgers, Sender, read_ledgers, sender_of

KEY = (1, b"k" * 32)
CROWD = Crowd(7, 1_760_000_000_000)
WHO = Pseudonyms(lambda raw: pseudonym(*KEY, raw), lambda raw: anonymous(*KEY, raw))
OUTCOME = {
    "event_id": "c0-30",
    "user_id": "c0-u1",
    "item_id": "i1",
    "action": "click",
    "slate_id": "s1",
}


def record(number: int, sender: str = "c0") -> events.Event:
    """As the edge logs event `number`."""
    event = OUTCOME if number == 30 else CROWD.event(sender, number)
    user = event.get("user_id")
    return Action(
        event_id=name(sender, number),
        person=WHO.user(user) if user else WHO.anonymous(event["anonymous_id"]),  # type: ignore[arg-type]
        item_id=event["item_id"],
        action=event["action"],
        occurred_at=1,
        received_at=2,
        session_id=event.get("session_id", ""),
        slate_id=event.get("slate_id", ""),
    )


def link(number: int) -> events.Event:
    user, body = CROWD.link("c0", number)
    who = WHO.anonymous(body["anonymous_id"])
    return Link(event_id=f"c0-{number}", person=who, to=WHO.user(user), received_at=2)  # type: ignore[arg-type]


def unlink(number: int) -> events.Event:
    user, body = UNLINKED
    who = WHO.anonymous(body["anonymous_id"])
    return Unlink(event_id=f"c0-{number}", person=who, to=WHO.user(user), received_at=2)  # type: ignore[arg-type]


def marks_of(linked: Any, n: int = 1) -> list[events.Event]:
    """The mark with the person, and the merge."""
    link_ = linked.event_id
    person, of = linked.to, linked.person
    return [
        Linking(person=person, of=of, link=link_, received_at=2),
        Merge(person=person, source=0, offset=1, n=n, received_at=2, of=of, link=link_),
    ]


def preferences(number: int) -> events.Event:
    user, body = CROWD.preferences("c0", number)
    fields: dict[str, Any] = {
        key: tuple(it) if isinstance(it, list) else it for key, it in body.items()
    }
    person: Any = WHO.user(user)
    return Preferences(event_id=f"c0-{number}", person=person, received_at=2, **fields)


GOOD = [n for n in range(30) if not CROWD.is_refused("c0", n)]
UNLINKED = CROWD.link("c0", 31)
REFUSED = [n for n in range(30) if CROWD.is_refused("c0", n)]


def ledgers() -> Ledgers:
    """Requests of ten events each, an outcome, a link, preferences, an unlink, a slate; and two of poison."""
    body = msgspec.Raw(msgspec.json.encode(OUTCOME))
    slate = msgspec.Raw(b'{"slate_id":"s1","user_id":"c0-u1","items":["i1"]}')
    acts: list[Line] = []
    for request in range(3):
        mine = [n for n in REFUSED if n // 10 == request]
        acts.append(Sent(request=request, what="events", first=10 * request, count=10))
        acts.append(Acknowledged(request=request, durable="broker", connection=1, refused=mine))
    for request, what, count in ((3, "outcome", 1), (4, "link", 1), (5, "preferences", 1)):
        sent: Any = {"request": request, "what": what, "first": 27 + request, "count": count}
        acts.append(Sent(**sent, body=body if what == "outcome" else msgspec.UNSET))
        acts.append(Acknowledged(request=request, durable="broker", connection=1))
    end = msgspec.Raw(msgspec.json.encode({"user_id": UNLINKED[0], **UNLINKED[1]}))
    acts.append(Sent(request=7, what="unlink", first=33, count=1, body=end))
    acts.append(Acknowledged(request=7, durable="broker", connection=1))
    acts.append(Sent(request=8, what="slate", first=34, count=0, body=slate))
    poison = [
        line
        for n in range(2)
        for line in (
            Sent(request=n, what="poison", first=n, count=1),
            Acknowledged(request=n, durable="broker"),
        )
    ]
    return {"c0": sender_of(acts), "poison": sender_of(poison)}


def log() -> list[bytes]:
    """The log of `events` without a fault."""
    served = Served(
        person=WHO.user("c0-u1"),  # type: ignore[arg-type]
        slate_id="s1",
        placement="home",
        received_at=1,
        items=("i1",),
    )
    made = [*map(record, GOOD), served, record(30), link(31), preferences(32), *marks_of(link(31))]
    made.append(unlink(33))
    return [*map(events.encode, made), CROWD.poison(0), CROWD.poison(1)]


def rows(values: list[bytes]) -> list[Row]:
    return [Row(0, offset, value, 2**42) for offset, value in enumerate(values)]


def letters(values: list[bytes]) -> list[bytes]:
    return [f"events:0:{n}:0".encode() for n, value in enumerate(values) if b"poison" in value]


def found(
    values: list[bytes], ledgers_: Ledgers | None = None, keys: list[bytes] | None = None
) -> Found:
    held = letters(values) if keys is None else keys
    return check(ledgers() if ledgers_ is None else ledgers_, rows(values), held, WHO, CROWD)


def test_a_log_without_faults_is_counted_and_nothing_is_found() -> None:
    result = found(log())
    assert not any(result.counts.values()), result.examples
    assert (result.sent, result.refused, result.poison) == (36, len(REFUSED), 2)
    assert result.acknowledged == 36 - len(REFUSED)
    assert result.distinct + result.poison + result.refused == result.sent


def test_a_second_copy_is_no_fault_of_the_log() -> None:
    values = log()
    assert not any(found([*values, values[0], values[3]]).counts.values())


def test_the_id_that_a_key_gives_is_that_of_its_event() -> None:
    for text in ("c0-7", name_of_key("c0-7")):
        assert named(text) == ("c0", 7)


Change = Callable[[list[bytes]], list[bytes]]


def _altered(values: list[bytes]) -> list[bytes]:
    return [
        events.encode(msgspec.structs.replace(events.decode_stored(values[0]), item_id="x")),
        *values,
    ]


def _unsent(values: list[bytes]) -> list[bytes]:
    return [*values, events.encode(msgspec.structs.replace(record(0), event_id="c0-99"))]


def _of_no_sender(values: list[bytes]) -> list[bytes]:
    return [*values, events.encode(msgspec.structs.replace(record(0), event_id="who"))]


def _merged_again(values: list[bytes]) -> list[bytes]:
    return [*values, events.encode(marks_of(link(31), n=2)[1])]


def _without(word: bytes) -> Change:
    return lambda values: [it for it in values if word not in it]


def _merges(values: list[bytes]) -> list[bytes]:
    merge = Merge(person=WHO.user("a"), source=0, offset=9, n=1, received_at=1)  # type: ignore[arg-type]
    return [*values, *(events.encode(msgspec.structs.replace(merge, entered=n)) for n in range(2))]


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("lost", lambda values: values[1:]),
        ("lost", _without(b'"kind":"preferences"')),
        ("lost_marks", _without(b'"kind":"linking"')),
        ("lost", lambda values: values[:-1]),
        ("lost_slates", _without(b'"kind":"served"')),
        ("links_without_merge", _without(b'"kind":"merge"')),
        ("links_merged_twice", _merged_again),
        ("unsent", _unsent),
        ("unsent", _of_no_sender),
        ("unsent", lambda values: [*values, b"rubbish"]),
        ("altered", _altered),
        ("out_of_order", lambda values: [*values[10:20], *values[:10], *values[20:]]),
        ("merges_that_differ", _merges),
    ],
)
def test_what_is_wrong_in_the_log_is_found(what: str, change: Change) -> None:
    result = found(change(log()))
    assert result.counts[what] > 0
    assert result.examples[what]
    assert not any(result.counts[it] for it in FAULTS if it != what), result.examples


def test_a_missing_letter_and_a_false_one_are_counted() -> None:
    values = log()
    assert found(values, keys=letters(values)[1:]).counts["lost_letters"] == 1
    result = found(values, keys=[*letters(values), b"events:0:0:0"])
    assert result.counts["false_letters"] == 1


def test_an_event_that_the_edge_must_reject_and_did_not() -> None:
    crowd = next(Crowd(seed, 0) for seed in range(10**6) if Crowd(seed, 0).is_refused("c0", 3))
    result = check(ledgers(), rows([events.encode(record(3))]), [], WHO, crowd)
    assert result.counts["not_refused"] >= 1


def one_person(requests: list[tuple[int, str, int]]) -> tuple[Ledgers, Callable[[int], bytes]]:
    """A ledger of one event a request: (request, durable, connection)."""
    acts: list[Line] = []
    for request, durable, connection in requests:
        acts.append(Sent(request=request, what="events", first=request, count=1))
        acts.append(Acknowledged(request=request, durable=durable, connection=connection))
    person: Any = WHO.user("one")
    return {"c0": sender_of(acts)}, lambda n: events.encode(
        msgspec.structs.replace(record(n), person=person)
    )


@pytest.mark.parametrize(
    ("first", "second", "wrong"),
    [
        (("broker", 1), ("broker", 1), 1),
        (("broker", 1), ("broker", 2), 1),
        (("broker", 1), ("spool", 2), 1),
        (("spool", 1), ("spool", 1), 1),
        (("spool", 1), ("broker", 1), 1),
        # the spool of a worker that is gone: the order waits for none of it
        (("spool", 1), ("broker", 2), 0),
    ],
)
def test_order_is_checked_where_it_was_promised(
    first: tuple[str, int], second: tuple[str, int], wrong: int
) -> None:
    made, value = one_person([(0, *first), (1, *second)])
    assert check(made, rows([value(0), value(1)]), [], WHO, CROWD).counts["out_of_order"] == 0
    result = check(made, rows([value(1), value(0)]), [], WHO, CROWD)
    assert result.counts["out_of_order"] == wrong


def test_what_was_never_acknowledged_may_be_missing() -> None:
    made = {"c0": sender_of([Sent(request=0, what="events", first=0, count=5)])}
    result = check(made, [], [], WHO, CROWD)
    assert not any(result.counts.values())
    assert result.unacknowledged == result.sent == 5


# -- the ledger ---------------------------------------------------------------------------


def test_a_ledger_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written: list[Line] = [
        Sent(request=0, what="events", first=0, count=3, again=[7, 8]),
        Acknowledged(request=0, durable="spool", connection=4, refused=[2]),
        Sent(request=1, what="outcome", first=3, count=1, body=msgspec.Raw(b'{"a":"b"}')),
    ]
    ledger = Ledger(tmp_path, "c0")
    for line in written:
        ledger.write(line)
    ledger.close()
    read = list(lines(senders(tmp_path)["c0"]))
    assert read[:2] == written[:2]
    assert isinstance(read[2], Sent)
    assert read[2].said() == {"a": "b"}
    assert set(read_ledgers(tmp_path)) == {"c0"}


def test_a_torn_last_line_is_no_promise(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "c0")
    ledger.write(Sent(request=0, what="events", first=0, count=3))
    ledger.close()
    path = senders(tmp_path)["c0"]
    path.write_bytes(path.read_bytes() + b'{"_":"A","requ')
    assert len(list(lines(path))) == 1


def test_an_event_knows_its_request() -> None:
    made = Sender()
    for request, (first, count) in enumerate([(0, 3), (3, 0), (3, 1), (4, 0)]):
        made.take(Sent(request=request, what="events", first=first, count=count))
    asked = [made.of(number) for number in range(5)]
    assert [it.request if it else None for it in asked] == [0, 0, 0, 2, None]


# -- the crowd ----------------------------------------------------------------------------


def test_an_event_is_a_function_of_seed_sender_and_number() -> None:
    assert CROWD.event("c1", 5) == Crowd(7, CROWD.began).event("c1", 5)
    assert CROWD.event("c1", 5) != CROWD.event("c2", 5)
    assert Crowd(8, CROWD.began).event("c1", 5) != CROWD.event("c1", 5)
    assert named(name("c1", 5)) == Named("c1", 5)
    assert named("01J8Z") is None


def test_a_crowd_has_all_kinds_of_people_and_some_events_to_refuse() -> None:
    made = [CROWD.event("c1", n) for n in range(3000)]
    users = {event["user_id"] for event in made if "user_id" in event}
    assert {user.partition("-")[0] for user in users} == {"c1", "shared"}
    assert sum("anonymous_id" in event for event in made) > 100
    assert 0 < sum(event["action"] == "bark" for event in made) < 50
    assert len({event["item_id"] for event in made}) > 100
