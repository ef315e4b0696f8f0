"""What this folder knows of the topics: how many partitions they had when the broker last said so."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import Final

from infra.kafka.kafka_client import TopicMismatch
from infra.settings import Settings

NAME: Final = "partitions"


class PartitionCount:
    """With it a process may start while the broker is away: it knows where each record belongs."""

    def __init__(self, settings: Settings) -> None:
        self._path, self._partitions = settings.data_dir / NAME, settings.partitions

    def check(self) -> bool:
        """False where nothing is known. Errors: `TopicMismatch` for another count than the setting's."""
        try:
            told = int(self._path.read_text())
        except (OSError, ValueError):
            return False
        if told != self._partitions:
            raise TopicMismatch(
                f"the topics had {told} partitions, FRESHET_PARTITIONS says {self._partitions}, and the"
                " count is for life",
                remedy="give the topics' count, or make new topics and rebuild",
            )
        return True

    def note(self) -> None:
        """Without it the next start needs the broker, so a disk that takes nothing is no error here."""
        with contextlib.suppress(OSError):
            fresh = self._path.with_name(f"{NAME}.{secrets.token_hex(4)}")
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(f"{self._partitions}\n")
            os.replace(fresh, self._path)
