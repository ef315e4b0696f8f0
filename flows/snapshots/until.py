"""Parses `--until`: offsets, or a time that is looked up in the log."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from schemas.errors import ConfigurationError
from schemas.topics import EVENTS

if TYPE_CHECKING:
    from infra.log_reader import LogReader
    from infra.settings import Settings
    from schemas.alphabet import Millis


class BadUntil(ConfigurationError):
    """Neither offsets of this log nor a time; the text says what is allowed."""


def parse_until(settings: Settings, log: LogReader, text: str | None) -> list[int]:
    """An offset of each partition of `events`. `text`: offsets, a time, or None for the log's end.

    A time means the first record of each partition that was written then or later. Errors: `BadUntil`, those
    of the log.
    """
    from infra.kafka.kafka_client import ensure_topics

    partitions = ensure_topics(settings)[EVENTS.name].partitions
    end_offsets = [log.bounds(EVENTS.name, p)[1] for p in range(partitions)]
    if text is None:
        return end_offsets
    if re.fullmatch(r"[0-9]{1,18}(,[0-9]{1,18})*", text):
        return _offsets(text, end_offsets)
    return at_time(settings, log, _time(text), end_offsets)


def _offsets(text: str, end_offsets: list[int]) -> list[int]:
    offsets = [int(number) for number in text.split(",")]
    if len(offsets) != len(end_offsets):
        raise BadUntil(
            f"--until has {len(offsets)} offsets, events has {len(end_offsets)} partitions"
        )
    for p, (offset, end) in enumerate(zip(offsets, end_offsets, strict=True)):
        if offset > end:
            raise BadUntil(f"--until is beyond the log of partition {p}, which ends at {end}")
    return offsets


def _time(text: str) -> Millis:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadUntil(
            "--until takes an offset of each partition with commas between them, or a time as"
            " 2026-11-24T00:00:00Z"
        ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def at_time(settings: Settings, log: LogReader, at: Millis, end_offsets: list[int]) -> list[int]:
    """The first offset of each partition at or after `at`, ms. The search starts from the newest snapshot
    before `at`. Errors: those of the log and of the lake."""
    from flows.snapshots import read

    base = read.latest(settings, before=at)
    starts = (
        base.offsets if base else [log.bounds(EVENTS.name, p)[0] for p in range(len(end_offsets))]
    )
    spans = zip(starts, end_offsets, strict=True)
    return [_first_offset(log, p, start, end, at) for p, (start, end) in enumerate(spans)]


def _first_offset(log: LogReader, partition: int, start: int, end: int, at: Millis) -> int:
    for batch in log.read(EVENTS.name, partition, start, end):
        for offset, timestamp in zip(batch.offsets, batch.timestamps, strict=True):
            if timestamp >= at:
                return offset
    return end
