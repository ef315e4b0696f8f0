"""One serving process: uvicorn on a socket that its siblings share."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from infra import heartbeat, logs
from infra.settings import Settings, from_environment
from infra.terminal.errors import in_one_line
from schemas.errors import FreshetError
from serving.app import create
from serving.context import Serving
from serving.health import is_loading
from serving.http.bounds import ConnectionLimits
from serving.http.connections import Connections
from serving.http.direct import Responders
from serving.http.protocol import BoundedProtocol
from serving.http.remembered import RememberedHeads
from serving.read.query import INSTEAD
from serving.routes import direct_reads
from serving.routes.direct import EventsResponder
from serving.routes.events import PATH

log = logging.getLogger("freshet.serving")
SHUTDOWN_SECONDS = 5
"""How long a stopping process waits for requests in progress."""
MAX_LOAD_SECONDS: Final = 30.0
"""A process that is not loaded after this long takes connections all the same, and says why."""
LOAD_POLL_SECONDS: Final = 0.01


class CannotListen(FreshetError):
    """The address cannot be bound; the text says why."""


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then finishes the requests in progress and returns.

    Prints ``listening http://HOST:PORT`` once it takes requests; port 0 is any free one.
    Errors: `CannotListen`, `TopicMismatch`, `BadSetting`; the client's own where the broker does not answer.
    """
    level = settings.log_level or "warning"
    logs.set_up(level)
    # the client logs a broker that is away at every attempt, with stack traces; `serving.log` logs it once
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    heartbeat.start()
    listener = listen(settings.bind, settings.port)
    app = create(settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=protocol(app),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,  # its loggers use the handlers of `infra.logs`
        log_level=level,
        server_header=False,
        date_header=False,
        backlog=2048,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    with listener:
        _Server(config, app).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Several processes may bind one port, and the kernel spreads connections over them.

    Errors: `CannotListen`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        why = os.strerror(error.errno or 0)
        raise CannotListen(f"cannot serve on {host} port {port}: {why}") from None
    return listener


def protocol(app: FastAPI) -> type[BoundedProtocol]:
    """The protocol in front of `app`: with its bounds and remedies, and what answers without it."""
    settings: Settings = app.state.settings
    made_responders = responders(app)

    class ServingProtocol(BoundedProtocol):
        accepted = Connections(
            ConnectionLimits(
                connections=settings.connections,
                connections_per_address=settings.connections_per_address,
            )
        )
        instead = INSTEAD
        hosts = settings.answers_to
        remembered = RememberedHeads()  # what may be remembered depends on the hosts
        responders = made_responders
        origins = app.state.origins

        @staticmethod
        def count_refusal(status: int) -> None:
            serving: Serving = app.state.serving
            serving.metrics.add("freshet_problems_total", status=str(status))

    return ServingProtocol


def responders(app: FastAPI) -> Responders:
    """What answers in the protocol in front of `app`, which has its routes."""
    return Responders({PATH.encode(): EventsResponder(app)}, *direct_reads.responders(app))


class _Server(uvicorn.Server):
    """Prints the address once it listens, and returns after a signal instead of dying of it."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        # run here and not by uvicorn, because that logs a missing broker with a stack trace
        self._app = app
        self._lifespan = app.router.lifespan_context(app)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._lifespan.__aenter__()
        await self._until_loaded()
        if self.should_exit:  # uvicorn shuts down only what it started
            await self._lifespan.__aexit__(None, None, None)
            return
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            print(f"listening http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        # objects alive now stay alive: later collections can skip them
        gc.collect()
        gc.freeze()
        self._heartbeat = asyncio.create_task(heartbeat.keep_beating())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._heartbeat.cancel()
        await super().shutdown(sockets)
        await self._lifespan.__aexit__(None, None, None)

    async def _until_loaded(self) -> None:
        """One that listens before would answer 503 to its share of the connections of a port."""
        until = time.monotonic() + MAX_LOAD_SECONDS
        while is_loading(self._app.state.serving) and not self.should_exit:
            if time.monotonic() > until:
                break
            await asyncio.sleep(LOAD_POLL_SECONDS)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {
            number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.should_exit = True


def main() -> None:
    with in_one_line():
        run(from_environment())


if __name__ == "__main__":
    main()
