"""Reads a file of given content whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from infra.datasets import sources
from infra.datasets.options import AS_IT_IS, ReadOptions
from infra.datasets.rows import Fault, Notes, NotReadable, Source


class Found(NamedTuple):
    """All of a source. `error`: what ended it; "" where it was read to its end."""

    rows: list[Any]
    lines: list[int]
    faults: list[Fault]
    notes: Notes
    error: str


def whole(source: Source) -> Found:
    found = Found([], [], [], source.notes, "")
    try:
        for chunk in source.chunks():
            assert len(chunk.bodies) == len(chunk.lines)
            found.rows.extend(decoded(body) for body in chunk.bodies)
            found.lines.extend(chunk.lines)
            found.faults.extend(chunk.faults)
    except NotReadable as error:
        return found._replace(error=str(error))
    assert source.read == source.size
    return found


def decoded(body: bytes) -> Any:
    """The object of a line; the line itself where it holds none."""
    assert b"\n" not in body
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body


def events(folder: Path, content: bytes | str, options: ReadOptions = AS_IT_IS) -> Found:
    return whole(sources.events(written(folder, content), options))


def items(folder: Path, content: bytes | str, options: ReadOptions = AS_IT_IS) -> Found:
    return whole(sources.items(written(folder, content), options))


def written(folder: Path, content: bytes | str) -> Path:
    path = folder / "file"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
