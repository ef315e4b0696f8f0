"""The log over lake and topics: the lake up to its end, the topics from there on."""

from __future__ import annotations

from functools import partial

from infra.kafka.names import broker_name
from infra.kafka.reader import Topics
from infra.lake.reader import Lake
from infra.log_reader import JoinedLog, LogReader
from infra.settings import Settings


def open_log(settings: Settings) -> LogReader:
    """A reader of the lake up to its end and of the topics from there on; of the topics alone without a lake.

    Errors: `infra.lake.errors.LakeError`.
    """
    lake = Lake.of(settings)
    topics = Topics(settings)
    there = next(iter(lake.store.list("manifest")), None) is not None
    return JoinedLog(lake, topics, partial(broker_name, settings)) if there else topics
