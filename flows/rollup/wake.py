"""What the roll-up waits for while nothing happens: an entry of a delta log, a change of the catalogue or of
the control state. Where all is idle it sleeps, and its first entry is added at once."""

from __future__ import annotations

import threading
import time
from typing import Final

from flows.kit.metrics import FlowMetrics
from flows.rollup.marks import Marks
from flows.rollup.tables import Rollup
from infra import heartbeat
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client

BLOCK_MS: Final = 500
"""How long one wait blocks: it bounds how long a stop takes."""


class Wake:
    """Sleeps for the roll-up."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        rollup: Rollup,
        marks: Marks | None,
        metrics: FlowMetrics,
    ) -> None:
        """Before the first step, so that no change of the control state is missed. Errors: Redis's."""
        self._redis, self._rollup, self._marks, self._metrics = client, rollup, marks, metrics
        self._control = settings.keyspace.control_changes()
        self._control_id = self._last_id()

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Returns where there is something to do, after `seconds`, or once `stop` is set. On a cluster, where
        no one node can block on all streams, at once: the roll-up looks at its interval. Errors: Redis's."""
        if redis_client.is_cluster(self._redis):
            return
        until = time.monotonic() + seconds
        while not stop.is_set() and (rest := until - time.monotonic()) > 0:
            heartbeat.beat()
            self._metrics.seen()
            block = max(1, min(BLOCK_MS, int(rest * 1000)))
            if found := self._redis.xread(self._places(), count=1, block=block):
                if any(stream == self._control for stream, _ in found):
                    self._control_id = self._last_id()
                return

    def _places(self) -> dict[bytes, bytes]:
        """Stream -> id of the last entry that was read."""
        catalogue = {} if self._marks is None else self._marks.places()
        return {**self._rollup.places(), **catalogue, self._control: self._control_id}

    def _last_id(self) -> bytes:
        """Of the stream of changes of the control state."""
        newest = self._redis.xrevrange(self._control, count=1)
        return bytes(newest[0][0]) if newest else b"0-0"
