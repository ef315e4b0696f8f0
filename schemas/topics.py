"""Every topic: who writes and reads it, what keys it, how long it is kept."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from schemas import control, dead_letters, events, items, readouts, slates
from schemas.access import audit
from schemas.headers import Headers, Schema
from schemas.times import DAY_MS, HOUR_MS

AFTER_MAX: Final = "message.timestamp.after.max.ms"
"""The config of a topic by which a broker refuses records whose timestamps lie ahead of its clock."""
MAX_AHEAD_MS: Final = HOUR_MS


class Topic(NamedTuple):
    """`retention_ms` -1 keeps for ever. `partitions` None: the installation's count, which never changes.
    `framed`: what may also travel in a frame, many in a record of the log (`schemas.headers`)."""

    name: str
    key: str
    records: tuple[Any, ...]
    schema: Schema
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    retention_ms: int
    partitions: int | None = None
    compacted: bool = False
    framed: tuple[Any, ...] = ()

    @property
    def headers(self) -> Headers:
        """The headers of a record that no request caused."""
        return self.schema.headers

    @property
    def config(self) -> dict[str, str]:
        """The topic's configuration as a broker takes it."""
        return {
            "retention.ms": str(self.retention_ms),
            "cleanup.policy": "compact" if self.compacted else "delete",
            # the producer's clock: Kafka deletes by it, so event time lives in the body
            "message.timestamp.type": "CreateTime",
            AFTER_MAX: str(MAX_AHEAD_MS),
        }


EVENTS: Final = Topic(
    "events",
    "person",
    events.EVERY_KIND,
    events.SCHEMA,
    ("edge", "serving", "people", "rollup"),
    ("people",),
    30 * DAY_MS,
    framed=(events.Served,),
)
# not compacted: compaction would keep the losing record of a compare-and-set, and a patch is partial
ITEMS: Final = Topic(
    "items", "item_id", items.EVERY_KIND, items.SCHEMA, ("edge",), ("catalogue",), -1
)
CONTROL: Final = Topic(
    "control",
    "subject:id",
    (control.Change,),
    control.SCHEMA,
    ("edge", "cli"),
    ("control",),
    -1,
    partitions=1,
)
SLATES: Final = Topic(
    "slates",
    "slate_id",
    (slates.Slate,),
    slates.SCHEMA,
    ("serving",),
    ("inspect",),
    30 * DAY_MS,
    framed=(slates.Slate,),
)
EXPERIMENTS: Final = Topic(
    "experiments",
    "experiment_id",
    (readouts.Readout,),
    readouts.SCHEMA,
    ("rollup",),
    ("tail",),
    90 * DAY_MS,
    partitions=1,
)
DEAD_LETTERS: Final = Topic(
    "dead-letters",
    "topic:partition:offset:index",
    (dead_letters.DeadLetter,),
    dead_letters.SCHEMA,
    ("people", "catalogue", "control"),
    ("tail",),
    90 * DAY_MS,
    partitions=1,
)
AUDIT: Final = Topic(
    "audit",
    "audit_id",
    (audit.AuditRecord,),
    audit.SCHEMA,
    ("serving", "cli"),
    ("tail",),
    400 * DAY_MS,
    partitions=1,
)
TOPICS: Final = (EVENTS, ITEMS, CONTROL, SLATES, EXPERIMENTS, DEAD_LETTERS, AUDIT)
BY_NAME: Final = {topic.name: topic for topic in TOPICS}
