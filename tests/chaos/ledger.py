"""What was sent and what was acknowledged, on the disk before anything depends on it.

A file for each sender, a line for each step, fsynced: ``S`` before a request goes out for the first
time, ``A`` once it is acknowledged. Events have numbers, their ids are made of them (`crowd.name`), so a
line of thousand bytes stands for any number of events and reading it back takes little memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

What = Literal["events", "preferences", "link", "unlink", "outcome", "poison", "slate"]
_SUFFIX: Final = ".ledger"


class Sent(msgspec.Struct, tag_field="_", tag="S", omit_defaults=True, kw_only=True):
    """Request `request` of a sender: its events have the numbers `first` to `first + count - 1`, and it
    repeats those of `again`. `body`: of an event that is no function of its number."""

    request: int
    what: What
    first: int
    count: int
    again: list[int] = []
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    def said(self) -> dict[str, Any]:
        """The body."""
        decoded: dict[str, Any] = msgspec.json.decode(self.body)  # type: ignore[arg-type]
        return decoded


class Acknowledged(msgspec.Struct, tag_field="_", tag="A", omit_defaults=True, kw_only=True):
    """`durable`: where the server said it is. `connection`: over which the answer came. `refused`: numbers
    of events that were rejected, each with a reason."""

    request: int
    durable: str
    connection: int = 0
    refused: list[int] = []


Line = Sent | Acknowledged
_DECODER: Final = msgspec.json.Decoder(Line)
_ENCODER: Final = msgspec.json.Encoder()


class Ledger:
    """The file of one sender. A call returns once its line is on the disk."""

    def __init__(self, directory: Path, sender: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file = os.open(directory / f"{sender}{_SUFFIX}", flags, 0o600)

    def write(self, line: Line) -> None:
        data = _ENCODER.encode(line) + b"\n"
        while data:
            data = data[os.write(self._file, data) :]
        os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)


def lines(path: Path) -> Iterator[Line]:
    """The lines of one sender as written; a torn last line is no promise."""
    with path.open("rb") as file:
        for text in file:
            if text.endswith(b"\n"):
                yield _DECODER.decode(text)


def senders(directory: Path) -> dict[str, Path]:
    """By name, every sender's file."""
    return {path.stem: path for path in sorted(directory.glob(f"*{_SUFFIX}"))}
