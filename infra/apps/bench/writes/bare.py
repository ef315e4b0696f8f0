"""A bare route of FastAPI on uvicorn, uvloop and httptools: the yardstick of the edge.

`python -m infra.apps.bench.writes.bare PORT` serves it until it is ended.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from infra.local import services
from infra.local.plan import child_environment
from infra.settings import Settings
from infra.signals import die_with_parent

PATH: Final = "/bare"
START_SECONDS: Final = 30.0


class BareServer(NamedTuple):
    url: str
    pid: int


@contextmanager
def bare_server(settings: Settings) -> Iterator[BareServer]:
    """A process that answers GET `PATH`, with the environment of a process of a system.

    Errors: `services.NoService` where it does not start.
    """
    port = services.free_port()
    command = [sys.executable, "-m", __name__, str(port)]
    process = subprocess.Popen(
        command, env=child_environment(settings), preexec_fn=die_with_parent()
    )
    try:
        services.wait_until(
            lambda: services.port_answers(port), START_SECONDS, "the bare route does not start"
        )
        yield BareServer(f"http://{services.HOST}:{port}", process.pid)
    finally:
        process.kill()
        process.wait()


def serve(port: int) -> None:
    """Serves the route until the process is ended."""
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse

    app = FastAPI()

    @app.get(PATH)
    async def answer() -> JSONResponse:
        return JSONResponse({"ok": True})

    uvicorn.run(
        app,
        host=services.HOST,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="error",
    )


if __name__ == "__main__":
    serve(int(sys.argv[1]))
