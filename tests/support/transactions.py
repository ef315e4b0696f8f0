"""Faults between the steps of a commit's two round trips."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from infra.store.pipeline import Pipeline


def after_watch(monkeypatch: pytest.MonkeyPatch, fault: Callable[[], None]) -> None:
    """Calls `fault` once: after the next commit read its fences, before it sends EXEC."""
    begin, faults = Pipeline.begin, [fault]

    def begun(pipe: Pipeline, commands: bytes, count: int) -> list[Any]:
        replies = begin(pipe, commands, count)
        while faults:
            faults.pop()()
        return replies

    monkeypatch.setattr(Pipeline, "begin", begun)


def lost_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closes the connection of the next commit once, after EXEC was sent and before its answer was read."""
    send, sent = Pipeline.send, list[int]()

    def sent_and_closed(pipe: Pipeline, pieces: Iterable[bytes]) -> None:
        sent.append(1)
        send(pipe, pieces)
        if len(sent) == 2:
            pipe._connection.disconnect()

    monkeypatch.setattr(Pipeline, "send", sent_and_closed)
