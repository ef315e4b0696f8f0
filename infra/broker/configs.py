"""Topic configs: the names, the legal values, and the meaning for a log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from infra.broker.codes import Code, Refused
from infra.broker.storage.missing import unsupported

LONG_MAX: Final = 2**63 - 1
INT_MAX: Final = 2**31 - 1
MAX_LONG_DIGITS: Final = 19


class LogConfig(NamedTuple):
    """A topic's configs as its logs use them; sizes in bytes, times in ms."""

    max_message_bytes: int
    append_time: bool
    max_ahead_ms: int
    max_behind_ms: int
    segment_bytes: int
    segment_ms: int
    retention_bytes: int  # -1 for no limit, as below
    retention_ms: int


class Config(NamedTuple):
    """A config's default, its check, and its protocol type (1 bool, 2 str, 3 int, 5 long...)."""

    default: str
    legal: Callable[[str], bool]
    kind: int


def _integer(low: int, high: int = LONG_MAX) -> Callable[[str], bool]:
    def legal(value: str) -> bool:
        digits = value.removeprefix("-")
        plain = digits.isascii() and digits.isdigit()
        # the length first: int() raises an error beyond some thousand digits
        return plain and len(digits) <= MAX_LONG_DIGITS and low <= int(value) <= high

    return legal


def _one_of(*words: str) -> Callable[[str], bool]:
    return lambda value: value in words


def _cleanup_policies(value: str) -> bool:
    return {word.strip() for word in value.split(",")} <= {"delete", "compact"}


def _fraction(value: str) -> bool:
    try:
        return 0.0 <= float(value) <= 1.0
    except ValueError:
        return False


BOOL, STRING, INT, LONG, DOUBLE, LIST = 1, 2, 3, 5, 6, 7
TOPIC_CONFIGS: Final[Mapping[str, Config]] = {
    "cleanup.policy": Config("delete", _cleanup_policies, LIST),
    "compression.type": Config("producer", _one_of("producer"), STRING),
    "delete.retention.ms": Config("86400000", _integer(0), LONG),
    "file.delete.delay.ms": Config("60000", _integer(0), LONG),
    "flush.messages": Config(str(LONG_MAX), _integer(1), LONG),
    "flush.ms": Config(str(LONG_MAX), _integer(0), LONG),
    "index.interval.bytes": Config("4096", _integer(0, INT_MAX), INT),
    "max.compaction.lag.ms": Config(str(LONG_MAX), _integer(1), LONG),
    "max.message.bytes": Config("1048588", _integer(0, INT_MAX), INT),
    "message.timestamp.after.max.ms": Config("3600000", _integer(0), LONG),
    "message.timestamp.before.max.ms": Config(str(LONG_MAX), _integer(0), LONG),
    "message.timestamp.type": Config("CreateTime", _one_of("CreateTime", "LogAppendTime"), STRING),
    "min.cleanable.dirty.ratio": Config("0.5", _fraction, DOUBLE),
    "min.compaction.lag.ms": Config("0", _integer(0), LONG),
    "min.insync.replicas": Config("1", _integer(1, INT_MAX), INT),
    "preallocate": Config("false", _one_of("true", "false"), BOOL),
    "retention.bytes": Config("-1", _integer(-1), LONG),
    "retention.ms": Config("604800000", _integer(-1), LONG),
    "segment.bytes": Config("134217728", _integer(1 << 20, INT_MAX), INT),
    "segment.index.bytes": Config("10485760", _integer(4, INT_MAX), INT),
    "segment.jitter.ms": Config("0", _integer(0), LONG),
    "segment.ms": Config("604800000", _integer(1), LONG),
    "unclean.leader.election.enable": Config("false", _one_of("true", "false"), BOOL),
}
BROKER_CONFIGS: Final[Mapping[str, str]] = {
    "default.replication.factor": "1",
    "log.retention.ms": "604800000",
    "message.max.bytes": "1048588",
}


def checked_configs(configs: Mapping[str, str | None]) -> dict[str, str]:
    """The configs as they will be stored.

    Errors: `Refused` with INVALID_CONFIG, also for compaction.
    """
    for name, value in configs.items():
        config = TOPIC_CONFIGS.get(name)
        if config is None:
            raise Refused(Code.INVALID_CONFIG, "unknown topic config")
        if value is None or not config.legal(value):
            raise Refused(Code.INVALID_CONFIG, f"illegal value for topic config {name}")
        if name == "cleanup.policy" and "compact" in value:
            raise unsupported(Code.INVALID_CONFIG, "compaction (cleanup.policy=compact)")
    return {name: value for name, value in configs.items() if value is not None}


def log_config(configs: Mapping[str, str]) -> LogConfig:
    """The `LogConfig` of `configs`, which were checked; defaults where a name is missing."""

    def value(name: str) -> str:
        return configs.get(name, TOPIC_CONFIGS[name].default)

    deletes = "delete" in value("cleanup.policy")  # a topic of an older broker may say compact
    return LogConfig(
        max_message_bytes=int(value("max.message.bytes")),
        append_time=value("message.timestamp.type") == "LogAppendTime",
        max_ahead_ms=int(value("message.timestamp.after.max.ms")),
        max_behind_ms=int(value("message.timestamp.before.max.ms")),
        segment_bytes=int(value("segment.bytes")),
        segment_ms=int(value("segment.ms")),
        retention_bytes=int(value("retention.bytes")) if deletes else -1,
        retention_ms=int(value("retention.ms")) if deletes else -1,
    )
