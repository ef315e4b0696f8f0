"""The offsets that each store has reached, read past the proxies: a fault does not blind the check."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final

import redis
from kafka.protocol.api_header import ResponseClassRegistry
from kafka.protocol.consumer import ListOffsetsRequest

from infra.kafka.names import broker_name
from infra.kafka.reachable import addresses
from infra.lake.reader import Lake
from infra.settings import Settings
from schemas.keys import PLAIN
from schemas.state import fences, tables
from schemas.topics import EVENTS
from tests.flows.faults import stored_tables

SECONDS: Final = 1.0
"""A service that does not answer for so long counts as unreachable."""
LATEST: Final = -1
EndOffsets = Mapping[int, int]
AWAY: Final = (OSError, redis.RedisError, struct.error, ValueError)


class Watch:
    """`direct`: settings that name broker and Redis themselves; `settings`: the system's."""

    def __init__(self, direct: Settings, settings: Settings) -> None:
        self._brokers, self._partitions = (
            addresses(direct.kafka_bootstrap.split(",")),
            range(settings.partitions),
        )
        self._settings = settings
        self.redis: Any = redis.Redis.from_url(
            direct.redis_url, protocol=2, socket_timeout=SECONDS, socket_connect_timeout=SECONDS
        )
        self._lake = Lake.of(settings)

    def end_offsets(
        self, topic: str = EVENTS.name, partitions: Iterable[int] = ()
    ) -> dict[int, int]:
        """The end offsets of a topic. Errors: those of `AWAY`."""
        wanted = list(partitions) or list(self._partitions)
        row = ListOffsetsRequest.ListOffsetsTopic
        cells = [
            row.ListOffsetsPartition(partition_index=p, current_leader_epoch=-1, timestamp=LATEST)
            for p in wanted
        ]
        name = broker_name(self._settings, topic)
        request: Any = ListOffsetsRequest(
            replica_id=-1, isolation_level=0, topics=[row(name=name, partitions=cells)]
        )
        found: dict[int, int] = {}
        for broker in self._brokers:  # of several each knows of the partitions that it leads
            with contextlib.ExitStack() as stack:
                if len(self._brokers) > 1:
                    stack.enter_context(contextlib.suppress(OSError))
                answer = self._ask(broker, request, 5).topics[0].partitions
                found |= {it.partition_index: it.offset for it in answer if not it.error_code}
        if len(found) < len(wanted):
            raise ValueError("no broker knows yet")
        return found

    def folded(self) -> dict[int, int]:
        """By partition, the offset up to which people's state is folded."""
        held = self.redis.mget([PLAIN.fence("people", p) for p in self._partitions])
        return {p: fences.decode(it).offset if it else 0 for p, it in enumerate(held)}

    def added(self) -> dict[int, int]:
        """By partition, the offset up to which the published tables are added up."""
        meta = self.redis.get(PLAIN.tables().meta)
        positions = tables.META_DECODER.decode(meta).positions if meta else [0] * 99
        return {p: positions[p] for p in self._partitions}

    def stored(self) -> dict[int, int]:
        """By partition, the offset up to which the stored tables are added up."""
        base = stored_tables(self.redis)
        return {p: base.positions[p] if base else 0 for p in self._partitions}

    def relayed(self) -> dict[int, int | None]:
        """By partition, the offset of the first record in the outbox; None where it is empty."""
        with self.redis.pipeline(transaction=False) as pipe:
            for p in self._partitions:
                pipe.xrange(PLAIN.outbox(p), count=1)
            held = pipe.execute()
        firsts = [int(entries[0][0].partition(b"-")[0]) if entries else None for entries in held]
        return dict(enumerate(firsts))

    def waiting(self) -> int:
        """Records in all outboxes."""
        return sum(self.redis.xlen(PLAIN.outbox(p)) for p in self._partitions)

    def laked(self, topic: str = EVENTS.name, partitions: Iterable[int] = ()) -> dict[int, int]:
        """By partition, the offset up to which the lake is written."""
        wanted = list(partitions) or list(self._partitions)
        return {p: self._lake.bounds(topic, p)[1] for p in wanted}

    def lacks(self, marks: EndOffsets, *, lake: bool = False) -> str:
        """The store that has not reached `marks` yet; "" where all have. An unreachable one has not."""
        with contextlib.suppress(*AWAY):
            if _short(self.folded(), marks):
                return "people"
            if _short(self.added(), marks):
                return "rollup"
            if any(it is not None and it < marks[p] for p, it in self.relayed().items()):
                return "relay"
            if lake and _short(self.laked(), marks):
                return "lake"
            return ""
        return "Redis"

    def lag(self) -> tuple[int, int] | None:
        """Records that people's state and the tables lack; None while a store is unreachable."""
        with contextlib.suppress(*AWAY):
            end = sum(self.end_offsets().values())
            return end - sum(self.folded().values()), end - sum(self.added().values())
        return None

    def _ask(self, broker: tuple[str, int], request: Any, version: int) -> Any:
        request.API_VERSION = version
        request.with_header(1, "chaos")
        with socket.create_connection(broker, SECONDS) as peer:
            peer.sendall(bytes(request.encode(header=True, framed=True)))
            (size,) = struct.unpack(">i", _exactly(peer, 4))
            frame = _exactly(peer, size)
        response = ResponseClassRegistry.get_response_class(request.header)
        return response.decode(frame, version=version, header=True)


def _exactly(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = peer.recv(size - len(data))
        if not more:
            raise ConnectionError("the broker hung up")
        data += more
    return data


def _short(reached: EndOffsets, marks: EndOffsets) -> bool:
    return any(reached[p] < mark for p, mark in marks.items())
