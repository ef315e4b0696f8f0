"""Sends items and events to a running system over HTTP: what `freshet import` and the demo share.

Lines go out as NDJSON over a few keep-alive connections. A key (a person, an item) stays on one of
them, so everybody's history arrives in order. A line that was refused for the moment (503, a broken
connection) is sent again with the same event id, which the fold counts once.
"""

from __future__ import annotations

import http.client
import queue
import re
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec

EVENTS: Final = "/v1/events?mode=import"
ITEMS: Final = "/v1/items"
BATCH_BYTES: Final = 900_000
"""Below the 1 MiB that the API takes."""
PATIENCE: Final = 120.0
"""Seconds that one batch is sent again before it is given up."""
_LINE: Final = re.compile(r"(?:events|items)\[(\d+)\]\.?(.*)")
Progress = Callable[[int], None]


class NotSent(RuntimeError):
    """The API did not take it; the text says what it answered, never what was sent."""


class Line(NamedTuple):
    """One item or event as JSON. Lines of one `key` arrive in order."""

    key: str
    json: bytes


@dataclass
class Summary:
    """`rejected` counts (field, code); `positions`: partition -> highest offset acknowledged."""

    sent: int = 0
    accepted: int = 0
    retries: int = 0
    seconds: float = 0.0
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    positions: dict[int, int] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        return self.sent / self.seconds if self.seconds else 0.0

    def count(self, size: int, answer: dict[str, Any]) -> None:
        """Adds one answer to a batch of `size` lines."""
        rejected = answer.get("rejected", [])
        self.sent += size
        self.accepted += answer.get("accepted", size - len(rejected))
        for it in rejected:
            self.rejected[str(it.get("field")), str(it.get("code"))] += 1
        for position in answer.get("positions") or ():
            partition, _, offset = str(position).partition(":")
            if partition.isdigit() and offset.isdigit():
                at = int(partition)
                self.positions[at] = max(int(offset), self.positions.get(at, -1))


class Connection:
    """One keep-alive connection. Not for two threads at once."""

    def __init__(self, url: str, token: str = "") -> None:
        parts = urlsplit(url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.retries = 0

    def post(self, path: str, lines: list[bytes], stop: threading.Event) -> dict[str, Any]:
        """The answer to `lines` as NDJSON, also where all of them were rejected (422).

        Tries again on 503, 429 and broken connections, for `PATIENCE` seconds. Errors: `NotSent`.
        """
        headers = {**self._headers, "Content-Type": "application/x-ndjson"}
        until, delay, body = time.monotonic() + PATIENCE, 0.1, b"\n".join(lines) + b"\n"
        while True:
            status, answer, after = self._ask("POST", path, body, headers)
            if status in (200, 202):
                return answer
            if status == 422 and (rejected := _rejected(answer)):
                return {"accepted": 0, "rejected": rejected}
            if status not in (0, 429, 503):
                raise NotSent(f"POST {path} answered {status} {answer.get('code', '')}".strip())
            if stop.is_set() or time.monotonic() > until:
                raise NotSent(
                    f"POST {path} was not taken for {PATIENCE:g} s (last: {status or 'no answer'})"
                )
            self.retries += 1
            stop.wait(max(delay, after))
            delay = min(5.0, delay * 2)

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status (0: no answer) and body."""
        status, answer, _ = self._ask("GET", path, None, self._headers)
        return status, answer

    def close(self) -> None:
        self._connection.close()

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, Any], float]:
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, {}, 0.0
        after = response.headers.get("Retry-After", "")
        try:
            answer = msgspec.json.decode(data)
        except msgspec.DecodeError:
            answer = {}
        return (
            response.status,
            answer if isinstance(answer, dict) else {},
            min(5.0, float(after)) if after.isdigit() else 0.0,
        )


def _rejected(problem: dict[str, Any]) -> list[dict[str, Any]]:
    """Why each line was refused, where a problem says so of lines (``events[3].action``)."""
    rejected = []
    for error in problem.get("errors") or ():
        if found := _LINE.match(str(error.get("field"))):
            index, name = int(found[1]), found[2]
            rejected.append({"index": index, "field": name, "code": error.get("code")})
    return rejected


def send(
    url: str,
    path: str,
    lines: Iterable[Line],
    *,
    token: str = "",
    connections: int = 4,
    batch: int = 500,
    progress: Progress = lambda count: None,
) -> Summary:
    """Posts every line to `path`; returns when all are acknowledged. Errors: `NotSent`."""
    began, summary = time.monotonic(), Summary()
    senders = [_Sender(url, path, token, batch, summary, progress) for _ in range(connections)]
    try:
        for line in lines:
            senders[zlib.crc32(line.key.encode()) % connections].put(line.json)
    finally:
        for sender in senders:
            sender.finish()
    for sender in senders:
        if sender.error:
            raise sender.error
    summary.seconds = time.monotonic() - began
    return summary


def check_answers(url: str) -> None:
    """Errors: `NotSent` where nobody answers at `url`: better said now than after `PATIENCE`."""
    connection = Connection(url)
    status, _ = connection.get("/health/live")
    connection.close()
    if not status:
        raise NotSent(
            f"nothing answers at {_shown(url)}: is the system up? (`freshet status`, or --url)"
        )


def _shown(url: str) -> str:
    """Scheme, host and port alone: an address may hold a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def await_items(url: str, item_ids: list[str], token: str = "", seconds: float = 60.0) -> None:
    """Waits until serving's index holds each of `item_ids`. Errors: `NotSent`."""
    connection, until = Connection(url, token), time.monotonic() + seconds
    try:
        for item_id in item_ids:
            while True:
                status, item = connection.get(f"{ITEMS}/{quote(item_id, safe='')}")
                if status == 200 and item.get("indexed"):
                    break
                if time.monotonic() > until:
                    raise NotSent(f"the last items are not to be seen after {seconds:g} s")
                time.sleep(0.05)
    finally:
        connection.close()


class _Sender:
    """A thread with a connection: batches what it is given and posts it, in order."""

    _lock = threading.Lock()

    def __init__(
        self, url: str, path: str, token: str, batch: int, summary: Summary, progress: Progress
    ) -> None:
        self.error: Exception | None = None
        self._path, self._batch, self._summary, self._progress = path, batch, summary, progress
        self._connection = Connection(url, token)
        self._lines: queue.Queue[bytes | None] = queue.Queue(maxsize=4 * batch)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Waits while the system is slower than the file. Errors: what ended the sender."""
        while True:
            if self.error:
                raise self.error
            try:
                return self._lines.put(line, timeout=0.5)
            except queue.Full:
                continue

    def finish(self) -> None:
        """Sends what is left and ends the thread."""
        while self._thread.is_alive():
            try:
                self._lines.put(None, timeout=0.1)
                break
            except queue.Full:
                continue
        self._thread.join()
        self._connection.close()
        self._summary.retries += self._connection.retries

    def _run(self) -> None:
        try:
            while lines := self._next():
                answer = self._connection.post(self._path, lines, self._stop)
                with self._lock:
                    self._summary.count(len(lines), answer)
                    self._progress(len(lines))
        except Exception as error:
            self.error = error

    _ended = False
    _kept: bytes | None = None

    def _next(self) -> list[bytes]:
        """The next batch; empty at the end."""
        lines = [self._kept] if self._kept is not None else []
        self._kept, size = None, sum(map(len, lines))
        while len(lines) < self._batch and not self._ended:
            line = self._lines.get()
            if line is None:
                self._ended = True
            elif lines and size + len(line) + 1 > BATCH_BYTES:
                self._kept = line
                break
            else:
                lines.append(line)
                size += len(line) + 1
        return lines
