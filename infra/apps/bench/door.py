"""What hostile connections cost those who share a serving process with them: latency and memory.

One serving process is asked for `BARE_PATH` at a constant rate, alone and then beside each attack. An attack
begins again as often as the server ends it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from infra import tokens
from infra.apps.bench import cpu
from infra.apps.bench.live import Announce, calm, refuse_errors
from infra.apps.bench.load import Generator
from infra.apps.bench.services import SERVICES, up, wait
from infra.apps.bench.steady import BARE_PATH
from infra.local import home
from infra.local.plan import plan
from infra.local.services import free_port

RATE_PER_S: Final = 100.0
CONNECTIONS: Final = 500
PIECE: Final = 64 * 1024
HEADER_LINES: Final = 500_000
HEADER_BYTES: Final = 64 << 20
TARGET_BYTES: Final = 32 << 20
BODY_BYTES: Final = 1 << 20
PATIENCE_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 0.2
"""Between two bytes of a slow client, and before an attack begins again."""
_GET: Final = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
_POST: Final = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
_LENGTH: Final = b"Content-Length: 100000\r\n\r\n"
_CHUNKS: Final = b"Transfer-Encoding: chunked\r\n\r\n"
Address = tuple[str, int]
Attack = Callable[[Address, threading.Event], None]


class Besieged(NamedTuple):
    """One run. `alone_ms`, `p99_ms`: of the others' requests before and during the attack. `cores`: what the
    process used during it, above what it used before. `grown`: the most bytes that were resident during it,
    above what was before."""

    alone_ms: float
    p99_ms: float
    cores: float
    grown: int


def measure(
    folder: Path, generator: Generator, seconds: float, repeats: int, announce: Announce
) -> dict[str, list[Besieged]]:
    """Each attack, `repeats` times. Errors: `NotMeasured`, also where one of the others gets an error."""
    found: dict[str, list[Besieged]] = {name: [] for name in ATTACKS}
    with home.claimed(folder) as directory:
        # another program may begin on the default port at this moment, and share it
        planned = plan(directory, {}, workers=1, port=free_port())
        with up(planned, (*SERVICES, "serving")) as services:
            wait(services, lambda: services.was_ready, "broker, Redis and serving are not ready")
            pids = {
                name: services.children[of].pid or 0
                for name, of in (("edge", "serving"), ("broker", "broker"))
            }
            edge = _Edge(
                generator._replace(url=planned.url, token=tokens.held(planned.settings)),
                planned.settings.port,
                pids,
                seconds,
            )
            edge.p99()  # what is allocated once
            for number in range(repeats):
                for name, attack in ATTACKS.items():
                    found[name].append(edge.beside(attack))
                    announce(f"{name}, {number + 1} of {repeats}: {_sentence(found[name][-1])}")
    return found


def medians(runs: Sequence[Besieged]) -> Besieged:
    """Of each figure by itself."""
    alone, during, cores, grown = zip(*runs, strict=True)
    return Besieged(median(alone), median(during), median(cores), int(median(grown)))


def _sentence(run: Besieged) -> str:
    return (
        f"p99 of others {run.alone_ms:.1f} ms alone, {run.p99_ms:.1f} beside it; {run.cores:+.2f} cores,"
        f" {run.grown / 1e6:+.1f} MB"
    )


class _Edge:
    """One serving process, and the requests of the others."""

    def __init__(
        self, generator: Generator, port: int, pids: dict[str, int], seconds: float
    ) -> None:
        self._generator, self._pids, self._seconds = generator, pids, seconds
        self._address = ("127.0.0.1", port)

    def p99(self) -> tuple[float, float]:
        """Of the others' requests, ms, and the cores that the process used."""
        began, used = time.monotonic(), cpu.cpu_seconds(self._pids["edge"])
        report = self._generator.reads([BARE_PATH], RATE_PER_S, self._seconds)
        refuse_errors(report)
        used = cpu.cpu_seconds(self._pids["edge"]) - used
        return float(report["latency_ms"]["p99"]), used / (time.monotonic() - began)

    def beside(self, attack: Attack) -> Besieged:
        calm(lambda: {name: cpu.cpu_seconds(pid) for name, pid in self._pids.items()})
        (alone, quiet), before = self.p99(), self._resident()
        with _running(attack, self._address), _most(self._resident) as most:
            p99, cores = self.p99()
        return Besieged(alone, p99, cores - quiet, most[0] - before)

    def _resident(self) -> int:
        pages = Path(f"/proc/{self._pids['edge']}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _running(attack: Attack, address: Address) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=attack, args=(address, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _most(look: Callable[[], int]) -> Iterator[list[int]]:
    """The most that `look` gives meanwhile; complete at the end."""
    most, stop = [look()], threading.Event()

    def watch() -> None:
        while not stop.wait(PAUSE_SECONDS / 2):
            most[0] = max(most[0], look())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        stop.set()
        thread.join()
        most[0] = max(most[0], look())


def _slow(start: bytes) -> Attack:
    """Connections that send `start` and then a byte at a time."""

    def attack(address: Address, stop: threading.Event) -> None:
        with contextlib.ExitStack() as stack:
            sockets: list[socket.socket | None] = [None] * CONNECTIONS
            while not stop.wait(PAUSE_SECONDS):
                for number, one in enumerate(sockets):
                    try:
                        if one is None:
                            one = sockets[number] = stack.enter_context(_connected(address))
                            one.sendall(start)
                        one.sendall(b"x")
                    except OSError:
                        sockets[number] = None

    return attack


def _large(start: bytes, piece: bytes, size: int) -> Attack:
    """A connection that sends `start`, and pieces of `size` bytes together, and reads the answer."""

    def attack(address: Address, stop: threading.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), _connected(address) as one:
                one.sendall(start)
                sent = 0
                while sent < size and not stop.is_set():
                    sent += one.send(piece)
                one.recv(PIECE)
            stop.wait(PAUSE_SECONDS)

    return attack


def _connected(address: Address) -> socket.socket:
    return socket.create_connection(address, PATIENCE_SECONDS)


_LINES: Final = b"A: b\r\n" * (PIECE // len(b"A: b\r\n"))
ATTACKS: Final[dict[str, Attack]] = {
    "500 half-sent heads": _slow(_GET),
    "500 slow bodies": _slow(_POST + _LENGTH),
    "an endless header": _large(_GET + b"A: ", b"x" * PIECE, HEADER_BYTES),
    "an endless trailer": _large(_POST + _CHUNKS + b"0\r\nA: ", b"x" * PIECE, HEADER_BYTES),
    "500,000 header lines": _large(_GET, _LINES, HEADER_LINES * len(b"A: b\r\n")),
    "chunks of one byte": _large(_POST + _CHUNKS, b"1\r\n \r\n" * (PIECE // 6), 6 * BODY_BYTES),
    "a URL of 32 MB": _large(b"GET /", b"x" * PIECE, TARGET_BYTES),
}
