"""Sends items and events to a running system over HTTP, for `freshet import` and the demo.

Lines go out as NDJSON over a few keep-alive connections. All lines of a key (a person, an item) use one
connection, so the history of each person arrives in order. A line that was refused for the moment (503, a
broken connection) is sent again with the same event id, which the fold counts once.
"""

from __future__ import annotations

import asyncio
import http.client
import queue
import re
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from infra.backoff import Pauses
from infra.client import client
from infra.client.answers import Accepted, Rejection
from infra.client.client import Client
from infra.client.errors import ApiError
from infra.client.http import NDJSON, address, authorization
from schemas.errors import FreshetError

EVENTS: Final = client.HISTORY
ITEMS: Final = client.ITEMS
BATCH_BYTES: Final = 900_000
"""Below the 1 MiB that the API takes."""
RETRY_SECONDS: Final = 120.0
"""How long one batch is sent again before its sender gives up."""
_LINE: Final = re.compile(r"(?:events|items)\[(\d+)\]\.?(.*)")
Progress = Callable[[int], None]
"""Called with the number of lines that were acknowledged."""


class NotSent(FreshetError):
    """Lines were not accepted; the text says what the API answered, never what was sent."""


class Line(NamedTuple):
    """One item or event as JSON. Lines of one `key` arrive in order."""

    key: str
    json: bytes


@dataclass
class Summary:
    """Counts of a send. `rejected`: by (field, code); `positions`: partition -> last offset acknowledged;
    `duplicates` and `unknown_items` as `Accepted`'s; `spooled`: some waited in a spool for the broker.
    `unknown_over_limit`: how many of `unknown_items` came after the limit, so that they never count; None
    where that is not known (`infra.client.over_limit`)."""

    sent: int = 0
    accepted: int = 0
    retries: int = 0
    seconds: float = 0.0
    duplicates: int = 0
    unknown_items: int = 0
    unknown_over_limit: int | None = None
    spooled: bool = False
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    positions: dict[int, int] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Lines sent a second."""
        return self.sent / self.seconds if self.seconds else 0.0

    def count(self, size: int, answer: Accepted) -> None:
        """Adds the answer to a batch of `size` lines."""
        self.sent += size
        self.accepted += answer.accepted
        self.duplicates += answer.duplicates
        self.unknown_items += answer.unknown_items
        self.spooled = self.spooled or answer.durable == "spool"
        for it in answer.rejected:
            self.rejected[it.field, it.code] += 1
        for position in answer.positions:
            partition, _, offset = position.partition(":")
            if partition.isdigit() and offset.isdigit():
                at = int(partition)
                self.positions[at] = max(int(offset), self.positions.get(at, -1))


class LineConnection:
    """A keep-alive connection that one thread uses."""

    def __init__(self, url: str, token: str = "") -> None:
        to = address(url)
        kind = http.client.HTTPSConnection if to.tls else http.client.HTTPConnection
        self._connection = kind(to.host, to.port, timeout=60)
        self._headers = {**authorization(token), "Content-Type": NDJSON}
        self.retries = 0

    def post(self, path: str, lines: list[bytes], stop: threading.Event) -> Accepted:
        """Posts `lines` as NDJSON; answers what the API accepted, also where it rejected all of them (422).

        Tries again on 503, 429 and broken connections, for `RETRY_SECONDS` seconds. Errors: `NotSent`.
        """
        until, pauses, body = time.monotonic() + RETRY_SECONDS, Pauses(), b"\n".join(lines) + b"\n"
        while True:
            status, answer, retry_after = self._post_once(path, body)
            if isinstance(answer, Accepted):
                return answer
            if status == 422 and (rejected := _rejected(answer)):
                return Accepted(accepted=0, rejected=rejected, positions=[])
            if status not in (0, 429, 503):
                raise NotSent(f"POST {path} answered {answer.problem}")
            if stop.is_set() or time.monotonic() > until:
                raise NotSent(
                    f"POST {path} was not taken for {RETRY_SECONDS:g} s (last: {status or 'no answer'})"
                )
            self.retries += 1
            stop.wait(max(next(pauses), retry_after))

    def close(self) -> None:
        self._connection.close()

    def _post_once(self, path: str, body: bytes) -> tuple[int, Accepted | ApiError, float]:
        """Status (0: no answer), the answer or the error, and the seconds that ``Retry-After`` asks for."""
        try:
            self._connection.request("POST", path, body, self._headers)
            response = self._connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return 0, ApiError(0, type(error).__name__), 0.0
        retry_after = response.headers.get("Retry-After", "")
        return (
            response.status,
            _answer(response.status, data),
            min(5.0, float(retry_after)) if retry_after.isdigit() else 0.0,
        )


def _answer(status: int, data: bytes) -> Accepted | ApiError:
    if status not in client.SUCCESS_STATUSES:
        return ApiError.from_response(status, data)
    try:
        return client.decode(status, data, Accepted)
    except ApiError as error:
        return error


def _rejected(problem: ApiError) -> list[Rejection]:
    """Why each line was refused, from the problem's errors that name a line (``events[3].action``)."""
    found = [(_LINE.match(error.field), error.code) for error in problem.errors]
    return [Rejection(int(line[1]), line[2], code) for line, code in found if line]


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
    """Checks that the API answers at `url`, before a long import starts. Errors: `NotSent`."""
    if not asyncio.run(_answers(url)):
        to = address(url)
        shown = f"{'https' if to.tls else 'http'}://{to.authority}"
        raise NotSent(f"nothing answers at {shown}: is the system up? (`freshet status`, or --url)")


async def _answers(url: str) -> bool:
    async with Client(url) as api:
        try:
            await api.get("/health/live", dict)
        except ApiError as error:
            return error.status > 0
    return True


def await_items(url: str, item_ids: list[str], token: str = "", seconds: float = 60.0) -> None:
    """Waits until serving's index holds each of `item_ids`. Errors: `NotSent`."""
    asyncio.run(_await_items(url, item_ids, token, seconds))


async def _await_items(url: str, item_ids: list[str], token: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    # one connection, so one worker
    async with Client(url, token, connections=1) as api:
        for item_id in item_ids:
            while not await _indexed(api, item_id):
                if time.monotonic() > until:
                    raise NotSent(f"serving does not show the last items after {seconds:g} s")
                await asyncio.sleep(0.05)


async def _indexed(api: Client, item_id: str) -> bool:
    try:
        return (await api.item(item_id)).indexed
    except ApiError:
        return False


class _Sender:
    """A thread with a connection: posts the lines that `put` takes, in order and in batches."""

    _lock = threading.Lock()

    def __init__(
        self, url: str, path: str, token: str, batch: int, summary: Summary, progress: Progress
    ) -> None:
        self.error: Exception | None = None
        self._path, self._batch, self._summary, self._progress = path, batch, summary, progress
        self._connection = LineConnection(url, token)
        self._lines: queue.Queue[bytes | None] = queue.Queue(maxsize=4 * batch)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queues a line; waits while the system is slower than the file. Errors: what ended the thread."""
        while True:
            if self.error:
                raise self.error
            try:
                return self._lines.put(line, timeout=0.5)
            except queue.Full:
                continue

    def finish(self) -> None:
        """Sends the remaining lines and ends the thread."""
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
