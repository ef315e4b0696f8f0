"""The broker's state: one data folder, its topics, producers and groups."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from infra.broker.catalogue import Catalogue
from infra.broker.codes import LOG, CannotStart
from infra.broker.commits import Commits
from infra.broker.folder import DataFolder, unusable_reason
from infra.broker.groups import Groups

NODE_ID: Final = 1
LEADER_EPOCH: Final = 0
FLUSH_SECONDS: Final = 60.0
RETENTION_CHECK_SECONDS: Final = 300.0  # Kafka's log.retention.check.interval.ms


class Broker:
    """The state that handlers work on.

    `partitions` is the count of a topic that is made without a count. With `auto_create` a topic is
    made when a client asks for its metadata, as Kafka does by default.
    """

    def __init__(
        self,
        data: Path,
        partitions: int = 4,
        fsync: bool = False,
        check_seconds: float = RETENTION_CHECK_SECONDS,
        auto_create: bool = True,
    ) -> None:
        """Locks, recovers and opens the folder. Errors: `CannotStart`."""
        self.folder = DataFolder(data)
        self.default_partitions, self.auto_create = partitions, auto_create
        self._check_seconds = check_seconds
        try:
            self.catalogue = Catalogue(data, fsync)
            self.commits = Commits(data / "commits.jsonl", fsync)
        except OSError as error:
            self.folder.close()
            raise CannotStart(unusable_reason(data, error)) from error
        except ValueError as error:
            self.folder.close()
            raise CannotStart(f"a file in {data} is damaged: restore it from a copy") from error
        except CannotStart:
            self.folder.close()
            raise
        self.groups = Groups(self.commits)
        self.catalogue.apply_retention(self.now())

    @staticmethod
    def now() -> int:
        """Wall clock, ms since 1970."""
        return time.time_ns() // 1_000_000

    async def flush_periodically(self) -> None:
        """Puts logs on the disk once a minute, so that a power cut loses little; never returns."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await asyncio.to_thread(self.catalogue.flush)
            except OSError as error:
                LOG.warning("cannot flush: %s", unusable_reason(self.folder.path, error))

    async def apply_retention_periodically(self) -> None:
        """Deletes expired segments every `check_seconds`; never returns."""
        while True:
            await asyncio.sleep(self._check_seconds)
            self.catalogue.apply_retention(self.now())

    def close(self) -> None:
        """Flushes everything and frees the folder. Errors: `OSError`."""
        self.groups.close()
        try:
            self.catalogue.close()
            self.commits.close()
        finally:
            self.folder.close()
