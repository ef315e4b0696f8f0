"""A dry run: lines pass the code of the edge in this process, and nothing is sent."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from xxhash import xxh3_64_intdigest

from infra.client import client
from infra.client.answers import Accepted, Rejection
from infra.client.senders import BATCH_BYTES, LineBatch, Taken
from infra.settings import Settings
from schemas.alphabet import Millis
from schemas.events import Scale
from schemas.reject import Rejected
from serving.edge import events, items
from serving.edge.events import RequestContext
from serving.edge.identity import People
from serving.http.errors import Problem

BATCH: Final = 500
MAX_UNKNOWN_IDS: Final = 100_000
"""Ids of items that are kept to ask the system about."""
_NO_KEY: Final = (0, bytes(32))
"""Pseudonyms of a dry run are seen by nobody."""


class _Said(msgspec.Struct, gc=False):
    """What a summary needs of an `Action`."""

    item_id: str
    action: str
    known: bool = False


_SAID: Final = msgspec.json.Decoder(_Said)


class Edge:
    """What the edge has in a dry run. `item_keys`: hashes of the items that the import would put; `actions`
    and `unknown`: accepted events by action, and by item that is none of those."""

    def __init__(self, settings: Settings, now: Millis) -> None:
        self.actions: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.item_keys: set[int] = set()
        self._partitions, self._now = settings.partitions, now
        self._people = People(_NO_KEY, settings.partitions, not_ids=settings.refused_ids)
        self._context = RequestContext(
            now, lambda: "", ndjson=True, imported=True, scale=Scale(*settings.scale)
        )

    def answer(self, path: str, lines: Sequence[bytes]) -> Accepted:
        """What the API would answer. Errors: `Problem`, `Rejected`, where the whole body can't be taken."""
        take = self._items if path == client.ITEMS else self._events
        return take(b"\n".join(lines))

    def _items(self, body: bytes) -> Accepted:
        found = items.put_many(body, self._now, self._partitions, ndjson=True)
        self.item_keys.update(xxh3_64_intdigest(record.key) for record in found.records)
        made = _answer(len(found.records), found.rejected)
        made.dropped = [Rejection(it.index, it.field, it.code) for it in found.dropped]
        return made

    def _events(self, body: bytes) -> Accepted:
        found = events.ingest(body, self._context, self._people, self._look_up)
        for said in (_SAID.decode(record.value) for record in found.records):
            self.actions[said.action] += 1
            if not said.known and (
                said.item_id in self.unknown or len(self.unknown) < MAX_UNKNOWN_IDS
            ):
                self.unknown[said.item_id] += 1
        made = _answer(len(found.records), found.rejected)
        made.duplicates, made.unknown_items = found.duplicates, found.unknown_items
        return made

    def _look_up(self, item_id: str) -> tuple[bool, str, str]:
        return xxh3_64_intdigest(item_id.encode()) in self.item_keys, "", ""


class Rehearsal:
    """A destination that answers as the API would, and keeps nothing."""

    retries = 0

    def __init__(self, edge: Edge, path: str, taken: Taken, stop: threading.Event) -> None:
        self._edge, self._path, self._taken, self._stop = edge, path, taken, stop
        self._lines: list[bytes] = []
        self._origins: list[Any] = []
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if error is None:
            self._pass_on()

    def put(self, key: str, line: bytes, origin: Any) -> None:
        """Takes a line."""
        if self._bytes + len(line) > BATCH_BYTES or len(self._lines) >= BATCH:
            self._pass_on()
        self._lines.append(line)
        self._origins.append(origin)
        self._bytes += len(line) + 1

    def put_all(self, keys: Sequence[str], lines: Sequence[bytes], origins: Sequence[Any]) -> None:
        """Takes (n,) lines."""
        for key, line, origin in zip(keys, lines, origins, strict=True):
            self.put(key, line, origin)

    def _pass_on(self) -> None:
        batch = LineBatch(self._lines, self._origins)
        self._lines, self._origins, self._bytes = [], [], 0
        if batch.lines:
            self._take(batch)

    def _take(self, batch: LineBatch) -> None:
        if self._stop.is_set():
            return
        try:
            self._taken(batch, self._edge.answer(self._path, batch.lines))
        except (Problem, Rejected) as error:
            if len(batch.lines) == 1:
                self._taken(batch, _answer(0, [Rejection(0, "body", _code(error))]))
                return
            for half in batch.halves():
                self._take(half)


def _answer(accepted: int, rejected: Sequence[Any]) -> Accepted:
    return Accepted(
        accepted=accepted,
        rejected=[Rejection(it.index, it.field, it.code) for it in rejected],
        positions=[],
    )


def _code(error: Problem | Rejected) -> str:
    if isinstance(error, Rejected):
        return error.code
    return error.errors[0].code if error.errors else error.code
