"""What the fold of `control` refuses: a letter on `dead-letters` with its reason, and never in force."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from kafka import TopicPartition

from flows import control
from flows.kit.run import run_flow
from flows.kit.source import Reader
from infra.kafka import kafka_client
from infra.settings import Settings
from infra.store import redis_client
from schemas import dead_letters
from schemas.control import Held
from schemas.keys import PLAIN
from schemas.topics import CONTROL, DEAD_LETTERS

pytestmark = pytest.mark.on_cluster

OLD, NEW, MISSING = "2026-11-23.9", "2026-11-23.10", "2026-11-24.1"
HALVES = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}]
RUN = {"placement": "home", "variants": HALVES}
DIGEST = {"manifest_sha256": "0" * 64}
SECRET = "sw0rdfish"

SAID: list[tuple[str, int, Any, str]] = [
    # subject:id, expected version, body, outcome
    ("placement:shelf", 0, {"weights": {"popular": 1}}, "taken"),
    ("placement:shelf", 0, {"weights": {"popular": 2}}, "stale"),
    ("placement:shelf", 1, {"exploration": {"epsilon": 7}}, "bad_placement:exploration.epsilon"),
    ("placement:shelf", 1, {"weights": {SECRET + "?": 1}}, "bad_placement:weights:malformed"),
    ("placement:shelf", 1, {"owner": SECRET}, "bad_placement:owner:unknown_field"),
    ("placement:shelf", 1, SECRET, "bad_placement:body:wrong_type"),
    ("experiment:one", 0, RUN, "taken"),
    ("experiment:two", 0, RUN, "overlapping_experiment"),
    ("experiment:two", 0, {**RUN, "placement": "shelf"}, "taken"),
    ("experiment:two", 1, {**RUN, "placement": SECRET}, "unknown_placement"),
    (
        "experiment:two",
        1,
        {"placement": "shelf", "variants": [HALVES[0], {**HALVES[1], "placement": SECRET}]},
        "unknown_placement",
    ),
    (
        "experiment:two",
        1,
        {"placement": "shelf", "variants": [HALVES[0], {**HALVES[1], "release": MISSING}]},
        "missing_release",
    ),
    (
        "experiment:two",
        1,
        {"placement": "shelf", "variants": [HALVES[0], {**HALVES[1], "share": 0.6}]},
        "bad_experiment:variants[1].share:out_of_range",
    ),
    ("experiment:a=b", 0, RUN, "bad_experiment:experiment_id:malformed"),
    ("policy:release", 0, {"release": NEW}, "missing_release"),
    (f"release:{OLD}", 0, DIGEST, "taken"),
    (f"release:{NEW}", 0, {**DIGEST, "parent": OLD}, "taken"),
    ("release:newest", 0, DIGEST, "bad_release:release:malformed"),
    ("policy:release", 0, {"release": NEW}, "taken"),
    ("policy:release", 1, {"release": OLD}, "older_release"),
    ("policy:release", 1, {"release": "latest"}, "bad_policy:release:malformed"),
    ("policy:release", 1, {"release": OLD, "rollback": True}, "taken"),
    ("policy:else", 0, {"any": [SECRET]}, "taken"),
]


def value(name: str, expected_version: int, body: Any) -> bytes:
    subject, _, identifier = name.partition(":")
    fields = {"subject": subject, "id": identifier, "expected_version": expected_version}
    return json.dumps({**fields, "received_at": 1, "body": body}).encode()


def send(settings: Settings, values: Sequence[bytes]) -> None:
    producer = kafka_client.producer(settings)
    for each in values:
        producer.send(CONTROL.name, value=each, partition=0)
    producer.flush()
    producer.close()


def fold(settings: Settings, at_once: int | None = None) -> dict[str, int]:
    """Runs the flow to the log's end, so many records a batch, and answers its counters."""
    if at_once is not None:
        settings = msgspec.structs.replace(settings, batch=at_once)
    reader = Reader(settings, CONTROL.name, until_end=True)
    worker, counted = control.Control(settings, reader), dict[str, int]()
    apply = worker.apply

    def counting(decoded: control.Decoded) -> Any:
        write = apply(decoded)
        for what, n in write.counts.items():
            counted[what] = counted.get(what, 0) + n
        return write

    worker.apply = counting  # type: ignore[method-assign]
    try:
        run_flow(control.dataflow(worker))
    finally:
        worker.close()
    return counted


def letters(settings: Settings) -> dict[int, dead_letters.DeadLetter]:
    """The dead letters by their offset in `control`."""
    consumer = kafka_client.consumer(settings)
    place = TopicPartition(DEAD_LETTERS.name, 0)
    found = {}
    try:
        consumer.assign([place])
        consumer.seek(place, 0)
        end = consumer.end_offsets([place])[place]
        while consumer.position(place) < end:
            for record in consumer.poll(500).get(place, []):
                each = dead_letters.decode(record.value)
                assert record.key == each.identity.encode()
                found[each.offset] = each
    finally:
        consumer.close()
    return found


def state(settings: Settings) -> dict[str, Held]:
    with redis_client.connect(settings) as client:
        held = client.hgetall(PLAIN.control_state())
    return {name.decode(): msgspec.json.decode(v, type=Held) for name, v in held.items()}


@pytest.mark.parametrize("at_once", [None, 1, 4])
def test_every_refusal_has_a_name_and_no_effect(settings: Settings, at_once: int | None) -> None:
    send(settings, [value(name, version, body) for name, version, body, _ in SAID])
    counted = fold(settings, at_once)
    refused = letters(settings)
    for offset, (_, _, _, came) in enumerate(SAID):
        if came in ("taken", "stale"):
            assert offset not in refused, SAID[offset]
        else:
            assert refused[offset].reason.startswith(came), SAID[offset]
            assert SECRET not in refused[offset].reason
    every = [came for _, _, _, came in SAID]
    assert counted == {"taken": every.count("taken"), "stale": every.count("stale")}
    found = state(settings)
    last = {name: offset for offset, (name, _, _, came) in enumerate(SAID) if came == "taken"}
    assert {name: held.offset for name, held in found.items()} == last
    assert json.loads(found["placement:shelf"].body) == {"weights": {"popular": 1}}
    assert json.loads(found["policy:release"].body) == {"release": OLD, "rollback": True}
    with redis_client.connect(settings) as client:  # and readers get no other change
        assert client.xlen(PLAIN.control_changes()) == every.count("taken")


def test_a_record_that_is_no_change_is_a_dead_letter(settings: Settings) -> None:
    bad_text = value("policy:else", 0, "?").replace(b"?", b"\xff")
    send(
        settings,
        [
            b"{",
            b"null",
            value("weather:home", 0, {}),
            bad_text,
            value("policy:" + "x" * 300, 0, {}),
            value("placement:shelf", 0, {}).replace(b"{}", b"[" * 50_000),
            value("placement:shelf", 0, {}),
        ],
    )
    fold(settings)
    assert [each.reason for _, each in sorted(letters(settings).items())] == [
        "not_json",
        "does_not_fit_schema",
        "does_not_fit_schema",
        "bad_policy:body:not_utf8",
        "bad_policy:policy:too_long",
        "too_deep",
    ]
    assert list(state(settings)) == ["placement:shelf"]


def test_a_replay_gives_the_same_state(settings: Settings) -> None:
    send(settings, [value(name, version, body) for name, version, body, _ in SAID])
    fold(settings)
    before, refused = state(settings), letters(settings)
    with redis_client.connect(settings) as client:
        client.flushall()
    fold(settings, 3)
    assert state(settings) == before
    assert letters(settings).keys() == refused.keys()
