"""Records that no fold can take: acknowledged on `dead-letters` before their batch commits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from kafka import KafkaProducer

from infra import kafka
from infra.log import Batch
from infra.settings import Settings
from schemas.dead_letter import DeadLetter
from schemas.topics import DEAD_LETTERS

SEND_SECONDS = 30.0
REASONS = ("does_not_fit_schema", "empty", "not_json", "not_utf8", "too_deep")
"""Of a record that does not decode."""


def reason(error: Exception) -> str:
    """A word for why a record did not decode; never its text, which may quote the record."""
    if isinstance(error, msgspec.ValidationError):
        return "does_not_fit_schema"
    if isinstance(error, UnicodeDecodeError):
        return "not_utf8"
    if isinstance(error, RecursionError):
        return "too_deep"
    return "not_json"


def split(
    topic: str, batch: Batch, decode: Callable[[bytes], Any]
) -> tuple[list[tuple[int, int, Any]], list[DeadLetter]]:
    """(offset, record time, event) of each record that decodes; a letter for each that does not."""
    try:  # nearly every batch is clean
        decoded = list(map(decode, batch.values))  # type: ignore[arg-type]
        return list(zip(batch.offsets, batch.stamps, decoded, strict=True)), []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
        pass
    good: list[tuple[int, int, Any]] = []
    letters: list[DeadLetter] = []
    for offset, stamp, value in zip(batch.offsets, batch.stamps, batch.values, strict=True):
        try:
            if value is None:
                raise ValueError
            good.append((offset, stamp, decode(value)))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
            why = "empty" if value is None else reason(error)
            letters.append(letter(topic, batch.partition, offset, stamp, why, value))
    return good, letters


def letter(
    topic: str, partition: int, offset: int, stamp: int, why: str, value: bytes | None
) -> DeadLetter:
    return DeadLetter(
        topic=topic, partition=partition, offset=offset, reason=why, value=value, record_at=stamp
    )


class Letters:
    """Sends letters and waits until the broker has them. The producer is made when first needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: KafkaProducer | None = None

    def send(self, letters: list[DeadLetter]) -> None:
        if not letters:
            return
        if self._producer is None:
            self._producer = kafka.producer(self._settings)
        sent = [
            self._producer.send(
                DEAD_LETTERS.name, key=letter.key, value=msgspec.json.encode(letter), partition=0
            )
            for letter in letters
        ]
        for future in sent:
            future.get(SEND_SECONDS)

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close()
