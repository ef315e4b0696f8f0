"""The log of each process: one format, on stderr, at a pace that no client sets."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from infra import log_files

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LEVELS: Final = ("debug", "info", "warning", "error")
PACE_SECONDS: Final = 60.0
OTHERS_PACED: Final = ("asyncio", "uvicorn.error")
"""Loggers of libraries whose lines a client can cause."""


def set_up(level: str) -> None:
    """Sets logging up: this process writes messages of `level`, one of `LEVELS`, and above. Where nobody is
    asked for a token, each log begins with it."""
    handler = logging.StreamHandler()
    if log_file := log_files.given():
        handler.addFilter(log_file.bound)
    handler.addFilter(_without_trace)
    logging.basicConfig(level=level.upper(), format=FORMAT, handlers=[handler])
    for name in OTHERS_PACED:
        paced(name)
    if os.environ.get("FRESHET_AUTH") == "off":
        logging.getLogger("freshet").warning(
            "FRESHET_AUTH=off: whoever is on this machine has every scope"
        )


def paced(name: str) -> logging.Logger:
    """The logger for lines that a request, or a record of a client, can cause: `Pace` holds for each of its
    lines, so others need a logger of another name."""
    logger = logging.getLogger(name)
    if not any(isinstance(it, Pace) for it in logger.filters):
        logger.addFilter(Pace())
    return logger


def _in_a_thread(seconds: float, call: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()


@dataclass
class _Line:
    """A place in the code that logs. `unwritten`: how many lines since the last one that was written."""

    next_at: float = float("-inf")
    unwritten: int = 0
    last: logging.LogRecord | None = None


class Pace(logging.Filter):
    """Writes a line at once, and then, of the same place in the code, at most one in `seconds`: the last,
    with the number of those since, also where none follows. So nobody paces the log from outside.

    `extra={"pace": word}` keeps lines of one place apart, by a word of which there are few. `clock` in s;
    `later` calls a function after so many seconds.
    """

    def __init__(
        self,
        seconds: float = PACE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], None] = _in_a_thread,
    ) -> None:
        super().__init__()
        self._seconds, self._clock, self._later = seconds, clock, later
        self._lines: dict[tuple[str, int, str], _Line] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written now."""
        place = (record.pathname, record.lineno, record.__dict__.get("pace", ""))
        with self._lock:
            line, now = self._lines.setdefault(place, _Line()), self._clock()
            if not line.unwritten and now >= line.next_at:
                line.next_at = now + self._seconds
                return True
            if not line.unwritten:
                self._later(line.next_at - now, partial(self._write, line))
            line.unwritten, line.last = line.unwritten + 1, record
            return False

    def _write(self, line: _Line) -> None:
        with self._lock:
            record, count = line.last, line.unwritten
            line.unwritten, line.last, line.next_at = 0, None, self._clock() + self._seconds
        if record is None:
            return
        record.msg, record.args = f"{record.getMessage()} (the last of {count} such lines)", ()
        record.exc_info = record.exc_text = record.stack_info = None
        logging.getLogger(record.name).callHandlers(record)  # past this filter


def _without_trace(record: logging.LogRecord) -> bool:
    """Drops the stack trace that kafka-python logs with each lost connection: the line says enough."""
    if record.name.startswith("kafka"):
        record.exc_info = None
    return True
