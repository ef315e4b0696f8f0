"""`freshet dead-letters` over real topics: each letter counts once, and its record is sent once more."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from click.testing import CliRunner
from kafka import TopicPartition

from flows.kit.dead_letters import MAX_VALUE_BYTES, DeadLetterProducer
from infra.cli.main import cli
from infra.kafka import dead_letters, kafka_client
from infra.kafka.dead_letters import Letterbox
from infra.settings import Settings, to_environment
from schemas import dead_letters as dead_letter
from schemas import events
from schemas.dead_letters import REDRIVEN, TRIES, DeadLetter, Redrive
from schemas.events import Served
from schemas.headers import FRAME
from schemas.topics import DEAD_LETTERS, EVENTS
from tests.flows.faults import POISON
from tests.laws.world import T0, action
from tests.support.lakes import person
from tests.support.running import fold_people

SECRET = b"swordfish of nineteen"


SECRET_IN_FRAME = b'{"kind":"served","person":"swordfish"}'


def send(
    settings: Settings,
    partition: int,
    values: Sequence[bytes | None],
    headers: Sequence[tuple[str, bytes]] = (),
) -> None:
    producer = kafka_client.producer(settings)
    for value in values:
        producer.send(EVENTS.name, value, b"somebody", list(headers), partition)
    producer.flush()
    producer.close()


def log_of(settings: Settings, topic: str) -> list[Any]:
    """Every record of a topic."""
    consumer = kafka_client.consumer(settings, max_poll_records=5000)
    try:
        partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        end_offsets, found = consumer.end_offsets(partitions), []
        while any(
            consumer.position(partition) < end_offsets[partition] for partition in partitions
        ):
            found += [it for records in consumer.poll(500).values() for it in records]
        return found
    finally:
        consumer.close()


def once_more(settings: Settings) -> list[Any]:
    """The records of `events` that carry the header of a redrive."""
    return [it for it in log_of(settings, EVENTS.name) if dict(it.headers).get(REDRIVEN)]


def freshet(settings: Settings, *arguments: object, code: int = 0) -> Any:
    done = CliRunner(env=to_environment(settings)).invoke(
        cli, ["dead-letters", *map(str, arguments)], prog_name="freshet"
    )
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if "--json" in arguments else done.output


def letter(n: int, value: bytes | None = POISON, **more: Any) -> DeadLetter:
    fields = {"topic": "events", "partition": 1, "offset": n, "reason": "not_json", "record_at": T0}
    return DeadLetter(**{**fields, "value": value, "key": b"somebody", **more})


def put(settings: Settings, *letters: DeadLetter) -> None:
    sender = DeadLetterProducer(settings)
    sender.send(list(letters))
    sender.close()


def test_letters_are_counted_by_identity_and_their_bytes_are_asked_for(settings: Settings) -> None:
    send(settings, 2, [SECRET, None, b"\xff"])
    send(settings, 3, [SECRET])
    fold_people(settings)
    put(settings, letter(0, SECRET, partition=3))  # a flow that was killed before its commit
    report = freshet(settings, "list", "--json")
    assert report["paused"] == []
    assert {(it["partition"], it["reason"]): it["letters"] for it in report["groups"]} == {
        (2, "empty"): 1,
        (2, "not_json"): 2,
        (3, "not_json"): 1,
    }
    each = freshet(settings, "list", "--each", "--partition", 3, "--json")["letters"]
    assert [(it["id"], it["repeats"], it["bytes"]) for it in each] == [
        ("events:3:0:0", 1, len(SECRET))
    ]
    assert "swordfish" not in freshet(settings, "list") + freshet(settings, "show", "events:3:0")
    assert "swordfish" in freshet(settings, "show", "events:3:0", "--bytes")
    assert "no such dead letter" in freshet(settings, "show", "events:3:9", code=1)


def test_a_record_is_sent_once_more_and_never_again(settings: Settings) -> None:
    send(settings, 2, [SECRET, None])
    fold_people(settings)
    assert freshet(settings, "redrive", "--all", "--dry-run", "--json")["sent"] == 2
    assert once_more(settings) == []
    assert freshet(settings, "redrive", "--reason", "not_json", "--json")["sent"] == 1
    (record,) = once_more(settings)
    assert (record.partition, record.key, record.value) == (2, b"somebody", SECRET)
    report = freshet(settings, "redrive", "events:2:0", "--json")
    assert (report["sent"], report["redriven_before"]) == (0, 1)
    assert len(once_more(settings)) == 1
    assert freshet(settings, "list", "--state", "redriven", "--json")["groups"][0]["letters"] == 1

    fold_people(settings)  # it fails again: a new letter shows the loop
    again = freshet(settings, "show", f"events:2:{record.offset}", "--json")
    assert (again["tries"], again["state"]) == (1, "waiting")
    freshet(settings, "redrive", f"events:2:{record.offset}")
    fold_people(settings)
    third = freshet(settings, "list", "--each", "--json")["letters"]
    assert sorted(it["tries"] for it in third) == [0, 0, 1, 2]
    assert "name letters by id" in freshet(settings, "redrive", code=2)


def test_an_old_letter_without_a_key_is_read_and_goes_to_its_partition(settings: Settings) -> None:
    old = b'{"topic":"events","partition":3,"offset":7,"reason":"x","value":"QQ==","record_at":5}'
    assert dead_letter.decode(old) == letter(
        7, b"A", partition=3, reason="x", key=None, record_at=5
    )
    put(settings, dead_letter.decode(old))
    assert freshet(settings, "redrive", "--all", "--json")["sent"] == 1
    (record,) = once_more(settings)
    assert (record.partition, record.key, record.value) == (3, None, b"A")


def test_of_two_operators_who_redrive_at_once_one_sends(settings: Settings) -> None:
    put(settings, *[letter(n) for n in range(2500)])
    keep = lambda it: True  # noqa: E731
    boxes = [Letterbox(settings, keep) for _ in range(2)]
    outcomes = []
    both = [
        threading.Thread(target=lambda box=box: outcomes.append(box.redrive(list(box.letters))))
        for box in boxes
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    for box in boxes:
        box.close()
    sent = [name for outcome in outcomes for name in outcome.sent]
    assert len(sent) == len(set(sent)) == len(once_more(settings)) == 2500
    others = [len(it.before) + len(it.elsewhere) for it in outcomes]
    assert sum(others) == 2500


@pytest.mark.parametrize("age_s", [1, dead_letters.CLAIM_SECONDS + 1])
def test_a_claim_holds_until_its_owner_must_be_gone(settings: Settings, age_s: float) -> None:
    """The run before sent the record of 1, not that of 2, and was killed before it noted that."""
    now = dead_letters._now()
    claim = Redrive(by="gone", at=now - int(age_s * 1000), end=0)
    put(settings, letter(1), letter(2), letter(1, redrive=claim), letter(2, redrive=claim))
    producer = kafka_client.producer(settings)
    headers = [(REDRIVEN, b"events:1:1"), (TRIES, b"1")]
    producer.send(EVENTS.name, POISON, b"somebody", headers=headers, partition=1).get(10)
    producer.close()
    report = freshet(settings, "redrive", "--all", "--json")
    if age_s < dead_letters.CLAIM_SECONDS:
        assert (report["sent"], report["claimed_by_another_run"]) == (0, 2)
    else:
        assert (report["sent"], report["redriven_before"]) == (1, 1)
        report = freshet(settings, "redrive", "--all", "--json")
        assert (report["sent"], report["redriven_before"]) == (0, 2)
    sent = Counter(dict(it.headers)[REDRIVEN] for it in once_more(settings))
    assert set(sent.values()) == {1}


def test_a_good_record_in_a_letter_is_folded_once(settings: Settings) -> None:
    """As after an upgrade to a version that reads the record."""
    put(settings, letter(5, events.encode(action(1))))
    for _ in range(2):
        freshet(settings, "redrive", "--all")
    fold_people(settings)
    assert [events.decode_stored(it.value) for it in log_of(settings, EVENTS.name)] == [action(1)]


def test_the_bad_record_of_a_frame_is_a_letter_and_is_sent_again_alone(settings: Settings) -> None:
    good = Served(
        person=person(7), slate_id="s", placement="home", received_at=T0, items=("a", "b")
    )
    values = [events.encode(good), SECRET_IN_FRAME, events.encode(action(1))]
    frame = b"[%b]" % b",".join(values)
    headers = [*EVENTS.headers, (FRAME, b"3")]
    producer = kafka_client.producer(settings)
    for value in (frame, b"[]"):
        producer.send(EVENTS.name, value, b"", headers, 2).get(10)
    producer.close()
    fold_people(settings)
    each = freshet(settings, "list", "--each", "--json")["letters"]
    assert {it["id"]: (it["reason"], it["bytes"]) for it in each} == {
        "events:2:0:1": ("does_not_fit_schema", len(SECRET_IN_FRAME)),
        "events:2:0:2": ("bad_frame", len(values[2])),
        "events:2:1:0": ("bad_frame", 2),
    }
    assert freshet(settings, "redrive", "--all", "--json")["sent"] == 3
    sent = {it.value: it for it in once_more(settings)}
    assert sent.keys() == {SECRET_IN_FRAME, values[2], b"[]"}
    assert [it.value for it in sent.values() if FRAME in dict(it.headers)] == [b"[]"]
    fold_people(settings)  # the action counts now, as a single record
    state = freshet(settings, "list", "--state", "waiting", "--each", "--json")["letters"]
    assert sorted(it["reason"] for it in state) == ["bad_frame", "does_not_fit_schema"]


def test_what_is_too_long_for_a_letter_is_read_where_it_lies(settings: Settings) -> None:
    long = b"x" * (MAX_VALUE_BYTES + 1)
    send(settings, 1, [long])
    fold_people(settings)
    (record,) = log_of(settings, DEAD_LETTERS.name)
    assert len(record.value) < 1000
    assert freshet(settings, "list", "--json")["groups"][0]["bytes"] == len(long)
    assert freshet(settings, "redrive", "--all", "--json")["sent"] == 1
    (record,) = once_more(settings)
    assert record.value == long
    put(settings, letter(99, None, size=len(long)))
    assert "no longer has them: events:1:99:0" in freshet(settings, "redrive", "--all", code=1)


def test_a_letter_of_a_partition_that_is_not_there_is_an_error(settings: Settings) -> None:
    put(settings, letter(1, partition=77))
    output = freshet(settings, "redrive", "--all", code=1)
    assert "topic events has no partition 77" in output


def test_resume_names_the_partitions_that_there_are(settings: Settings) -> None:
    assert "partitions 0 to 3" in freshet(settings, "resume", "events", 4, code=2)
    send(settings, 1, [POISON])
    assert "poison before offset 1 is accepted" in freshet(settings, "resume", "events", 1)


def test_headers_go_from_a_record_to_its_letter_and_with_it_when_it_is_sent_again(
    settings: Settings,
) -> None:
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    ours = [*EVENTS.headers, ("traceparent", trace)]
    send(settings, 2, [POISON], ours)
    fold_people(settings)
    (record,) = log_of(settings, DEAD_LETTERS.name)
    assert list(record.headers) == [*DEAD_LETTERS.headers, ("traceparent", trace)]
    assert list(dead_letter.decode(record.value).headers) == ours
    for tries in (1, 2):
        freshet(settings, "redrive", "--all")
        record = once_more(settings)[-1]
        assert [*ours, (TRIES, b"%d" % tries)] == [it for it in record.headers if it[0] != REDRIVEN]
        assert len(record.headers) == 4
        fold_people(settings)
    shown = freshet(settings, "show", "events:2:0", "--bytes", "--json")
    assert [name for name, _ in shown["headers"]] == ["freshet-schema", "traceparent"]


def test_headers_that_no_letter_holds_stop_nothing_and_are_read_where_they_lie(
    settings: Settings,
) -> None:
    """Headers as a foreign producer may send them: long, many, no text, an invalid trace."""
    theirs = [
        ("long", bytes(300_000)),
        ("traceparent", b"\xff\x00"),
        *((f"h{n}", b"\xfe") for n in range(70)),
    ]
    send(settings, 2, [POISON], theirs)
    send(settings, 2, [events.encode(action(1))], theirs)
    fold_people(settings)
    (record,) = log_of(settings, DEAD_LETTERS.name)
    assert list(record.headers) == list(DEAD_LETTERS.headers)
    letter = dead_letter.decode(record.value)
    assert (letter.headers, letter.headers_too_long) == (tuple(theirs[1:65]), 8)
    assert freshet(settings, "show", "events:2:0", "--json")["headers_too_long"] == 8
    assert freshet(settings, "redrive", "--all", "--json")["sent"] == 1
    (record,) = once_more(settings)
    assert list(record.headers)[:-2] == theirs
