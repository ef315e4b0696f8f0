"""Where the log ends, asked of the broker: callers share a question that has not begun."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from infra.kafka.end_offsets import EndOffsets, Place
from infra.settings import Settings

log = logging.getLogger("freshet.serving")

EndOffsetsAsked = asyncio.Task[Mapping[Place, int] | None]


class LogEnd:
    """The end offsets of all partitions of `topics`. Belongs to one event loop; connects to the broker at the
    first question.

    Guarantee: a record that was acknowledged before `ask` was called lies below the end that it answers. A
    leader raises its high watermark, which is what it answers, before it acknowledges with acks=all. A new
    leader may begin with a lower one, and refuses to answer (OFFSET_NOT_AVAILABLE, KIP-207) until it has
    caught up; as any error does, that makes the end unknown.
    The exception: a leader that was replaced, does not know it yet and is asked for what its successor has
    acknowledged since. It answers a lower end, for as long as it and this process cannot reach the others.
    """

    def __init__(self, settings: Settings, topics: Sequence[str]) -> None:
        self._end_offsets = EndOffsets(
            settings, {topic: range(settings.partitions) for topic in topics}
        )
        self._asked: EndOffsetsAsked | None = None
        self._next: EndOffsetsAsked | None = None

    async def ask(self) -> Mapping[Place, int] | None:
        """Place -> the offset that the next record gets, of a request that begins after this call. None: the
        broker is away or slow (`infra.kafka.end_offsets.TIMEOUT_SECONDS`). Errors: none."""
        if self._next is None:
            self._next = asyncio.create_task(self._ask(self._asked))
        return await asyncio.shield(self._next)

    async def close(self) -> None:
        for task in (self._asked, self._next):
            if task is not None:
                await asyncio.wait({task})
        await asyncio.to_thread(self._end_offsets.close)

    async def _ask(self, before: EndOffsetsAsked | None) -> Mapping[Place, int] | None:
        if before is not None:
            await asyncio.wait({before})
        self._asked, self._next = self._next, None
        try:
            return await asyncio.to_thread(self._end_offsets.ask)
        except Exception as error:  # any error: the end is unknown
            log.debug("the log's end cannot be asked for: %s", type(error).__name__)
            return None
