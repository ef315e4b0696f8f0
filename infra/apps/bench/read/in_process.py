"""A decision and a bare guarded route in one process, without sockets: CPU of its thread.

`python -m infra.apps.bench.read.in_process` takes a line of JSON, the people, and gives one, the figures. Its
environment is that of a serving process of a running system.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from infra.apps.bench.load import NotMeasured
from infra.local.plan import child_environment
from infra.settings import Settings
from infra.signals import die_with_parent

REPEATS: Final = 5
BARE_REQUESTS: Final = 400
READY_SECONDS: Final = 60.0
PATIENCE_SECONDS: Final = 600.0


class DecideTimes(NamedTuple):
    """Means over people of the least of `REPEATS`, in µs of CPU. `compiled_us` is None without a kernel."""

    compiled_us: float | None
    python_us: float
    bare_us: float


def measure(settings: Settings, users: Sequence[str]) -> tuple[DecideTimes, Any]:
    """The times, and the figures of the index (`index.IndexFigures`). Errors: `NotMeasured`."""
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(list(users)),
        env=child_environment(settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        preexec_fn=die_with_parent(),
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise NotMeasured(f"decisions in process: {last[:300]}")
    from infra.apps.bench.read.index import IndexFigures

    times, index = json.loads(done.stdout.splitlines()[-1])
    return DecideTimes(*times), IndexFigures(*index)


async def _measured(settings: Settings, users: Sequence[str]) -> tuple[DecideTimes, Any]:
    from infra.apps.bench.read.index import figures_of
    from models.kernels.loading import kernel
    from serving import app as application
    from serving.decide import decide as decisions
    from serving.decide.case import Case
    from serving.read import query
    from serving.read.recommend import make_question
    from serving.read.resolve import resolve_page
    from serving.read.rows import Rows
    from serving.read.watch import Stopwatch

    app = application.create(settings)
    async with app.router.lifespan_context(app):
        await _ready(app)
        context = app.state.serving
        arguments = []
        for user in users:
            of = query.recommendations(f"user_id={user}&count=10".encode())
            (resolved,) = await resolve_page(
                context, Rows((of,), True, False, (frozenset(),)), Stopwatch()
            )
            ask = make_question(context, resolved).ask
            arguments.append((resolved.person_read.person, resolved.world, ask))
        gc.collect()
        gc.freeze()
        python = getattr(decisions, "decide_by_numpy", decisions.decide)
        by_python = _least(python, arguments)
        compiled = None if kernel is None else _least(decisions.decide, arguments)
        bare = min([await _bare(app) for _ in range(REPEATS)])
        likes = [Case(*it).likeness for it in arguments]
        return DecideTimes(compiled, by_python, bare), figures_of(context.index, likes)


def _least(decide: Callable[..., object], arguments: Sequence[tuple[Any, ...]]) -> float:
    """Mean over `arguments` of the least of `REPEATS`, µs."""
    least = [float("inf")] * len(arguments)
    for _ in range(REPEATS + 1):
        for at, its in enumerate(arguments):
            began = time.thread_time_ns()
            decide(*its)
            least[at] = min(least[at], time.thread_time_ns() - began)
    return round(sum(least) / len(least) / 1000, 2)


async def _bare(app: Any) -> float:
    """Of a request of the guarded route that does nothing, µs."""
    began = time.thread_time_ns()
    for _ in range(BARE_REQUESTS):
        await _get(app, "/health/live")
    return round((time.thread_time_ns() - began) / BARE_REQUESTS / 1000, 2)


async def _get(app: Any, path: str) -> int:
    """The status of the answer."""
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    await app(scope, receive, send)
    return status


async def _ready(app: Any) -> None:
    until = time.monotonic() + READY_SECONDS
    while await _get(app, "/health/ready") != 200:
        if time.monotonic() > until:
            raise NotMeasured("a serving context does not become ready")
        await asyncio.sleep(0.05)
    context = app.state.serving
    while not (context.releases.current and context.index.refresh()):
        if time.monotonic() > until:
            raise NotMeasured("a serving context loads no release")
        await asyncio.sleep(0.05)


def main() -> None:
    from infra.settings import from_environment

    found = asyncio.run(_measured(from_environment(), json.loads(sys.stdin.read())))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
