"""A single POST in the edge, beside a bare route of FastAPI and a bare guarded one of ours.

One serving process with a broker and a Redis; the flows rest, and nothing reads. So the CPU is that of POSTs
alone. What the process uses without work is taken off. The bare route is a process of its own, and all three
are asked at the same rate in the same rounds, one after the other.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from infra import tokens
from infra.apps.bench import audience, cpu
from infra.apps.bench.freshness import shuffled_items
from infra.apps.bench.live import Announce, calm, catalogue, idle_cores, refuse_errors
from infra.apps.bench.load import Generator, step
from infra.apps.bench.rate import RateStep, best
from infra.apps.bench.services import SERVICES, up, wait
from infra.apps.bench.steady import BARE_PATH
from infra.apps.bench.writes.bare import PATH, BareServer, bare_server
from infra.apps.bulk_import.catalogue import send_catalogue
from infra.apps.bulk_import.system import Endpoint
from infra.datasets.movielens import Dataset
from infra.local import home
from infra.local.plan import Plan, plan
from infra.local.services import free_port

RATE_PER_S: Final = 300.0
IDLE_SECONDS: Final = 2.0
LIMIT_MS: Final = 100.0
"""Of p99, in the search for the best rate."""
FIRST_SHARE: Final = 0.5
"""The search begins where the work at `RATE_PER_S`, scaled, would use this share of a core."""


class PostRound(NamedTuple):
    """µs of CPU a request of the serving process, less what it uses idle: of a POST, of the bare route of
    FastAPI (in its own process), of the bare guarded route. `broker`: of the broker, a POST. `p99`: of
    POSTs, ms."""

    post: float
    fastapi: float
    guarded: float
    broker: float
    p99: float


class Posts(NamedTuple):
    rounds: list[PostRound]
    best: list[RateStep]
    """Single POSTs of one worker, p99 < `LIMIT_MS`."""
    best_fastapi: list[RateStep]
    """Likewise of the bare route of FastAPI."""


def measure(
    folder: Path, generator: Generator, seconds: float, repeats: int, announce: Announce
) -> Posts:
    """`repeats` rounds at `RATE_PER_S`, then the best rates. Errors: `NotMeasured`, `rate.NeverHeld`."""
    with _edge(folder, generator, seconds, announce) as edge:
        rounds = []
        for number in range(repeats):
            rounds.append(edge.round(backwards=number % 2 == 1))
            last = rounds[-1]
            announce(
                f"POST at {RATE_PER_S:g}/s, {number + 1} of {repeats}: {last.post:.0f} µs, a bare route of"
                f" FastAPI {last.fastapi:.0f}, a guarded one {last.guarded:.0f}; p99 {last.p99:.1f} ms"
            )
        posts = _best(edge, edge.post, rounds[-1].post, "single POSTs", repeats, announce)
        bare = _best(edge, edge.fastapi, rounds[-1].fastapi, "a bare route", repeats, announce)
    return Posts(rounds, posts, bare)


class _OneWorker:
    """One serving process, its broker, and a bare route; each request is sent by the generator."""

    def __init__(
        self,
        generator: Generator,
        planned: Plan,
        bare: BareServer,
        pids: dict[str, int],
        seconds: float,
        source: Dataset,
    ) -> None:
        self._ours = generator._replace(url=planned.url, token=tokens.held(planned.settings))
        self._bare = generator._replace(url=bare.url)
        self._pids, self._seconds = {**pids, "bare": bare.pid}, seconds
        self._item_ids, self._seeds = shuffled_items(source), itertools.count(1)

    def look(self) -> dict[str, float]:
        """Seconds of CPU so far of `edge`, `broker` and `bare`."""
        return {name: cpu.cpu_seconds(pid) for name, pid in self._pids.items()}

    def post(self, rate: float) -> dict[str, Any]:
        posts, begin = int(rate * (self._ours.warmup + self._seconds)) + 1, int(time.time() * 1000)
        bodies = audience.bodies(posts, 1, self._item_ids, begin, rate, next(self._seeds))
        return self._ours.events(list(bodies), rate, self._seconds)

    def fastapi(self, rate: float) -> dict[str, Any]:
        return self._bare.reads([PATH], rate, self._seconds)

    def guarded(self, rate: float) -> dict[str, Any]:
        return self._ours.reads([BARE_PATH], rate, self._seconds)

    def round(self, *, backwards: bool) -> PostRound:
        """Errors: `NotMeasured`."""
        calm(self.look)
        idle = idle_cores(self.look, IDLE_SECONDS)
        used: dict[str, dict[str, float]] = {}
        p99 = 0.0
        kinds = (self.post, self.fastapi, self.guarded)
        for send in reversed(kinds) if backwards else kinds:
            calm(self.look)
            began, before = time.monotonic(), self.look()
            report = send(RATE_PER_S)
            took, after = time.monotonic() - began, self.look()
            refuse_errors(report)
            requests = int(RATE_PER_S * (self._ours.warmup + self._seconds))
            working = cpu.without_idle(before, after, idle, took)
            used[send.__name__] = cpu.per_event(before, working, requests)
            p99 = report["latency_ms"]["p99"] if send.__name__ == "post" else p99
        post, fastapi, guarded = (used[it.__name__] for it in kinds)
        return PostRound(post["edge"], fastapi["bare"], guarded["edge"], post["broker"], p99)


def _best(
    edge: _OneWorker,
    send: Callable[[float], dict[str, Any]],
    cost_us: float,
    what: str,
    repeats: int,
    announce: Announce,
) -> list[RateStep]:
    def held(rate: float) -> RateStep:
        calm(edge.look)  # an overload's backlog belongs to the step before
        done = step(send(rate), "p99")
        announce(f"{what} at {rate:.0f}/s: {done.reached:.0f}/s, p99 {done.tail_ms:.1f} ms")
        return done

    first = FIRST_SHARE * 1e6 / max(cost_us, 1.0)
    return best(held, max(RATE_PER_S, first), LIMIT_MS, repeats)


@contextmanager
def _edge(
    folder: Path, generator: Generator, seconds: float, announce: Announce
) -> Iterator[_OneWorker]:
    source = catalogue()._replace(ratings=())
    with home.claimed(folder) as directory:
        # another program may begin on the default port at this moment, and share it
        planned = plan(directory, {}, workers=1, port=free_port())
        with up(planned, (*SERVICES, "serving")) as services, ExitStack() as opened:
            wait(services, lambda: services.was_ready, "broker, Redis and serving are not ready")
            bare = opened.enter_context(bare_server(planned.settings))
            announce(f"POST: {len(source.items):,} items for one worker: {source.source}")
            with up(planned, ("catalogue",)) as flow, ThreadPoolExecutor(1) as pool:
                target = Endpoint(planned.url, tokens.held(planned.settings))
                sent = pool.submit(send_catalogue, target, source)
                wait((services, flow), sent.done, "the catalogue is not there")
                sent.result()
            pids = {
                name: services.children[of].pid or 0
                for name, of in (("edge", "serving"), ("broker", "broker"))
            }
            yield _OneWorker(generator, planned, bare, pids, seconds, source)
