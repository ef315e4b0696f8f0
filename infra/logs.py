"""How a process of ours writes its log: one format, on stderr."""

from __future__ import annotations

import logging
from typing import Final

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LEVELS: Final = ("debug", "info", "warning", "error")


def set_up(level: str) -> None:
    """From now on this process writes what is of `level`, one of `LEVELS`, or above it."""
    handler = logging.StreamHandler()
    handler.addFilter(_without_trace)
    logging.basicConfig(level=level.upper(), format=FORMAT, handlers=[handler])


def _without_trace(record: logging.LogRecord) -> bool:
    """kafka-python logs each lost connection with a stack trace, and the line above it says it all."""
    if record.name.startswith("kafka"):
        record.exc_info = None
    return True
