"""The load generator: `load.c`, compiled on demand and run as a process."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from infra.apps.bench.rate import RateStep
from infra.local.services import NoService
from infra.shipped import shipped
from schemas.errors import FreshetError

SOURCE: Final = Path(__file__).with_name("load.c")
COMPILERS: Final = ("cc", "gcc", "clang")
CONNECTIONS: Final = 256
"""The kernel spreads connections over the workers by a hash: many are spread evenly, few are not."""
GRACE_SECONDS: Final = 30.0
PATIENCE_MS: Final = 30_000
"""For the answer to a POST, and for a read that includes it: a full server is measured, not given up on."""


class NotMeasured(FreshetError):
    """A run without a figure; the text says why."""


def build(target: Path, source: Path = SOURCE, compilers: Sequence[str] = COMPILERS) -> Path:
    """The generator's binary at `target`, compiled where it is missing or older than its source.

    Errors: `NoService`, `shipped.Incomplete`.
    """
    source = shipped(source)
    if target.is_file() and target.stat().st_mtime >= source.stat().st_mtime:
        return target
    compiler = next(filter(None, map(shutil.which, compilers)), None)
    if compiler is None:
        raise NoService(
            f"no C compiler here ({', '.join(compilers)}), and the load generator is written in C:"
            " install one (Debian: apt-get install gcc libc6-dev)"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.with_suffix(".new")
    command = [compiler, "-O2", "-o", str(made), str(source), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), "")
        raise NoService(f"{compiler} cannot compile {source.name}: {first.strip()[:200]}")
    made.replace(target)  # a second bench never runs half a binary
    return target


class Probing(NamedTuple):
    """Every `every`-th POST is followed by reads of `path` until they include it."""

    every: int
    path: str = "/v1/recommendations?user_id=%s&count=10"
    timeline: Path | None = None
    """A file to write: a line a probe, as `load.c` says."""


class Generator(NamedTuple):
    """Sends to `url`, with `token` unless it is "". `folder` holds the files that it reads requests from."""

    binary: Path
    url: str
    folder: Path
    warmup: float = 1.0
    token: str = ""

    def reads(self, paths: Iterable[str], rate: float, seconds: float) -> dict[str, Any]:
        """Latency of GETs at a constant rate: the report of `load.c`."""
        return self._run("reads", "--paths", self._file("paths", paths), rate, seconds)

    def closed(self, paths: Iterable[str], seconds: float, connections: int) -> dict[str, Any]:
        """GETs over `connections`, each sent when the answer to the one before has come."""
        file = self._file("paths", paths)
        return self._run("closed", "--paths", file, None, seconds, connections)

    def events(
        self,
        bodies: Iterable[tuple[str, str]],
        rate: float,
        seconds: float,
        probing: Probing | None = None,
    ) -> dict[str, Any]:
        """POSTs of (user, JSON) at a constant rate, and with `probing` how soon reads include them."""
        file = self._file("bodies", (f"{user}\t{body}" for user, body in bodies))
        more = ["--timeout-ms", str(PATIENCE_MS), "--give-up-ms", str(PATIENCE_MS)]
        if probing:
            more += ["--probe-every", str(probing.every), "--probe-path", probing.path]
            more += ["--timeline", str(probing.timeline)] if probing.timeline else []
        return self._run("events", "--bodies", file, rate, seconds, more=more)

    def _file(self, name: str, lines: Iterable[str]) -> Path:
        path = self.folder / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    def _run(
        self,
        mode: str,
        option: str,
        file: Path,
        rate: float | None,
        seconds: float,
        connections: int = CONNECTIONS,
        more: Sequence[str] = (),
    ) -> dict[str, Any]:
        at = urlsplit(self.url)
        command = [str(self.binary), mode, "--host", str(at.hostname), "--port", str(at.port)]
        command += [option, str(file), "--seconds", f"{seconds:g}", "--warmup", f"{self.warmup:g}"]
        command += ["--connections", str(connections), *more]
        if self.token:
            command += ["--header", f"Authorization: Bearer {self.token}"]
        if rate is not None:
            command += ["--rate", f"{rate:g}"]
        limit = seconds + self.warmup + PATIENCE_MS / 1000 + GRACE_SECONDS
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=limit
            )
        except subprocess.TimeoutExpired:
            raise NotMeasured(f"the load generator did not end within {limit:.0f} s") from None
        if done.returncode:
            raise NotMeasured(f"the load generator failed: {done.stderr.strip()[:300]}")
        report: dict[str, Any] = json.loads(done.stdout)
        return report


def step(report: dict[str, Any], percentile: str = "p95") -> RateStep:
    """The report of a generator as a step of the search for the best rate."""
    tail = report["latency_ms"][percentile]
    return RateStep(
        report["rate"],
        report["requests_per_s"],
        float("inf") if tail is None else tail,
        sum(report["errors"].values()),
    )
