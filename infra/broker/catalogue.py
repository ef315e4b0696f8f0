"""All topics of a data folder, and the numbers that must outlive the process.

`catalogue.json` is the truth: a topic folder that it does not name is a kill's remains and is
removed on start.  Folders are named by topic id, so no topic name ever becomes a path.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any, Final

from infra.broker.codes import LOG, CannotStart, Code, Refused
from infra.broker.storage.checkpoint import Checkpoint
from infra.broker.storage.log import Log
from infra.broker.storage.segment import stored_segments
from infra.broker.topic import Topic, check_name
from infra.files import sync_directory, write_atomically

FORMAT_VERSION: Final = 1
PRODUCER_ID_BLOCK: Final = 1000  # producer ids reserved at once, as in Kafka
MAX_PARTITIONS_PER_TOPIC: Final = 10_000  # one topic


class Catalogue:
    """`topics` by name and `by_id`; `cluster` is the cluster id."""

    def __init__(self, folder: Path, fsync: bool) -> None:
        """Opens every log. Errors: `OSError`; `CannotStart` where the folder is damaged."""
        self._folder, self._fsync = folder, fsync
        self._file = folder / "catalogue.json"
        self._checkpoint = Checkpoint(folder / "checkpoint.json")
        self.topics: dict[str, Topic] = {}
        self.by_id: dict[uuid.UUID, Topic] = {}
        saved = self._read()
        self.cluster: str = saved["cluster"]
        self._next_producer: int = saved["producers"]
        self._reserved = self._next_producer
        for name, entry in saved["topics"].items():
            topic = Topic(name, uuid.UUID(entry["id"]), entry["configs"])
            self._open_logs(topic, entry["partitions"], must_exist=True)
            self.topics[name] = self.by_id[topic.id] = topic
        if not self._file.exists():
            self._save()
        self._sweep()

    # -- topics

    def create(self, name: str, partitions: int, configs: dict[str, str]) -> Topic:
        """A new, empty topic with a new id; name and configs were checked.

        Errors: `Refused` with TOPIC_ALREADY_EXISTS or KAFKA_STORAGE_ERROR; no file remains then.
        """
        if name in self.topics:
            raise Refused(Code.TOPIC_ALREADY_EXISTS, "topic exists")
        topic = Topic(name, uuid.uuid4(), configs)
        try:
            self._open_logs(topic, partitions)
            sync_directory(self._path(topic).parent)
            self.topics[name] = self.by_id[topic.id] = topic
            self._save()
        except OSError as error:
            self.topics.pop(name, None)
            self.by_id.pop(topic.id, None)
            self._discard(topic)
            raise _storage_error(error) from error
        return topic

    def delete(self, topic: Topic) -> None:
        """Removes the topic and its folder. Errors: `Refused`; the topic remains then."""
        del self.topics[topic.name]
        try:
            self._save()
        except OSError as error:
            self.topics[topic.name] = topic
            raise _storage_error(error) from error
        del self.by_id[topic.id]
        self._discard(topic)

    def grow(self, topic: Topic, partitions: int) -> None:
        """Adds partitions up to `partitions`. Errors: `Refused`; none is added then."""
        before = len(topic.logs)
        try:
            self._open_logs(topic, partitions)
            self._save()
        except OSError as error:
            for log in topic.logs[before:]:
                log.close(flush=False)
            del topic.logs[before:]
            raise _storage_error(error) from error

    def configure(self, topic: Topic, configs: dict[str, str]) -> None:
        """Takes checked configs. Errors: `Refused`; the old ones remain in force then."""
        before = topic.configs
        topic.configure(configs)
        try:
            self._save()
        except OSError as error:
            topic.configure(before)
            raise _storage_error(error) from error

    def topic_by_name(self, name: str) -> Topic:
        """Errors: `Refused` with UNKNOWN_TOPIC_OR_PARTITION."""
        topic = self.topics.get(name)
        if topic is None:
            raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION, "no such topic")
        return topic

    def topic_by_id(self, topic_id: uuid.UUID) -> Topic:
        """Errors: `Refused` with UNKNOWN_TOPIC_ID."""
        topic = self.by_id.get(topic_id)
        if topic is None:
            raise Refused(Code.UNKNOWN_TOPIC_ID, "no such topic id")
        return topic

    def topic_by_either(self, name: str | None, topic_id: uuid.UUID) -> Topic:
        """The topic by its name, or by its id where there is no name.

        Errors: `Refused` with UNKNOWN_TOPIC_OR_PARTITION or UNKNOWN_TOPIC_ID.
        """
        return self.topic_by_id(topic_id) if name is None else self.topic_by_name(name)

    def new_producer(self) -> int:
        """A producer id that no producer had. Errors: `Refused` with KAFKA_STORAGE_ERROR."""
        if self._next_producer == self._reserved:
            self._reserved += PRODUCER_ID_BLOCK
            try:
                self._save()
            except OSError as error:
                self._reserved -= PRODUCER_ID_BLOCK
                raise _storage_error(error) from error
        self._next_producer += 1
        return self._next_producer - 1

    # -- the disk

    def apply_retention(self, now: int) -> None:
        """Deletes segments that the topics' configs no longer keep; failures are logged.

        `now` is ms since 1970.
        """
        for topic in self.topics.values():
            for partition, log in enumerate(topic.logs):
                try:
                    deleted = log.apply_retention(topic.log_config, now)
                except OSError as error:
                    reason = os.strerror(error.errno or 0)
                    LOG.warning("%s/%d: cannot delete: %s", topic.name, partition, reason)
                    continue
                if deleted:
                    values = (topic.name, partition, deleted, log.start_offset)
                    LOG.info("%s/%d: %d segments deleted, begins at offset %d", *values)

    def flush(self) -> None:
        """Puts every log on the disk and writes the checkpoint. Blocks; safe in another thread.

        Errors: `OSError`.
        """
        self._checkpoint.flush(self._logs())

    def close(self) -> None:
        """Flushes and closes every log. Errors: `OSError`."""
        self._checkpoint.close(self._logs())

    def _logs(self) -> list[Log]:
        return [log for topic in list(self.topics.values()) for log in list(topic.logs)]

    def _open_logs(self, topic: Topic, partitions: int, must_exist: bool = False) -> None:
        path = self._path(topic)
        path.mkdir(exist_ok=True)
        bases_by_partition = stored_segments(path)
        for n in range(len(topic.logs), partitions):
            if must_exist and n not in bases_by_partition:
                raise CannotStart(f"{path} lacks the files of partition {n}: restore a copy")
            bases = bases_by_partition.get(n, [])
            topic.logs.append(Log(path, n, bases, self._fsync, self._checkpoint.flushed_bytes))
        sync_directory(path)

    def _discard(self, topic: Topic) -> None:
        for log in topic.logs:
            log.close(flush=False)
        shutil.rmtree(self._path(topic), ignore_errors=True)

    def _sweep(self) -> None:
        topic_ids = {str(topic_id) for topic_id in self.by_id}
        for path in (self._folder / "topics").iterdir():
            if path.name not in topic_ids:
                shutil.rmtree(path, ignore_errors=True)

    def _path(self, topic: Topic) -> Path:
        return self._folder / "topics" / str(topic.id)

    def _read(self) -> dict[str, Any]:
        if not self._file.exists():
            return {"cluster": uuid.uuid4().hex[:22], "producers": 0, "topics": {}}
        try:
            saved: dict[str, Any] = json.loads(self._file.read_text())
            version = saved["version"]
        except (ValueError, KeyError) as error:
            raise CannotStart(f"{self._file} is damaged: restore it from a copy") from error
        if version != FORMAT_VERSION:
            raise CannotStart(f"{self._file} was written by another version of this broker")
        return saved

    def _save(self) -> None:
        state = {
            "version": FORMAT_VERSION,
            "cluster": self.cluster,
            "producers": self._reserved,
            "topics": {
                topic.name: {
                    "id": str(topic.id),
                    "partitions": len(topic.logs),
                    "configs": topic.configs,
                }
                for topic in self.topics.values()
            },
        }
        write_atomically(self._file, json.dumps(state, indent=1).encode())


def check_new_topic(catalogue: Catalogue, name: str | None, partitions: int) -> str:
    """The name of a topic that may be created. Errors: `Refused`."""
    if name in catalogue.topics:
        raise Refused(Code.TOPIC_ALREADY_EXISTS, "topic exists")
    if not 1 <= partitions <= MAX_PARTITIONS_PER_TOPIC:
        raise Refused(
            Code.INVALID_PARTITIONS, f"partitions must be 1 to {MAX_PARTITIONS_PER_TOPIC}"
        )
    return check_name(name, catalogue.topics)


def _storage_error(error: OSError) -> Refused:
    return Refused(Code.KAFKA_STORAGE_ERROR, f"data folder: {os.strerror(error.errno or 0)}")
