"""Changes of `control` from the command line: sent to the log, and waited for until they are in force."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec
from kafka import KafkaProducer

from infra.kafka import kafka_client
from infra.kafka.audit import administering
from infra.kafka.names import broker_name
from infra.settings import Settings
from infra.store import redis_client
from schemas.control import CURRENT, HELD_DECODER, Body, Change, Current, Held, Subject
from schemas.errors import FreshetError
from schemas.keys import Keyspace
from schemas.state import fences
from schemas.topics import CONTROL

APPLY_SECONDS: Final = 15.0
_OTHER: Final = "{}: another change came first: read it, and try again"
_CURRENT: Final[tuple[Subject, str]] = ("policy", CURRENT.partition(":")[2])


class ChangeNotApplied(FreshetError):
    """A change was refused, another change came first, or `control` is down; the text says which."""


class OtherChange(ChangeNotApplied):
    """Another change came first: what was read before is out of date."""

    exit_code = 2


def in_force(settings: Settings, subject: Subject, identifier: str) -> Held | None:
    """The version and body that `control` holds; None where there is none. Errors: Redis's own."""
    with redis_client.connect(settings) as client:
        return _held(client, settings.keyspace, f"{subject}:{identifier}")


def current(settings: Settings) -> str:
    """The id of the release that may serve; "" where there is none."""
    held = in_force(settings, *_CURRENT)
    return msgspec.json.decode(held.body, type=Current).release if held else ""


def serve(
    settings: Settings,
    release: str,
    *,
    rollback: bool = False,
    reason: str = "",
    expected_version: int | None = None,
) -> None:
    """Lets a release serve. Errors: `ChangeNotApplied`."""
    body = Current(release=release, rollback=rollback)
    publish(settings, *_CURRENT, body, reason, expected_version)


def publish(
    settings: Settings,
    subject: Subject,
    identifier: str,
    body: Body,
    reason: str = "",
    expected_version: int | None = None,
) -> Held:
    """Replaces what is in force by `body`, and returns once `body` is in force.

    `expected_version`: of what the caller has seen (0: nothing); None: whatever is in force now. Errors:
    `OtherChange`, `ChangeNotApplied`; Kafka's and Redis's.
    """
    name, keyspace = f"{subject}:{identifier}", settings.keyspace
    with redis_client.connect(settings) as client:
        before = _held(client, keyspace, name)
        version = before.version if before else 0
        if expected_version not in (None, version):
            raise OtherChange(_OTHER.format(name))
        text = msgspec.json.encode(body)
        with administering(settings, "control change", name, reason=reason) as act:
            offset = _send(settings, subject, identifier, version, text, reason)
            act.position = f"{CONTROL.name}:0:{offset}"
            return _await_in_force(client, keyspace, name, version, text, offset)


def _await_in_force(
    client: Any, keyspace: Keyspace, name: str, version: int, text: bytes, offset: int
) -> Held:
    """Returns once the change at `offset` is in force. Errors: `OtherChange`, `ChangeNotApplied`."""
    until = time.monotonic() + APPLY_SECONDS
    while time.monotonic() < until:
        # read first: what is held afterwards is at least what the fold made of these offsets
        folded = _folded_until(client, keyspace)
        held = _held(client, keyspace, name)
        if held is not None and held.version > version:
            if held.version == version + 1 and held.body.encode() == text:
                return held
            raise OtherChange(_OTHER.format(name))
        if folded > offset:
            raise ChangeNotApplied(f"{name}: refused (`freshet tail dead-letters` says why)")
        time.sleep(0.02)
    raise ChangeNotApplied(
        f"{name}: it is not in force after {APPLY_SECONDS:g} s: the flow `control` is down"
    )


def _folded_until(client: Any, keyspace: Keyspace) -> int:
    """The offset up to which `control` has folded its log."""
    held = client.get(keyspace.fence("control", 0))
    return fences.decode(held).offset if held else 0


def _held(client: Any, keyspace: Keyspace, name: str) -> Held | None:
    value = client.hget(keyspace.control_state(), name.encode())
    return HELD_DECODER.decode(value) if value else None


def _send(
    settings: Settings, subject: Subject, identifier: str, version: int, body: bytes, reason: str
) -> int:
    """Sends the change; answers its offset. Errors: Kafka's."""
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
        pending = producer.send(name, value, key, list(CONTROL.headers), 0)
        return int(pending.get(APPLY_SECONDS).offset)
    finally:
        producer.close()
