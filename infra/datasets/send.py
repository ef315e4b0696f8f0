"""Sends items and events to a running system, as the API takes them."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec

from infra.client import history
from infra.client.history import Line, Progress, Summary
from infra.datasets.movielens import Dataset
from infra.datasets.rows import NotReadable

ITEMS_AWAITED: Final = 32
"""So many of the last items must be indexed before events follow: some of every partition."""
Bar = Callable[[str, int | None], Any]
"""Makes the progress function of work with a name and a total (None: unknown)."""


class Endpoint:
    """Where to send lines, over how many connections, in batches of what size."""

    def __init__(self, url: str, token: str, connections: int = 4, batch: int = 500) -> None:
        self.url, self.token, self.connections, self.batch = url, token, connections, batch

    def send(self, path: str, lines: Iterable[Line], progress: Progress) -> Summary:
        """Posts every line to `path`. Errors: `NotSent`."""
        return history.send(
            self.url,
            path,
            lines,
            token=self.token,
            connections=self.connections,
            batch=self.batch,
            progress=progress,
        )


def send_catalogue(target: Endpoint, catalogue: Dataset, bar: Bar) -> dict[str, Summary]:
    """Sends the items and, once they are indexed, every rating. Errors: `NotSent`."""
    items = [Line(it.item_id, msgspec.json.encode(it.body)) for it in catalogue.items]
    ratings = catalogue.ratings
    lines = (Line(it.user_id, msgspec.json.encode(it.body)) for it in ratings)
    sent = send_items(target, items, len(items), bar)
    return {
        "items": sent,
        "events": target.send(history.EVENTS, lines, bar("events", len(ratings))),
    }


def send_items(target: Endpoint, lines: Iterable[Line], total: int | None, bar: Bar) -> Summary:
    """Sends items and waits until serving has indexed the last ones. Errors: `NotSent`."""
    last: list[str] = []

    def recording_last() -> Iterator[Line]:
        for line in lines:
            last.append(line.key)
            del last[:-ITEMS_AWAITED]
            yield line

    summary = target.send(history.ITEMS, recording_last(), bar("items", total))
    if not summary.rejected:  # a rejected item is never indexed, and may be among the last
        history.await_items(target.url, last, target.token)
    return summary


def read(path: Path, *keys: str, numbered: bool = False) -> Iterator[Line]:
    """Lines of a file of JSON objects; the first of `keys` that a line has is its key.

    `numbered`: an event without an id gets one from its line and its line number. Errors: `NotReadable`.
    """
    with _open(path) as file:
        for number, raw in enumerate(_whole(path, file), 1):
            line = raw.strip()
            if not line:
                continue
            try:
                record = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise NotReadable(f"{path}, line {number}: not a JSON object") from None
            if numbered and "event_id" not in record:
                name = hashlib.blake2b(line, digest_size=8).hexdigest()
                record["event_id"] = msgspec.Raw(b'"import-%d-%s"' % (number, name.encode()))
                line = msgspec.json.encode(record)
            key = next((bytes(record[it]) for it in keys if it in record), b"")
            yield Line(key.decode(errors="replace").strip('"'), line)


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _whole(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    """The raw lines of `file`. Errors: `NotReadable` where it cannot be read to its end."""
    try:
        yield from file
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise NotReadable(f"{path} is not a whole gzip file") from None
    except OSError as error:
        raise NotReadable(f"{path} cannot be read: {error.strerror}") from None
