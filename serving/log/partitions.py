"""The partition count of the topics, kept on disk as the broker reported it last."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import Final

from infra.kafka.kafka_client import TopicMismatch
from infra.settings import Settings

FILE_NAME: Final = "partitions"


class PartitionCount:
    """With it a process may start while the broker is away: it can assign each record to its partition."""

    def __init__(self, settings: Settings) -> None:
        self._path, self._partitions = settings.data_dir / FILE_NAME, settings.partitions

    def check(self) -> bool:
        """False where no count is stored. Errors: `TopicMismatch` for another count than the setting's."""
        try:
            stored = int(self._path.read_text())
        except (OSError, ValueError):
            return False
        if stored != self._partitions:
            raise TopicMismatch(
                f"the topics had {stored} partitions, FRESHET_PARTITIONS says {self._partitions}, and the"
                " count is for life",
                remedy="give the topics' count, or make new topics and rebuild",
            )
        return True

    def store(self) -> None:
        """Stores the count. A disk that takes no file is no error: the next start then needs the broker."""
        with contextlib.suppress(OSError):
            temporary = self._path.with_name(f"{FILE_NAME}.{secrets.token_hex(4)}")
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(f"{self._partitions}\n")
            os.replace(temporary, self._path)
