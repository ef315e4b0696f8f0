"""A server that takes NDJSON as the API does, for programs that send."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, object]]


class Api(ThreadingHTTPServer):
    """It gives `answers` first, then accepts every line. `refuse`: gives an answer to a body, or None.
    `statuses`: answers to a GET, then those of a system whose log is `topic`."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answers: list[Answer | None] = []
        self.statuses: list[Answer] = []
        self.bodies: list[list[dict[str, Any]]] = []
        self.refuse: Callable[[bytes], Answer | None] = lambda body: None
        self.topic = "log-1"
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Every line that came, in order."""
        return [line for body in self.bodies for line in body]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Api
    wbufsize = 1 << 16
    """An answer is one segment: head and body apart would wait for an ACK in between."""

    def do_GET(self) -> None:
        with self.server.lock:
            held = self.server.statuses
            self._send(*(held.pop(0) if held else self._usual()))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert len(body) <= 1 << 20
        with self.server.lock:
            answer = self.server.refuse(body)
            if answer is None:
                lines = [json.loads(line) for line in body.splitlines()]
                self.server.bodies.append(lines)
                answers = self.server.answers
                answer = answers.pop(0) if answers else accepted(len(lines))
        if answer is None:  # closes the connection without an answer
            self.close_connection = True
            return
        self._send(*answer)

    def _usual(self) -> Answer:
        if self.path.startswith("/v1/items/"):
            return 200, {"item_id": self.path.rpartition("/")[2], "indexed": True}
        status = {"release": "", "tables": "0", "unknown_over_limit": 0, "stands": None}
        return 200, status | {"events_topic": self.server.topic}

    def _send(self, status: int, content: dict[str, object]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


def accepted(count: int) -> Answer:
    """The answer to a body of `count` lines."""
    return 202, {"accepted": count, "rejected": [], "positions": [f"1:{count}", "0:7"]}


@contextmanager
def serving() -> Iterator[Api]:
    """A server that answers until the end."""
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
