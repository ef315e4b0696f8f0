"""Threads that post lines of NDJSON, each over a connection of its own.

Where the API refuses a whole body (400, 413, 415), it is sent in halves until the line is found that is the
cause: a bad line costs that line.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from infra.backoff import Pauses
from infra.client import client
from infra.client.answers import Accepted, Rejection
from infra.client.errors import ApiError
from infra.client.http import NDJSON, address, authorization
from schemas.errors import FreshetError

BATCH_BYTES: Final = 900_000
"""Below the 1 MiB that the API takes."""
RETRY_SECONDS: Final = 120.0
"""How long one batch is sent again before its sender gives up."""
BODY_REFUSED: Final = frozenset({400, 413, 415})
"""Statuses of a whole body that one of its lines may be the cause of."""
MAX_LINES_REFUSED: Final = 64
"""Lines that may be refused one by one, each with such a status, while none is taken: then it is no line that
is wrong, but the address or a proxy before it."""
MAX_BATCHES_QUEUED: Final = 4
"""Of one connection: what is read ahead while the system is slower than the file."""
_LINE: Final = re.compile(r"(?:events|items)\[(\d+)\]\.?(.*)")


class NotSent(FreshetError):
    """Lines were not accepted; the text says what the API answered, never what was sent."""


class LineBatch(NamedTuple):
    """Lines of one request; `origins[i]` is what the caller knows `lines[i]` by."""

    lines: Sequence[bytes]
    origins: Sequence[Any]

    def halves(self) -> Iterator[LineBatch]:
        """The two halves of a batch that was refused whole: one of them has the line that is to blame."""
        middle = len(self.lines) // 2
        for half in (slice(middle), slice(middle, None)):
            yield LineBatch(self.lines[half], self.origins[half])


Taken = Callable[[LineBatch, Accepted], None]
"""Called with each batch and its answer, by one thread at a time, before the next batch of its connection is
sent. What it raises ends the sending."""


class LineConnection:
    """A keep-alive connection that one thread uses."""

    def __init__(self, url: str, token: str = "") -> None:
        to = address(url)
        kind = http.client.HTTPSConnection if to.tls else http.client.HTTPConnection
        self._connection = kind(to.host, to.port, timeout=60)
        self._headers = {**authorization(token), "Content-Type": NDJSON}
        self.retries = 0

    def post(self, path: str, lines: Sequence[bytes], stop: threading.Event) -> Accepted | ApiError:
        """Posts `lines` as NDJSON; answers what the API accepted, also where it rejected all of them (422),
        or its refusal of the whole body (`BODY_REFUSED`).

        Tries again on 503, 429 and broken connections, for `RETRY_SECONDS` seconds. Errors: `NotSent`.
        """
        until, pauses, body = time.monotonic() + RETRY_SECONDS, Pauses(), b"\n".join(lines) + b"\n"
        while True:
            status, answer, retry_after = self._post_once(path, body)
            if isinstance(answer, Accepted):
                return answer
            if status == 422 and (rejected := _rejected(answer)):
                return Accepted(accepted=0, rejected=rejected, positions=[])
            if status in BODY_REFUSED:
                return answer
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


class Senders:
    """Threads with a connection each, which post the lines that `put` takes. At the end of the `with` all are
    acknowledged; after an error, and once it is stopped, those that wait are dropped. Its errors: `NotSent`,
    and what `taken` raises."""

    def __init__(
        self,
        url: str,
        path: str,
        taken: Taken,
        *,
        token: str = "",
        connections: int = 4,
        batch: int = 500,
        stop: threading.Event | None = None,
    ) -> None:
        """`stop`: set where a connection fails, and by others who want the sending to end."""
        self._stop, lock = stop or threading.Event(), threading.Lock()
        self._batch = batch
        self._lines: list[list[bytes]] = [[] for _ in range(connections)]
        self._origins: list[list[Any]] = [[] for _ in range(connections)]
        self._bytes = [0] * connections
        self._senders = [
            _Sender(LineConnection(url, token), path, taken, lock, self._stop)
            for _ in range(connections)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if error is not None:
            self._stop.set()
        try:
            self._finish()
        except BaseException:  # an interrupt, or what ended a connection
            self._stop.set()
            self._finish()
            raise
        if error is None:
            self._raise_failure()

    def _finish(self) -> None:
        for index in range(len(self._senders)):
            if not self._stop.is_set():
                self._pass_on(index)
        for sender in self._senders:
            sender.finish()

    @property
    def retries(self) -> int:
        """Batches that were sent again."""
        return sum(sender.connection.retries for sender in self._senders)

    def put(self, key: str, line: bytes, origin: Any = None) -> None:
        """Takes a line; waits while the system is slower than the file. Errors: what ended a connection."""
        self.put_all((key,), (line,), (origin,))

    def put_all(self, keys: Sequence[str], lines: Sequence[bytes], origins: Sequence[Any]) -> None:
        """Takes (n,) lines, as `put` does one."""
        connections = len(self._senders)
        rows: list[list[int]] = [[] for _ in range(connections)]
        for row, key in enumerate(keys):
            rows[hash(key) % connections].append(row)
        for index, its in enumerate(rows):
            if its:
                self._lines[index] += [lines[row] for row in its]
                self._origins[index] += [origins[row] for row in its]
                self._bytes[index] += sum([len(lines[row]) for row in its])
                if len(self._lines[index]) >= self._batch or self._bytes[index] > BATCH_BYTES:
                    self._pass_on(index, self._batch)

    def _pass_on(self, index: int, least: int = 1) -> None:
        """Queues what waits for a connection, but for fewer than `least` small lines."""
        lines, origins = self._lines[index], self._origins[index]
        end = 0
        for size in _sizes(lines, self._batch, least):
            batch = LineBatch(lines[end : end + size], origins[end : end + size])
            end += size
            if not self._senders[index].put(batch):
                self._raise_failure()
        self._lines[index], self._origins[index] = lines[end:], origins[end:]
        self._bytes[index] = sum(map(len, lines[end:]))

    def _raise_failure(self) -> None:
        for sender in self._senders:
            if sender.error:
                raise sender.error


def _sizes(lines: Sequence[bytes], most: int, least: int) -> Iterator[int]:
    """How many lines each request has, in order: at most `most`, and `BATCH_BYTES`; of the last one, which
    more lines may join, at least `least`.

    >>> list(_sizes([b"x"] * 7, 3, 2)), list(_sizes([b"x" * 400_000] * 5, 3, 3))
    ([3, 3], [2, 2])
    """
    begin = 0
    while begin < len(lines):
        size = min(most, len(lines) - begin)
        total = size + sum(map(len, lines[begin : begin + size]))
        is_last = begin + size == len(lines) and total <= BATCH_BYTES
        while size > 1 and total > BATCH_BYTES:
            size -= 1
            total -= 1 + len(lines[begin + size])
        if is_last and size < least:
            return
        yield size
        begin += size


class _Sender:
    """A thread with a connection: posts the batches that `put` takes, in order."""

    def __init__(
        self,
        connection: LineConnection,
        path: str,
        taken: Taken,
        lock: threading.Lock,
        stop: threading.Event,
    ) -> None:
        self.connection = connection
        self.error: Exception | None = None
        self._path, self._taken, self._lock, self._stop = path, taken, lock, stop
        self._any_accepted, self._lines_refused = False, 0
        self._batches: queue.Queue[LineBatch | None] = queue.Queue(MAX_BATCHES_QUEUED)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, batch: LineBatch) -> bool:
        """Queues a batch; False once the sending has stopped."""
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._batches.put(batch, timeout=0.5)
                return True
        return False

    def finish(self) -> None:
        """Sends the remaining batches and ends the thread."""
        while self._thread.is_alive():
            try:
                self._batches.put(None, timeout=0.1)
                break
            except queue.Full:
                continue
        self._thread.join()
        self.connection.close()

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            if self._stop.is_set():
                continue
            try:
                self._post(batch)
            except Exception as error:
                if not self._stop.is_set():  # else another connection failed first
                    self.error = error
                self._stop.set()

    def _post(self, batch: LineBatch) -> None:
        if self._stop.is_set():
            return
        answer = self.connection.post(self._path, batch.lines, self._stop)
        if isinstance(answer, Accepted):
            self._any_accepted = self._any_accepted or answer.accepted > 0
            self._take(batch, answer)
        elif len(batch.lines) > 1:
            for half in batch.halves():
                self._post(half)
        else:
            self._take(batch, self._refused_line(answer))

    def _refused_line(self, answer: ApiError) -> Accepted:
        """A refusal of a body as that of its one line. Errors: `NotSent` where every line is refused."""
        self._lines_refused += 1
        if self._lines_refused > MAX_LINES_REFUSED and not self._any_accepted:
            raise NotSent(f"POST {self._path} answered {answer.problem} for every line")
        why = answer.errors[0].code if answer.errors else answer.code
        refused = Rejection(0, "body", why or f"http_{answer.status}")
        return Accepted(accepted=0, rejected=[refused], positions=[])

    def _take(self, batch: LineBatch, answer: Accepted) -> None:
        with self._lock:
            self._taken(batch, answer)
