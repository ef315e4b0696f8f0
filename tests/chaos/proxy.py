"""A TCP proxy between clients and a service, which delays what passes and cuts connections.

`Proxy` is one of them, for an event loop; `Proxies` runs several in a process of their own, so that
traffic does not wait for the process that starts the faults. That process takes its orders as lines of JSON:
``{"name", "delay", "open", "cut"}``, and answers each with a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from infra.local.plan import ROOT
from infra.signals import die_with_parent

HOST: Final = "127.0.0.1"
CHUNK: Final = 1 << 16
MOST_WAITING: Final = 64
"""Chunks of one direction under way; beyond it the sender waits, as it would for a slow network."""


class Proxy:
    """From a port of its own to `target`. `delay`: seconds that each chunk takes on its way, each way;
    order is kept. While `is_open` is false no connection passes: each is reset at once."""

    def __init__(self, target: int) -> None:
        self.target, self.delay, self.is_open = target, 0.0, True
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._server: asyncio.Server | None = None

    async def listen(self, port: int = 0) -> int:
        """Answers the port."""
        self._server = await asyncio.start_server(self._accepted, HOST, port, limit=CHUNK)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def cut(self) -> int:
        """Resets every connection. How many there were."""
        connections = list(self._connections.items())
        for task, sides in connections:
            for side in sides:
                _reset(side)
            task.cancel()
        return len(connections)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = [writer]
        try:
            if self.is_open:
                await self._carry(reader, writer, self._connections[task])
            else:
                _reset(writer)
        except (asyncio.CancelledError, OSError):
            _reset(writer)  # it was cut, or the service is away
        finally:
            del self._connections[task]
            writer.close()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        sides: list[asyncio.StreamWriter],
    ) -> None:
        there, back = await asyncio.open_connection(HOST, self.target, limit=CHUNK)
        sides.append(back)
        for side in sides:
            side.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ways = [
            asyncio.ensure_future(self._way(reader, back)),
            asyncio.ensure_future(self._way(there, writer)),
        ]
        try:
            # one side that closes closes both: no client of ours half-closes a connection
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            back.close()

    async def _way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        waiting: deque[tuple[float, bytes]] = deque()
        more, room = asyncio.Event(), asyncio.Event()
        deliver = asyncio.ensure_future(_deliver(waiting, more, room, writer))
        try:
            while not deliver.done() and (data := await reader.read(CHUNK)):
                waiting.append((loop.time() + self.delay, data))
                more.set()
                if len(waiting) >= MOST_WAITING:
                    room.clear()
                    await room.wait()
            waiting.append((loop.time() + self.delay, b""))
            more.set()
            await deliver
        finally:
            deliver.cancel()


def _reset(side: asyncio.StreamWriter) -> None:
    """As a network does that breaks: what is under way is gone, and the peer learns of it at once."""
    with contextlib.suppress(OSError, ValueError):  # it may be closed already
        side.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    side.transport.abort()


async def _deliver(
    waiting: deque[tuple[float, bytes]],
    more: asyncio.Event,
    room: asyncio.Event,
    writer: asyncio.StreamWriter,
) -> None:
    """Writes each chunk when it is due; b"" marks the end."""
    loop = asyncio.get_running_loop()
    while True:
        while not waiting:
            more.clear()
            await more.wait()
        due, data = waiting.popleft()
        room.set()
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
        if not data:
            return
        writer.write(data)
        await writer.drain()


class Proxies:
    """A process with a proxy for each name. `ports`: name -> (port to listen on, port of the service).

    Start it from a thread that outlives it.
    """

    def __init__(self, ports: Mapping[str, tuple[int, int]]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.proxy", json.dumps(ports)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent(),
        )
        self._answer()

    def adjust(
        self, name: str, *, delay: float = 0.0, is_open: bool = True, cut: bool = False
    ) -> None:
        """Sets delay and state of proxy `name`; `cut` resets its open connections."""
        said = {"name": name, "delay": delay, "open": is_open, "cut": cut}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(said).encode() + b"\n")
        self._process.stdin.flush()
        self._answer()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> None:
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError("the proxy has ended")


async def _serve(ports: dict[str, list[int]]) -> None:
    proxies = {name: Proxy(target) for name, (_, target) in ports.items()}
    for name, (port, _) in ports.items():
        await proxies[name].listen(port)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    print("listening", flush=True)
    while line := await lines.readline():
        _obey(proxies, json.loads(line))
        print("done", flush=True)


def _obey(proxies: dict[str, Proxy], said: dict[str, Any]) -> None:
    proxy = proxies[said["name"]]
    proxy.delay, proxy.is_open = said["delay"], said["open"]
    if said["cut"]:
        proxy.cut()


if __name__ == "__main__":
    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(json.loads(sys.argv[1])))
