"""Senders: each is a thread with one connection that repeats a request until it is acknowledged."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from tests.chaos.crowd import PEOPLE, Crowd, name
from tests.chaos.ledger import Acknowledged, Ledger, Sent, What

BATCH: Final = (25, 75)
AGAIN: Final = 0.05
"""Share of the events that are sent a second time."""
REMEMBERED: Final = 2000
TIMEOUT: Final = 15.0
PAUSE: Final = 0.1
NDJSON: Final = {"Content-Type": "application/x-ndjson"}
JSON: Final = {"Content-Type": "application/json"}


class Unexpected(RuntimeError):
    """The API answered something else than 200, 202 or 503."""


class Sender(threading.Thread):
    """`rate`: events a second. `asked` is when the last acknowledged request went out for the first time
    that is known to be in the broker (monotonic clock)."""

    def __init__(self, name: str, url: str, crowd: Crowd, ledgers: Path, rate: float) -> None:
        super().__init__(name=name, daemon=True)
        address = urlsplit(url)
        self._address = (address.hostname or "", address.port or 80)
        self._crowd, self._rate = crowd, rate
        self._ledger = Ledger(ledgers, name)
        self._random = random.Random(f"{crowd.seed} {name}")
        self._connection: http.client.HTTPConnection | None = None
        self._number, self._request, self._connections = 0, 0, 0
        self._done: deque[int] = deque(maxlen=REMEMBERED)
        self._slates: deque[dict[str, Any]] = deque(maxlen=20)
        self._linked: deque[tuple[str, str]] = deque(maxlen=20)
        self._over, self._give_up = threading.Event(), threading.Event()
        self.asked = 0.0
        self.sent = self.retries = self.spooled = 0
        self.failure = ""

    def run(self) -> None:
        try:
            due = time.monotonic()
            while not self._over.wait(max(0.0, due - time.monotonic())):
                events = self._next_request()
                # what could not be sent in time is not made up for: the rate stays what it is
                due = max(due + events / self._rate, time.monotonic() - 0.2)
        except Unexpected as error:
            self.failure = str(error)
        finally:
            self._hang_up()
            self._ledger.close()

    def finish(self, seconds: float) -> bool:
        """Stops the sender after its last acknowledgement; answers whether that was within `seconds`."""
        self._over.set()
        self.join(seconds)
        self._give_up.set()
        self.join(TIMEOUT + 1)
        return not self.failure

    def _next_request(self) -> int:
        """Sends one request and answers its number of events."""
        step = self._request % 20
        if step == 7:
            return self._say("preferences")
        if step in (3, 13):
            return self._say("link")
        if step == 17 and self._linked:
            return self._unlink(*self._linked.popleft())
        if step % 5 == 1 and self._slates:
            return self._outcome(self._slates.popleft())
        if step % 5 == 4:
            self._look()
        return self._events()

    def _events(self) -> int:
        first, count = self._number, self._random.randint(*BATCH)
        again = [n for n in self._done if self._random.random() < AGAIN * count / REMEMBERED]
        numbers = [*range(first, first + count), *again]
        self._random.shuffle(numbers)
        made = [self._crowd.event(self.name, n) for n in numbers]
        if self._request % 2:
            body, headers = b"\n".join(map(msgspec.json.encode, made)), NDJSON
        else:
            body, headers = msgspec.json.encode({"events": made}), JSON
        sent = self._sending("events", count, again)
        answer = self._until_acknowledged("POST", "/v1/events", body, headers)
        refused = sorted({numbers[it["index"]] for it in answer["rejected"]})
        self._acknowledged(sent, answer, refused)
        if answer["durable"] == "broker":
            self._done.extend(n for n in range(first, first + count) if n not in refused)
        return count + len(again)

    def _say(self, what: What) -> int:
        """Sends a request about a person: the Idempotency-Key is the event's id."""
        number, headers = self._number, {"Idempotency-Key": name(self.name, self._number), **JSON}
        if what == "link":
            user, body = self._crowd.link(self.name, number)
            self._linked.append((user, body["anonymous_id"]))
            method, path = "POST", f"/v1/users/{user}:link"
        else:
            user, body = self._crowd.preferences(self.name, number)
            method, path = "PUT", f"/v1/users/{user}/preferences"
        sent = self._sending(what, 1)
        answer = self._until_acknowledged(method, path, msgspec.json.encode(body), headers)
        self._acknowledged(sent, answer, [])
        return 1

    def _unlink(self, user: str, anonymous: str) -> int:
        """Ends a link that this sender made, unless it had lost."""
        headers = {"Idempotency-Key": name(self.name, self._number), **JSON}
        body = msgspec.json.encode({"user_id": user, "anonymous_id": anonymous})
        sent = self._sending("unlink", 1, body=body)
        path, body = f"/v1/users/{user}:unlink", msgspec.json.encode({"anonymous_id": anonymous})
        answer = self._until_acknowledged("POST", path, body, headers)
        self._acknowledged(sent, answer, [])
        return 1

    def _outcome(self, slate: dict[str, Any]) -> int:
        """Sends an outcome of a slate."""
        event = {
            "event_id": name(self.name, self._number),
            "user_id": slate["user_id"],
            "item_id": self._random.choice(slate["items"]),
            "action": self._random.choice(("display", "click", "purchase")),
            "slate_id": slate["slate_id"],
        }
        body = msgspec.json.encode(event)
        sent = self._sending("outcome", 1, body=body)
        answer = self._until_acknowledged("POST", "/v1/events", body, JSON)
        self._acknowledged(sent, answer, [])
        return 1

    def _look(self) -> None:
        """Reads a slate. An answered slate is promised to be in the log."""
        user = f"{self.name}-u{self._random.randrange(PEOPLE)}"
        try:
            status, content = self._ask(
                "GET", f"/v1/recommendations?user_id={user}&count=5", b"", {}
            )
        except (OSError, http.client.HTTPException):
            self._hang_up()
            return
        if status != 200:
            return
        body = json.loads(content)
        items = [it["item_id"] for it in body["items"]]
        if items:
            slate = {"slate_id": body["slate_id"], "user_id": user, "items": items}
            self._slates.append(slate)
            self._sending("slate", 0, body=msgspec.json.encode(slate))

    def _sending(self, what: What, count: int, again: list[int] = [], body: bytes = b"") -> Sent:  # noqa: B006 - never changed
        sent = Sent(
            request=self._request,
            what=what,
            first=self._number,
            count=count,
            again=again,
            body=msgspec.Raw(body) if body else msgspec.UNSET,
        )
        self._ledger.write(sent)
        self._request += 1
        self._number += count
        self.sent += count
        return sent

    def _acknowledged(self, sent: Sent, answer: dict[str, Any], refused: list[int]) -> None:
        durable = answer["durable"]
        self._ledger.write(
            Acknowledged(
                request=sent.request,
                durable=durable,
                connection=self._connections,
                refused=refused,
            )
        )
        self.spooled += durable != "broker"

    def _until_acknowledged(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> dict[str, Any]:
        """Errors: `Unexpected`, also where the run ends before."""
        while not self._give_up.is_set():
            begun = time.monotonic()
            try:
                status, content = self._ask(method, path, body, headers)
            except (OSError, http.client.HTTPException):
                self._hang_up()
                status, content = 503, b""
            if status in (200, 202):
                answer: dict[str, Any] = json.loads(content)
                if answer["durable"] == "broker":
                    self.asked = begun
                return answer
            if status != 503:
                raise Unexpected(f"{method} {path} answered {status}: {content[:200]!r}")
            self.retries += 1
            self._give_up.wait(PAUSE)
        raise Unexpected(f"{method} {path} was not acknowledged when the run ended")

    def _ask(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        if self._connection is None:
            self._connections += 1
            self._connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT)
        self._connection.request(method, path, body or None, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
