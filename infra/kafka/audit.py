"""Acts of the command line, recorded in the topic `audit` as those over HTTP are."""

from __future__ import annotations

import logging
import os
import pwd
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from kafka import KafkaProducer
from kafka.errors import KafkaError

from infra.kafka import kafka_client
from infra.kafka.names import broker_name
from infra.settings import Settings
from schemas.access.audit import COMMAND, MAX_REASON, AuditRecord, answered, encode
from schemas.errors import FreshetError
from schemas.topics import AUDIT

log = logging.getLogger(__name__)
CLIENT: Final = "cli"
SEND_SECONDS: Final = 15.0


@dataclass
class CommandAct:
    """`position`: ``topic:partition:offset`` of the record that the act wrote."""

    position: str = ""


@contextmanager
def administering(
    settings: Settings, command: str, *targets: str, reason: str = ""
) -> Iterator[CommandAct]:
    """Records an act of `command` before it, and its outcome: as HTTP has it, 200, 409 for what Freshet
    refused, 500. `targets`: ``kind:id`` each.

    Errors: Kafka's, where the first record is not written: the act does not begin.
    """
    producer: KafkaProducer = kafka_client.producer(settings)
    try:
        requested = AuditRecord(
            audit_id=secrets.token_hex(12),
            stage="requested",
            kind="administration",
            occurred_at=_now(),
            client=CLIENT,
            account=account(),
            method=COMMAND,
            route=command,
            targets=targets,
            reason=reason[:MAX_REASON],
        )
        _send(producer, settings, requested)
        act, status = CommandAct(), 500
        try:
            yield act
            status = 200
        except FreshetError:
            status = 409
            raise
        finally:
            try:
                _send(producer, settings, answered(requested, _now(), status, act.position))
            except KafkaError as error:  # the act is done: its first record says that it began
                log.warning("the outcome of %s is not in audit (%s)", command, type(error).__name__)
    finally:
        producer.close()


def account() -> str:
    """The account of this process in the operating system: its name, or its number where it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's
        return str(os.getuid())


def _send(producer: KafkaProducer, settings: Settings, record: AuditRecord) -> None:
    """Errors: Kafka's."""
    name, key = broker_name(settings, AUDIT.name), record.audit_id.encode()
    producer.send(name, encode(record), key, list(AUDIT.headers), 0).get(SEND_SECONDS)


def _now() -> int:
    return time.time_ns() // 1_000_000
