"""The stages of a probe's freshness: its POST, the commit of its event, the read that includes it.

The generator writes when a POST began, when its 202 came and when the fresh read did. Meanwhile this process
looks at the fences of `people` every `LOOK_SECONDS`: the first look at which a fence is past the event's
position is taken for its commit. Both clocks are CLOCK_MONOTONIC of one machine.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import numpy as np

from infra.apps.bench.live import fence_keys, folded_offsets
from infra.apps.bench.load import NotMeasured
from infra.local.system import System
from infra.store import redis_client

LOOK_SECONDS: Final = 0.002
"""Between two looks at the fences: a commit is seen so much later at most, and while this process waits for
a core."""


class Stages(NamedTuple):
    """Percentiles (p50 and p99, ms) of the stages of `probes` probes, which add up to the freshness of each.

    `post`: from the first byte of the POST to its 202. `commit`: from then until a fence was seen past the
    position; 0 where it was before. `read`: from then to the last byte of the fresh answer.
    """

    post: dict[str, float]
    commit: dict[str, float]
    read: dict[str, float]
    probes: int

    def __str__(self) -> str:
        named = zip(("POST", "commit", "read"), (self.post, self.commit, self.read), strict=True)
        return ", ".join(f"{name} p50 {it['p50']:.1f} p99 {it['p99']:.1f} ms" for name, it in named)


class SeenCommits:
    """When each partition was seen to be folded up to which offset."""

    def __init__(self, partitions: int) -> None:
        self._offsets: list[list[int]] = [[0] for _ in range(partitions)]
        self._seen: list[list[int]] = [[0] for _ in range(partitions)]

    def see(self, at_ns: int, folded: list[int]) -> None:
        """Takes a look at time `at_ns`: every record below `folded` is committed, by partition."""
        for partition, offset in enumerate(folded):
            if offset > self._offsets[partition][-1]:
                self._offsets[partition].append(offset)
                self._seen[partition].append(at_ns)

    def seen(self, partition: int, offset: int) -> int | None:
        """When a look first found the record at `offset` committed, in ns; None: no look did."""
        at = bisect_right(self._offsets[partition], offset)
        return self._seen[partition][at] if at < len(self._seen[partition]) else None

    def stages(self, timeline: str) -> Stages:
        """The stages of the probes in a timeline of the generator. Errors: `NotMeasured` without one."""
        rows = []
        for line in timeline.splitlines():
            position, *times = line.split()
            began, taken, fresh = map(int, times)
            partition, _, offset = position.partition(":")
            # a reader may see a commit before this process does
            seen = self.seen(int(partition), int(offset)) or fresh
            committed = min(max(taken, seen), fresh)
            rows.append((taken - began, committed - taken, fresh - committed))
        if not rows:
            raise NotMeasured("no probe was answered")
        post, commit, read = (
            {"p50": round(p50, 3), "p99": round(p99, 3)}
            for p50, p99 in np.percentile(np.array(rows) / 1e6, (50, 99), axis=0).T.tolist()
        )
        return Stages(post, commit, read, len(rows))


@contextmanager
def watching(system: System) -> Iterator[SeenCommits]:
    """Looks at the fences until the end of the context."""
    commits, ended = SeenCommits(system.settings.partitions), threading.Event()
    keys = fence_keys(system)

    def watch() -> None:
        with redis_client.connect(system.settings) as client:
            while not ended.wait(LOOK_SECONDS):
                held = client.mget(keys)
                commits.see(time.monotonic_ns(), folded_offsets(held))

    thread = threading.Thread(target=watch, name="commits", daemon=True)
    thread.start()
    try:
        yield commits
    finally:
        ended.set()
        thread.join()
