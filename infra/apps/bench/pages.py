"""What reads of others wait for beside the heaviest page that the API takes, again and again."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Sequence
from statistics import median
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from infra.apps.bench.live import Announce, refuse_errors
from infra.apps.bench.load import Generator, NotMeasured
from infra.local.system import System
from infra.settings import signing_key
from schemas.alphabet import Position
from serving.edge.identity import People

READS_PER_S: Final = 100.0
ROWS: Final = 20
COUNT: Final = 25
BEYOND: Final = 1 << 40
"""An offset that no log has."""
_NAMES: Final = ("p50", "p95", "max")
_TIMEOUT_SECONDS: Final = 20.0


class BesidePages(NamedTuple):
    """One run. `alone_ms` and `beside_ms`: p50, p95 and max of the reads of others. `page_ms`: median of the
    `pages` that were answered."""

    alone_ms: dict[str, float]
    beside_ms: dict[str, float]
    pages: int
    page_ms: float


def beside_pages(
    system: System, generator: Generator, paths: Sequence[str], seconds: float, announce: Announce
) -> BesidePages:
    """Reads at `READS_PER_S`, alone and beside pages of `ROWS` rows of `COUNT` items, explained whole, which
    wait for a position that the log does not have. Errors: `NotMeasured`."""
    alone = generator.reads(paths, READS_PER_S, seconds)
    refuse_errors(alone)
    pages = _Pages(system, paths)
    pages.start()
    try:
        beside = generator.reads(paths, READS_PER_S, seconds)
    finally:
        pages.stop()
    refuse_errors(beside)
    if not pages.ms:
        raise NotMeasured(f"no page was answered: {pages.failure}")
    done = BesidePages(_shown(alone), _shown(beside), len(pages.ms), median(pages.ms))
    announce(
        f"reads at {READS_PER_S:g}/s beside {done.pages} pages of {done.page_ms:.0f} ms: at most"
        f" {done.beside_ms['max']:.1f} ms, alone {done.alone_ms['max']:.1f}"
    )
    return done


def _shown(report: dict[str, Any]) -> dict[str, float]:
    return {name: report["latency_ms"][name] for name in _NAMES}


class _Pages(threading.Thread):
    """Sends a page, and the next one once it has the answer. `ms`: of each that was answered."""

    def __init__(self, system: System, paths: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self.ms: list[float] = []
        self.failure = "the system did not answer"
        self._at, self._token = urlsplit(system.url), system.token
        settings = system.settings
        people = People(signing_key(settings), settings.partitions)
        users = [parse_qs(urlsplit(path).query)["user_id"][0] for path in paths[:ROWS]]
        rows = [
            {"user_id": it, "after": str(Position(people.user(it).partition, BEYOND))}
            for it in users
        ]
        self._body = json.dumps({"count": COUNT, "explain": "full", "requests": rows})
        self._ended = threading.Event()

    def run(self) -> None:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        host = str(self._at.hostname)
        while not self._ended.is_set():
            began = time.monotonic()
            connection = http.client.HTTPConnection(host, self._at.port, timeout=_TIMEOUT_SECONDS)
            try:
                connection.request("POST", "/v1/recommendations", self._body, headers)
                answer = connection.getresponse()
                body = answer.read()
            except OSError as error:
                self.failure = type(error).__name__
                continue
            finally:
                connection.close()
            if answer.status != 200:
                self.failure = f"{answer.status} {json.loads(body).get('code')}"
                self._ended.wait(0.1)
                continue
            self.ms.append(1000 * (time.monotonic() - began))

    def stop(self) -> None:
        self._ended.set()
        self.join()
