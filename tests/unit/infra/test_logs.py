"""Every process writes its log in one way: one format, and no stack trace for each lost connection."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local import services
from infra.local.plan import ROOT, plan, programs
from infra.settings import BadSetting, from_environment

LINE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} "
WRITES = """
import logging, sys
from infra import logs

logs.set_up(sys.argv[1])
for name in ("kafka.conn", "flows.people"):
    logging.getLogger(name).info("connects")
    try:
        raise OSError("gone")
    except OSError:
        logging.getLogger(name).exception("lost")
"""


def written(level: str) -> str:
    command = [sys.executable, "-c", WRITES, level]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stderr


def test_a_line_has_time_level_logger_and_message_and_no_kafka_traceback() -> None:
    first, second, *trace = written("warning").splitlines()
    assert re.fullmatch(LINE + "ERROR kafka.conn: lost", first)
    assert re.fullmatch(LINE + "ERROR flows.people: lost", second)
    assert trace[0].startswith("Traceback")
    assert trace[-1] == "OSError: gone"


def test_the_level_is_the_least_that_is_written() -> None:
    assert written("info").count(" INFO ") == 2


def test_one_module_sets_up_logging() -> None:
    rooms = ("schemas", "models", "infra", "flows", "serving")
    found = [
        path.relative_to(ROOT)
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if re.search(r"basicConfig|StreamHandler|dictConfig", path.read_text())
    ]
    assert found == [Path("infra/logs.py")]


def test_the_level_is_a_setting_which_the_broker_of_up_gets_too(tmp_path: Path) -> None:
    planned = plan(tmp_path, {"FRESHET_LOG_LEVEL": "error"})
    (broker,) = (it for it in programs(planned) if it.name == "broker")
    assert list(broker.command[-2:]) == ["--log-level", "error"]
    assert "--log-level" not in services.broker_command(1, tmp_path)
    with pytest.raises(BadSetting, match=r"^FRESHET_LOG_LEVEL takes one of debug, info"):
        from_environment({"FRESHET_LOG_LEVEL": "loud"})
