"""Topic configs: which names exist, which values are legal, and which of them this broker obeys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from infra.broker.codes import Code, Refused
from infra.broker.storage.missing import lacks

LONG_MAX: Final = 2**63 - 1
INT_MAX: Final = 2**31 - 1
LONG_DIGITS: Final = 19


class Rules(NamedTuple):
    """What a topic's configs mean for its logs; sizes in bytes, times in ms."""

    max_bytes: int
    append_time: bool
    max_ahead: int
    max_behind: int
    segment_bytes: int
    segment_ms: int
    retention_bytes: int  # -1 for no limit, as below
    retention_ms: int


class Config(NamedTuple):
    """A config's default, its check, and its protocol type (1 bool, 2 str, 3 int, 5 long...)."""

    default: str
    legal: Callable[[str], bool]
    kind: int


def _whole(low: int, high: int = LONG_MAX) -> Callable[[str], bool]:
    def legal(value: str) -> bool:
        digits = value.removeprefix("-")
        plain = digits.isascii() and digits.isdigit()
        # the length first: int() ends in an error beyond some thousand digits
        return plain and len(digits) <= LONG_DIGITS and low <= int(value) <= high

    return legal


def _one_of(*words: str) -> Callable[[str], bool]:
    return lambda value: value in words


def _policies(value: str) -> bool:
    return {word.strip() for word in value.split(",")} <= {"delete", "compact"}


def _share(value: str) -> bool:
    try:
        return 0.0 <= float(value) <= 1.0
    except ValueError:
        return False


BOOL, STRING, INT, LONG, DOUBLE, LIST = 1, 2, 3, 5, 6, 7
CONFIGS: Final[Mapping[str, Config]] = {
    "cleanup.policy": Config("delete", _policies, LIST),
    "compression.type": Config("producer", _one_of("producer"), STRING),
    "delete.retention.ms": Config("86400000", _whole(0), LONG),
    "file.delete.delay.ms": Config("60000", _whole(0), LONG),
    "flush.messages": Config(str(LONG_MAX), _whole(1), LONG),
    "flush.ms": Config(str(LONG_MAX), _whole(0), LONG),
    "index.interval.bytes": Config("4096", _whole(0, INT_MAX), INT),
    "max.compaction.lag.ms": Config(str(LONG_MAX), _whole(1), LONG),
    "max.message.bytes": Config("1048588", _whole(0, INT_MAX), INT),
    "message.timestamp.after.max.ms": Config("3600000", _whole(0), LONG),
    "message.timestamp.before.max.ms": Config(str(LONG_MAX), _whole(0), LONG),
    "message.timestamp.type": Config("CreateTime", _one_of("CreateTime", "LogAppendTime"), STRING),
    "min.cleanable.dirty.ratio": Config("0.5", _share, DOUBLE),
    "min.compaction.lag.ms": Config("0", _whole(0), LONG),
    "min.insync.replicas": Config("1", _whole(1, INT_MAX), INT),
    "preallocate": Config("false", _one_of("true", "false"), BOOL),
    "retention.bytes": Config("-1", _whole(-1), LONG),
    "retention.ms": Config("604800000", _whole(-1), LONG),
    "segment.bytes": Config("134217728", _whole(1 << 20, INT_MAX), INT),
    "segment.index.bytes": Config("10485760", _whole(4, INT_MAX), INT),
    "segment.jitter.ms": Config("0", _whole(0), LONG),
    "segment.ms": Config("604800000", _whole(1), LONG),
    "unclean.leader.election.enable": Config("false", _one_of("true", "false"), BOOL),
}
BROKER: Final[Mapping[str, str]] = {
    "default.replication.factor": "1",
    "log.retention.ms": "604800000",
    "message.max.bytes": "1048588",
}


def check(configs: Mapping[str, str | None]) -> dict[str, str]:
    """The configs as they will be stored.

    Errors: `Refused` with INVALID_CONFIG, also for compaction.
    """
    for name, value in configs.items():
        known = CONFIGS.get(name)
        if known is None:
            raise Refused(Code.INVALID_CONFIG, "unknown topic config")
        if value is None or not known.legal(value):
            raise Refused(Code.INVALID_CONFIG, f"illegal value for topic config {name}")
        if name == "cleanup.policy" and "compact" in value:
            raise lacks(Code.INVALID_CONFIG, "compaction (cleanup.policy=compact)")
    return {name: value for name, value in configs.items() if value is not None}


def rules(configs: Mapping[str, str]) -> Rules:
    """What `configs`, already checked, mean for its logs."""

    def value(name: str) -> str:
        return configs.get(name, CONFIGS[name].default)

    deletes = "delete" in value("cleanup.policy")  # a topic of an older broker may say compact
    return Rules(
        max_bytes=int(value("max.message.bytes")),
        append_time=value("message.timestamp.type") == "LogAppendTime",
        max_ahead=int(value("message.timestamp.after.max.ms")),
        max_behind=int(value("message.timestamp.before.max.ms")),
        segment_bytes=int(value("segment.bytes")),
        segment_ms=int(value("segment.ms")),
        retention_bytes=int(value("retention.bytes")) if deletes else -1,
        retention_ms=int(value("retention.ms")) if deletes else -1,
    )
