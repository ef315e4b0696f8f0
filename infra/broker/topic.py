"""A topic: its name, its id for life, its configs and its logs."""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from infra.broker.codes import Code, Refused
from infra.broker.configs import LogConfig, log_config
from infra.broker.storage.log import Log

LEGAL_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")


@dataclass(slots=True)
class Topic:
    """`logs[n]` is partition n; `log_config` follows `configs`."""

    name: str
    id: uuid.UUID
    configs: dict[str, str]
    logs: list[Log] = field(default_factory=list)
    log_config: LogConfig = field(init=False)

    def __post_init__(self) -> None:
        self.configure(self.configs)

    def configure(self, configs: dict[str, str]) -> None:
        """Takes checked configs."""
        self.configs, self.log_config = configs, log_config(configs)

    def log(self, partition: int) -> Log:
        """The log of a partition. Errors: `Refused` with UNKNOWN_TOPIC_OR_PARTITION."""
        if not 0 <= partition < len(self.logs):
            raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION, "no such partition")
        return self.logs[partition]


def check_name(name: str | None, taken: Collection[str] = ()) -> str:
    """The name, if it is legal and not in `taken`, where `.` and `_` count as the same letter.

    Errors: `Refused` with INVALID_TOPIC.
    """
    if name is None or not LEGAL_NAME.fullmatch(name) or name in (".", ".."):
        raise Refused(Code.INVALID_TOPIC, "topic names are 1 to 249 of a-z A-Z 0-9 . _ -")
    metric_name = name.replace(".", "_")
    if any(metric_name == other.replace(".", "_") for other in taken):
        raise Refused(Code.INVALID_TOPIC, "topic name differs from another only in . and _")
    return name
