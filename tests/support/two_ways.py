"""Two servers in this process that differ in one thing: one answers plain requests directly (`serving.http.
direct`), one sends all of them the usual way. Their clocks and the ids that they make are given."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import msgspec
import uvicorn
import uvloop
from fastapi import FastAPI
from uvicorn.server import ServerState

from infra.kafka import kafka_client
from infra.kafka.names import topic_partition
from infra.local import services
from infra.settings import Settings
from schemas.items import Item
from schemas.topics import EVENTS
from serving.access.caller import Caller
from serving.app import create
from serving.context import Serving
from serving.http.bounds import ConnectionLimits
from serving.http.connections import Connections
from serving.http.direct import Respond, Responder, Responders
from serving.http.head import Head
from serving.http.protocol import BoundedProtocol
from serving.http.remembered import RememberedHeads
from serving.server import protocol, responders

NOW = 1_780_000_000_000
TOKEN = "s3cret-of-16-bytes"
ITEM = Item(item_id="i1", category="drama", categories=("drama",), group_id="g1")
LAST = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: last\r\nConnection: close\r\n\r\n"
"""A request behind those of a test: its answer ends the connection."""
PLAIN, GUARDED, BYTEWISE, HASTY, LISTED = "plain", "guarded", "bytewise", "hasty", "listed"
"""How a server listens: with no token; with `TOKEN`; with none, and each byte is received for itself; with
none, and a body must have come within 0.2 s; with none, and it answers to `HOSTS` alone."""
HOSTS = "shop.example, api.example:8080, [::1]"
HASTE = ConnectionLimits(grace_seconds=0.2, bytes_per_second=1e9, sweep_seconds=0.05)


class _Counted:
    """A responder. `taken`: how many requests it answered."""

    def __init__(self, responder: Responder) -> None:
        self._responder, self.taken = responder, 0
        self.scope = responder.scope

    def admits(self, head: Head) -> Caller | None:
        return self._responder.admits(head)

    def answer(
        self, head: Head, caller: Caller, body: bytes, started: float, respond: Respond
    ) -> bool:
        taken = self._responder.answer(head, caller, body, started, respond)
        self.taken += taken
        return taken


class Way:
    """One of the servers."""

    def __init__(self, serving: Serving, direct: bool) -> None:
        self.serving, self._direct = serving, direct
        self.state, self.loop = ServerState(), asyncio.get_running_loop()
        self.addresses: dict[str, tuple[str, int]] = {}
        self.remembered: dict[str, RememberedHeads] = {}
        self._responders: list[_Counted] = []
        serving.clock = lambda: NOW
        serving.make_id = lambda: "made"
        serving.timer = lambda: 0.0
        serving.random_bytes = random.Random(7).randbytes
        serving.catalogue.put(ITEM)

    @property
    def taken(self) -> int:
        """Requests that were answered directly."""
        return sum(each.taken for each in self._responders)

    async def listen(self, name: str) -> asyncio.Server:
        is_guarded = name == GUARDED
        settings = msgspec.structs.replace(
            self.serving.settings,
            token=TOKEN if is_guarded else "",
            auth="on" if is_guarded else "off",
            hosts=HOSTS if name == LISTED else "",
        )
        app = create(settings)
        app.state.serving = self.serving
        kind = self._protocol(app, bytewise=name == BYTEWISE)
        self.remembered[name] = kind.remembered
        if name == HASTY:
            kind.accepted = Connections(HASTE)
        config = uvicorn.Config(
            app, http=kind, ws="none", lifespan="off", log_config=None, server_header=False
        )
        config.load()
        server = await asyncio.get_running_loop().create_server(
            lambda: kind(config=config, server_state=self.state, app_state={}), services.HOST, 0
        )
        self.addresses[name] = server.sockets[0].getsockname()
        return server

    def _protocol(self, app: FastAPI, bytewise: bool) -> type[BoundedProtocol]:
        table = Responders({}, {})
        if self._direct:
            posts, gets, patterns = responders(app)
            table = Responders(
                {target: self._counted(each) for target, each in posts.items()},
                {path: self._counted(each) for path, each in gets.items()},
                [(pattern, self._counted(each)) for pattern, each in patterns],
            )

        class Kind(protocol(app)):  # type: ignore[misc]  # a class that is made
            responders = table

            def data_received(self, data: bytes) -> None:
                for piece in [data[n : n + 1] for n in range(len(data))] if bytewise else [data]:
                    if not self.transport.is_closing():
                        super().data_received(piece)

        return Kind

    def _counted(self, responder: Responder) -> _Counted:
        self._responders.append(_Counted(responder))
        return self._responders[-1]

    def run(self, step: Callable[[], None]) -> None:
        """Runs `step` on the event loop, and returns then."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(step)
        self.loop.call_soon_threadsafe(done.set)
        assert done.wait(30), "the event loop does not run"

    def stop(self) -> None:
        """Ends the connections as a server does that stops."""
        for connection in tuple(self.state.connections):
            self.loop.call_soon_threadsafe(connection.shutdown)

    def connect(self, name: str = PLAIN) -> socket.socket:
        connection = socket.create_connection(self.addresses[name], timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def send(self, sent: bytes, name: str = PLAIN) -> bytes:
        """All answers on a connection of its own, that of `LAST` included."""
        with self.connect(name) as connection:
            connection.sendall(sent + LAST)
            return read_all(connection)

    def records(self, topic: str = EVENTS.name) -> list[Any]:
        """What the log has of a topic, without the time of the broker."""
        settings = self.serving.settings
        found: list[Any] = []
        consumer = kafka_client.consumer(settings)
        try:
            places = [topic_partition(settings, topic, p) for p in range(settings.partitions)]
            consumer.assign(places)
            consumer.seek_to_beginning()
            missing = sum(consumer.end_offsets(places).values())
            while len(found) < missing:
                for records in consumer.poll(100).values():
                    found += [
                        (it.partition, it.offset, it.key, it.value, it.headers) for it in records
                    ]
        finally:
            consumer.close()
        return sorted(found)

    def counts(self) -> dict[tuple[str, ...], float]:
        """The counters, and how many writes were timed, by name and labels."""
        families = self.serving.metrics.process_metrics.registry.collect()
        return {
            (it.name, *it.labels.values()): it.value
            for family in families
            for it in family.samples
            if it.name.startswith("freshet_")
            and it.name.endswith(("_total", "_seconds_count", "_seconds_bucket"))
            and "write_seconds_bucket" not in it.name
            and "spool" not in it.name
            and it.name != "freshet_slates_total"  # they leave in batches
        }


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    try:
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))
    except ConnectionResetError:
        return b"reset"


@contextmanager
def two_ways(settings: Settings) -> Iterator[tuple[Way, Way]]:
    """The direct way and the usual one, each with topics of its own, which are empty."""
    loop, ready, stop = uvloop.new_event_loop(), threading.Event(), asyncio.Event()
    ways: list[Way] = []

    async def run() -> None:
        async with AsyncExitStack() as stack:
            for name in ("direct", "usual"):
                own = msgspec.structs.replace(
                    settings,
                    topic_prefix=f"{name}.",
                    data_dir=settings.data_dir / name,
                    pseudonym_keys=f"1:{'00' * 16}",
                )
                kafka_client.ensure_topics(own)
                way = Way(await stack.enter_async_context(Serving.open(own)), name == "direct")
                for how in (PLAIN, GUARDED, BYTEWISE, HASTY, LISTED):
                    stack.callback((await way.listen(how)).close)
                ways.append(way)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert ready.wait(30), "the servers do not listen"
        yield ways[0], ways[1]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
