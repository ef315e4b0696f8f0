"""Records that no fold can take: acknowledged on `dead-letters` before their batch commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
from kafka import KafkaProducer

from infra.kafka import kafka_client
from infra.kafka.names import broker_name
from infra.log_reader import Batch
from infra.settings import Settings
from schemas import dead_letters
from schemas.alphabet import Millis
from schemas.dead_letters import DeadLetter
from schemas.headers import FRAME, without
from schemas.topics import DEAD_LETTERS

SEND_TIMEOUT_SECONDS = 30.0
MAX_VALUE_BYTES: Final = 600_000
"""A longer value stays in its topic: in base64 it would be more than a broker takes in a record."""
BAD_FRAME: Final = "bad_frame"
"""Of a frame that is none, and of a record that may not be in one (`infra.frames`)."""
REASONS = (BAD_FRAME, "does_not_fit_schema", "empty", "not_json", "not_utf8", "too_deep")
"""Why a record does not decode; other letters have other reasons."""


def reason(error: Exception) -> str:
    """One of `REASONS`, never the error's text, which may quote the record."""
    if isinstance(error, msgspec.ValidationError):
        return "does_not_fit_schema"
    if isinstance(error, UnicodeDecodeError):
        return "not_utf8"
    if isinstance(error, RecursionError):
        return "too_deep"
    return "not_json"


def split(
    topic: str, batch: Batch, decode: Callable[[Sequence[bytes], Sequence[Millis]], Iterable[Any]]
) -> tuple[list[tuple[int, int, Any]], list[DeadLetter]]:
    """(offset, record time, event) of each record that decodes; a letter for each that does not.

    `decode` gets records' values and their timestamps (ms)."""
    try:  # nearly every batch is clean
        decoded = decode(batch.values, batch.timestamps)  # type: ignore[arg-type]
        return list(zip(batch.offsets, batch.timestamps, decoded, strict=True)), []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
        pass
    good: list[tuple[int, int, Any]] = []
    letters: list[DeadLetter] = []
    for index, value in enumerate(batch.values):
        try:
            if value is None:
                raise ValueError
            timestamp = batch.timestamps[index]
            [event] = decode([value], [timestamp])
            good.append((batch.offsets[index], timestamp, event))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
            why = "empty" if value is None else reason(error)
            letters.append(letter(topic, batch, index, why))
    return good, letters


def letter(topic: str, batch: Batch, index: int, why: str) -> DeadLetter:
    """The dead letter for record number `index` (from 0) of a batch; `why` is `BAD_FRAME` where the batch
    refuses it.

    What is no array stands alone: its letter lacks the header `frame`, so that it is sent again as a single
    record.
    """
    value, headers = batch.values[index], batch.headers[index] if batch.headers else ()
    if index in batch.refused:
        value, why = batch.refused[index], BAD_FRAME
        if not (value or b"").lstrip().startswith(b"["):
            headers = without(headers, FRAME)
    size = len(value or b"")
    kept, dropped = dead_letters.bounded_headers(headers)
    return DeadLetter(
        topic=topic,
        partition=batch.partition,
        offset=batch.offsets[index],
        index=batch.index(index),
        reason=why,
        value=value if size <= MAX_VALUE_BYTES else None,
        record_at=batch.timestamps[index],
        key=batch.keys[index] if batch.keys else None,
        size=size,
        tries=dead_letters.parse_tries(dict(headers).get(dead_letters.TRIES)),
        headers=kept,
        headers_too_long=dropped,
    )


class DeadLetterProducer:
    """Sends letters and waits until the broker has them. The first letter opens the producer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: KafkaProducer | None = None

    def send(self, letters: list[DeadLetter]) -> None:
        """Sends all letters, then waits for all. Errors: `KafkaError`."""
        if not letters:
            return
        if self._producer is None:
            self._producer = kafka_client.producer(self._settings, batch_size=256 << 10)
        name = broker_name(self._settings, DEAD_LETTERS.name)
        sent = [
            self._producer.send(
                name,
                key=letter.identity.encode(),
                value=dead_letters.encode(letter),
                headers=list(letter.own_headers),
                partition=0,
            )
            for letter in letters
        ]
        for future in sent:
            future.get(SEND_TIMEOUT_SECONDS)

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close()
