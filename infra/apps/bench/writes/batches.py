"""Records a batch: of the edge, as they lie in the log, and of the flow `people`, by its metrics."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from infra.broker.batch import HEADER, header_at
from infra.kafka.names import broker_name
from infra.local.system import System
from infra.settings import Settings
from schemas.topics import EVENTS

_TIMEOUT_SECONDS: Final = 5.0
_FAMILY: Final = "freshet_flow_batch_records"


class Batches(NamedTuple):
    """Records and batches so far. A batch of the log is one partition's of a produce request; one of
    `people` is what it folds and commits at once."""

    log_records: int
    log_batches: int
    people_records: int
    people_batches: int

    def since(self, before: Batches) -> Batches:
        return Batches(*(now - then for now, then in zip(self, before, strict=True)))

    def sizes(self) -> dict[str, float]:
        """Records a batch, of the edge and of `people`; 0 without a batch."""
        return {
            "edge": self.log_records / max(1, self.log_batches),
            "people": self.people_records / max(1, self.people_batches),
        }


def batches(system: System) -> Batches:
    """Those of the topic `events` of a system with a broker of its own. Errors: OSError."""
    in_log, in_people = of_log(system.settings), _of_people(system)
    return Batches(*in_log, *in_people)


def of_log(settings: Settings) -> tuple[int, int]:
    """Records and batches of the topic `events` in the folder of the embedded broker."""
    counts = [it for path in _segments(settings) for it in _counts(path)]
    return sum(counts), len(counts)


def _segments(settings: Settings) -> Iterator[Path]:
    folder = settings.data_dir / "broker"
    topics = msgspec.json.decode((folder / "catalogue.json").read_bytes())["topics"]
    topic_id: str = topics[broker_name(settings, EVENTS.name)]["id"]
    yield from (folder / "topics" / topic_id).rglob("*.log")


def _counts(path: Path) -> Iterator[int]:
    """Records of each whole batch of a file. The broker may be writing the last one."""
    with path.open("rb") as file:
        while len(head := file.read(HEADER.size)) == HEADER.size:
            header = header_at(head)
            if header.length <= 0:
                return
            yield header.record_count
            file.seek(header.size - HEADER.size, 1)


def _of_people(system: System) -> tuple[int, int]:
    found = [0.0, 0.0]
    for it in system.state().processes:
        if it.name.startswith("people") and it.metrics_port:
            address = f"http://127.0.0.1:{it.metrics_port}/metrics"
            with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:
                lines = answer.read().decode().splitlines()
            for at, what in enumerate(("sum", "count")):
                found[at] += sum(
                    float(line.rpartition(" ")[2])
                    for line in lines
                    if line.startswith(f"{_FAMILY}_{what}{{")
                )
    return int(found[0]), int(found[1])
