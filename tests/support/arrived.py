"""The records that have arrived in `slates` and of served slates; the remaining spools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kafka import TopicPartition

from infra.kafka import kafka_client
from infra.local import services
from infra.settings import Settings
from schemas import events, slates
from schemas.events import Served
from schemas.identity import partition_of
from schemas.slates import Slate
from tests.support.singles import singles


class Arrived:
    """Reads two topics from their beginnings on."""

    def __init__(self, settings: Settings) -> None:
        self.slates: list[Slate] = []
        self.served: list[Served] = []
        self._partitions = settings.partitions
        self._consumer = kafka_client.consumer(settings)
        places = [TopicPartition(t, p) for t in ("slates", "events") for p in range(4)]
        self._consumer.assign(places)
        for place in places:
            self._consumer.seek(place, 0)

    def close(self) -> None:
        self._consumer.close()

    def look(self) -> None:
        for place, records in self._consumer.poll(50).items():
            for record in singles(place.topic, records):
                assert place.partition == partition_of(record.key, self._partitions)
                if place.topic == "slates":
                    decoded = slates.decode(record.value)
                    assert record.key == decoded.slate_id.encode()
                    self.slates.append(decoded)
                elif isinstance(said := events.decode(record.value, record.timestamp), Served):
                    assert record.key == said.person.encode()
                    self.served.append(said)

    def until(self, wanted: Sequence[str]) -> None:
        """Waits until every slate of `wanted` has arrived, and the served record of each."""

        def come() -> bool:
            self.look()
            ids = set(wanted)
            return ids <= {it.slate_id for it in self.slates} and ids <= {
                it.slate_id for it in self.served
            }

        services.wait_until(come, 30, "not everything arrives")

    def in_order(self) -> bool:
        """Whether the log has what each person was served in the order of time; of a slate that stands
        there twice, which it may after a fault, the first counts."""
        first = {it.slate_id: it for it in reversed(self.served)}
        log: dict[str, list[int]] = {}
        for it in self.served:
            if first.get(it.slate_id) is it:
                log.setdefault(it.person, []).append(it.received_at)
        return all(times == sorted(times) for times in log.values())


@contextmanager
def arrived(settings: Settings) -> Iterator[Arrived]:
    found = Arrived(settings)
    try:
        yield found
    finally:
        found.close()


def spools(settings: Settings) -> list[Path]:
    return [path for path in (settings.data_dir / "spool").iterdir() if path.is_dir()]
