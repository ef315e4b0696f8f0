"""Log and lake read as one: the lake up to its end, the topics from there on."""

from __future__ import annotations

from functools import partial

from infra.kafka.names import broker_name
from infra.kafka.reader import Topics
from infra.lake.reader import Lake
from infra.log_reader import JoinedLog, LogReader
from infra.settings import Settings


def open_log(settings: Settings) -> LogReader:
    """The lake up to its end and the topics from there on; the topics alone where there is no lake.

    Errors: `lake.errors.LakeError`.
    """
    lake = Lake.of(settings)
    topics = Topics(settings)
    there = next(iter(lake.store.list("manifest")), None) is not None
    return JoinedLog(lake, topics, partial(broker_name, settings)) if there else topics
