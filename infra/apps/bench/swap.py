"""Releases swapped under a steady load of reads: answers that failed, and answers that mixed two."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from infra.apps.bench.load import Generator, NotMeasured
from infra.kafka.changes import current, publish, serve
from infra.local.system import System
from models.release import artefact
from models.release.write import save
from schemas.control import Released, release_order
from schemas.releases import ENCODER, HASHES, VECTORS

READS_PER_S: Final = 200.0
SWAPS: Final = 6
SAMPLE_PER_S: Final = 50
SCORE_FACTOR: Final = 1e4
"""Factor on the scores of the second release, so that a score shows its release."""
_TIMEOUT_SECONDS: Final = 20.0
Announce = Callable[[str], None]


class Swap(NamedTuple):
    """`requests` at `READS_PER_S` while releases changed `swaps` times. Of the `sampled` ones, `mixed` were
    not wholly of the release they named, and `served` were made by each release."""

    swaps: int
    requests: int
    errors: int
    p95_ms: float
    sampled: int
    mixed: int
    served: dict[str, int]


def measure(system: System, generator: Generator, paths: Sequence[str], announce: Announce) -> Swap:
    """Measures swaps in a system that serves a release. Errors: `NotMeasured`."""
    first = current(system.settings)
    if not first:
        raise NotMeasured("no release serves: train one first")
    second = _scaled_copy(system, first)
    sampler = _Sampler(system, paths, loud=second)
    seconds = SWAPS * 1.5 + 2
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(generator.reads, paths, READS_PER_S, seconds)
        sampler.start()
        time.sleep(generator.warmup)
        for number in range(SWAPS):
            serve(system.settings, second if number % 2 == 0 else first, rollback=True)
            sampler.wait_for_release(second if number % 2 == 0 else first)
            time.sleep(1.0)
        report = load.result()
        sampler.stop()
    errors = sum(report["errors"].values()) + sampler.errors
    done = Swap(
        SWAPS,
        report["scheduled"],
        errors,
        report["latency_ms"]["p95"],
        sum(sampler.served.values()),
        sampler.mixed,
        dict(sampler.served),
    )
    announce(
        f"{done.swaps} swaps under {READS_PER_S:g} reads/s: {done.errors} errors, {done.mixed} of"
        f" {done.sampled:,} answers mixed, p95 {done.p95_ms:.1f} ms"
    )
    return done


def _scaled_copy(system: System, release: str) -> str:
    """A copy of `release` without a ranker, its coarse scores multiplied."""
    folder = system.settings.releases
    manifest, _ = artefact.read_manifest(folder / release)
    day, number = release_order(release)
    manifest.id, manifest.parent = f"{day}.{number + 1}", release
    manifest.coarse = {name: weight * SCORE_FACTOR for name, weight in manifest.coarse.items()}
    arrays = {name: np.load(folder / release / name) for name in (HASHES, VECTORS, ENCODER)}
    sha = save(folder, manifest, arrays, None)
    released = Released(manifest_sha256=sha, parent=release, counting=manifest.counting)
    publish(system.settings, "release", manifest.id, released)
    return manifest.id


class _Sampler(threading.Thread):
    """Reads a little beside the load, and checks each answer."""

    def __init__(self, system: System, paths: Sequence[str], loud: str) -> None:
        super().__init__(daemon=True)
        self.served: Counter[str] = Counter()
        self.errors = self.mixed = 0
        self._at, self._token = urlsplit(system.url), system.token
        self._paths, self._loud, self._last = paths, loud, ""
        self._ended = threading.Event()

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        number = 0
        while not self._ended.is_set():
            # a connection each: the kernel spreads them over the workers
            connection = http.client.HTTPConnection(
                str(self._at.hostname), self._at.port, timeout=10
            )
            try:
                connection.request("GET", self._paths[number % len(self._paths)], headers=headers)
                answer = connection.getresponse()
                self._check(answer.status, answer.read())
            except OSError:
                self.errors += 1
            finally:
                connection.close()
            number += 1
            self._ended.wait(1 / SAMPLE_PER_S)

    def _check(self, status: int, body: bytes) -> None:
        if status != 200:
            self.errors += 1
            return
        answer = json.loads(body)
        release, index = answer["served_by"]["release"], answer["served_by"]["index"]
        best = max((item["score"] for item in answer["items"]), default=0.0)
        self.served[release] += 1
        self.mixed += not index.startswith(f"{release}@") or (best > 1.0) != (release == self._loud)
        self._last = release

    def wait_for_release(self, release: str) -> None:
        """Errors: `NotMeasured`."""
        until = time.monotonic() + _TIMEOUT_SECONDS
        while self._last != release:
            if time.monotonic() > until:
                raise NotMeasured(f"release {release} does not serve within {_TIMEOUT_SECONDS:g} s")
            time.sleep(0.02)

    def stop(self) -> None:
        self._ended.set()
        self.join()
