"""Changes of `control` from the command line: said to the log, and waited for until they stand."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec
from kafka import KafkaProducer

from infra.kafka import kafka_client
from infra.kafka.names import broker_name
from infra.settings import Settings
from infra.store import redis_client
from schemas.control import CURRENT, HELD_DECODER, Body, Change, Current, Held, Subject
from schemas.errors import FreshetError
from schemas.keys import Keyspace
from schemas.state import fences
from schemas.topics import CONTROL

APPLY_SECONDS: Final = 15.0
_CURRENT: Final[tuple[Subject, str]] = ("policy", CURRENT.partition(":")[2])


class ChangeNotApplied(FreshetError):
    """A change that does not stand: refused, or another came first; the text says which."""


def in_force(settings: Settings, subject: Subject, identifier: str) -> Held | None:
    with redis_client.connect(settings) as client:
        return _held(client, settings.keyspace, f"{subject}:{identifier}")


def current(settings: Settings) -> str:
    """The release that control lets serve; "" where it is none."""
    held = in_force(settings, *_CURRENT)
    return msgspec.json.decode(held.body, type=Current).release if held else ""


def serve(settings: Settings, release: str, *, rollback: bool = False) -> None:
    """Lets a release serve. Errors: `ChangeNotApplied`."""
    publish(settings, *_CURRENT, Current(release=release, rollback=rollback))


def publish(
    settings: Settings, subject: Subject, identifier: str, body: Body, reason: str = ""
) -> Held:
    """Puts `body` in the place of what stands, and returns once it stands itself.

    Errors: `ChangeNotApplied`; Kafka's and Redis's.
    """
    name, keyspace = f"{subject}:{identifier}", settings.keyspace
    with redis_client.connect(settings) as client:
        before = _held(client, keyspace, name)
        version = before.version if before else 0
        text = msgspec.json.encode(body)
        offset = _send(settings, subject, identifier, version, text, reason)
        until = time.monotonic() + APPLY_SECONDS
        while time.monotonic() < until:
            folded = _folded(
                client, keyspace
            )  # first: what stands then is at least what the fold made of it
            held = _held(client, keyspace, name)
            if held is not None and held.version > version:
                if held.version == version + 1 and held.body.encode() == text:
                    return held
                raise ChangeNotApplied(f"{name}: another change came first")
            if folded > offset:
                raise ChangeNotApplied(f"{name}: refused (`freshet tail dead-letters` says why)")
            time.sleep(0.02)
    raise ChangeNotApplied(
        f"{name}: it does not stand after {APPLY_SECONDS:g} s: the flow `control` is down"
    )


def _folded(client: Any, keyspace: Keyspace) -> int:
    """The offset up to which `control` has folded its log."""
    held = client.get(keyspace.fence("control", 0))
    return fences.decode(held).offset if held else 0


def _held(client: Any, keyspace: Keyspace, name: str) -> Held | None:
    value = client.hget(keyspace.control_state(), name.encode())
    return HELD_DECODER.decode(value) if value else None


def _send(
    settings: Settings, subject: Subject, identifier: str, version: int, body: bytes, reason: str
) -> int:
    """Its offset."""
    change = Change(
        subject=subject,
        id=identifier,
        expected_version=version,
        body=msgspec.Raw(body),
        received_at=time.time_ns() // 1_000_000,
        actor="cli",
        reason=reason,
    )
    producer: KafkaProducer = kafka_client.producer(settings)
    try:
        key = f"{subject}:{identifier}".encode()
        value = msgspec.json.encode(change)
        name = broker_name(settings, CONTROL.name)
        sent = producer.send(name, value, key, list(CONTROL.headers), 0)
        return int(sent.get(APPLY_SECONDS).offset)
    finally:
        producer.close()
