"""The connections of a serving process: how many there are, of whom, and which take too long."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv6Address
from itertools import islice
from typing import Final, Protocol

from serving.http.bounds import ConnectionLimits, too_many_bodies, too_many_connections
from serving.http.errors import Problem

RESERVED_FILES: Final = 128
"""Of the files that a process may open, those that are no connections of clients."""
MAX_REFUSED: Final = 256
"""Connections beyond the bound that are told so, as far as half of `RESERVED_FILES` stays free; who comes
after these is cut off."""
CHECKED_AT_ONCE: Final = 10
"""Connections whose deadlines are looked at in one turn of the event loop: to refuse one may cost half a
millisecond."""
IPV6_NETWORK: Final = len("2001:0db8:0001:0002")
"""Of an exploded IPv6 address, what names one network (/64): its hosts choose the rest."""


class Connection(Protocol):
    def check_deadline(self, now: float) -> None:
        """Ends what took too long. `now`: the loop's time, s."""


class Connections:
    """Counted for one process and one event loop. It is free of cost while there is no connection.

    `files`: how many the process may open, -1 for any number; None for what the system says.
    """

    def __init__(self, limits: ConnectionLimits | None = None, files: int | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        if files is None:
            files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = self.limits.connections
        self._most = most if files < 0 else max(1, min(most, files - RESERVED_FILES))
        spare = MAX_REFUSED if files < 0 else files - self._most - RESERVED_FILES // 2
        self._refused = max(0, min(MAX_REFUSED, spare))
        self._open: dict[Connection, str] = {}
        self._of: Counter[str] = Counter()
        self.body_bytes = 0
        """Of bodies of which a part is still to come, and of requests behind one that is not answered."""
        self._sweep: asyncio.TimerHandle | None = None
        """None while there is no connection."""

    def add(self, connection: Connection, address: str) -> Problem | None:
        """Counts a connection. The problem is the answer to one too many, which is counted, too.

        Errors: OverflowError where even those that are refused are too many; it is not counted.
        """
        if len(self._open) >= self._most + self._refused:
            raise OverflowError
        site = site_of(address)
        self._open[connection] = site
        self._of[site] += 1
        if self._sweep is None:
            self._sweep_later()
        if len(self._open) > self._most:
            return too_many_connections(of_address=False)
        most = self.limits.connections_per_address
        return too_many_connections(of_address=True) if most and self._of[site] > most else None

    def remove(self, connection: Connection) -> None:
        """Forgets a connection; one that was not counted is no error."""
        site = self._open.pop(connection, None)
        if site is None:
            return
        self._of[site] -= 1
        if not self._of[site]:
            del self._of[site]

    def receive(self, size: int) -> None:
        """Counts bytes that are kept for a while. Errors: `Problem` 503; they are not counted."""
        if self.body_bytes + size > self.limits.body_bytes:
            raise too_many_bodies()
        self.body_bytes += size

    def release(self, size: int) -> None:
        """The opposite of `receive`."""
        self.body_bytes -= size

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(self.limits.sweep_seconds, self._check_all, loop)

    def _check_all(self, loop: asyncio.AbstractEventLoop) -> None:
        self._check_some(loop, iter(tuple(self._open)))

    def _check_some(self, loop: asyncio.AbstractEventLoop, rest: Iterator[Connection]) -> None:
        """Some in one turn of the loop: to refuse hundreds at once would keep the others waiting."""
        some = list(islice(rest, CHECKED_AT_ONCE))
        now = loop.time()
        for connection in some:
            if connection in self._open:
                connection.check_deadline(now)
        if some:
            loop.call_soon(self._check_some, loop, rest)
            return
        self._sweep = None
        if self._open:
            self._sweep_later()


def site_of(address: str) -> str:
    """Whose connections count together: an IPv4 address, or the network of an IPv6 address.

    >>> site_of("192.0.2.1"), site_of("2001:db8:1:2:3:4:5:6"), site_of("::ffff:192.0.2.1")
    ('192.0.2.1', '2001:0db8:0001:0002', '192.0.2.1')
    """
    if ":" not in address:
        return address
    exact = IPv6Address(address)
    return str(exact.ipv4_mapped or exact.exploded[:IPV6_NETWORK])
