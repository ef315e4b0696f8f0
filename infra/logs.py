"""The log of each process: one format, on stderr."""

from __future__ import annotations

import logging
from typing import Final

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LEVELS: Final = ("debug", "info", "warning", "error")


def set_up(level: str) -> None:
    """Sets logging up: this process writes messages of `level`, one of `LEVELS`, and above."""
    handler = logging.StreamHandler()
    handler.addFilter(_without_trace)
    logging.basicConfig(level=level.upper(), format=FORMAT, handlers=[handler])


def _without_trace(record: logging.LogRecord) -> bool:
    """Drops the stack trace that kafka-python logs with each lost connection: the line says enough."""
    if record.name.startswith("kafka"):
        record.exc_info = None
    return True
