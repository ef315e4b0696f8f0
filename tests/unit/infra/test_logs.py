"""Every process writes its log in one way: one format, and no stack trace for each lost connection."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra import logs
from infra.local import services
from infra.local.plan import ROOT, plan, programs
from infra.log_files import LOG_VARIABLE, rotate
from infra.settings import BadSetting, from_environment
from tests.support.waits import until

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


def test_a_client_does_not_pace_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A line at once, the last of the others once the time is over, and lines of other places and words."""
    now, log = 0.0, logging.getLogger("freshet.a_test")
    due: list[Callable[[], None]] = []
    pace = logs.Pace(60, lambda: now, lambda seconds, call: due.append(call))
    log.addFilter(pace)

    def fail(n: int, word: str) -> None:
        log.error("no. %d of %s", n, word, extra={"pace": word})

    for n in range(1000):
        fail(n, "a")
    fail(0, "b")
    log.error("elsewhere")
    assert caplog.messages == ["no. 0 of a", "no. 0 of b", "elsewhere"]
    now = 60.0
    due.pop()()
    assert caplog.messages[3:] == ["no. 999 of a (the last of 999 such lines)"]
    now = 61.0
    fail(1000, "a")  # too soon after that
    fail(1, "b")
    now = 120.0
    due.pop()()
    assert due == []
    now = 180.0
    fail(1001, "a")
    last = ["no. 1 of b", "no. 1000 of a (the last of 1 such lines)", "no. 1001 of a"]
    assert caplog.messages[4:] == last
    log.removeFilter(pace)


def test_what_waits_is_written_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    log, pace = logging.getLogger("freshet.a_test"), logs.Pace(0.01)
    log.addFilter(pace)
    for _ in range(3):
        log.error("again")
    until(lambda: "such lines" in caplog.text)
    log.removeFilter(pace)


def test_what_libraries_say_of_clients_is_paced_too() -> None:
    script = """
import logging
from infra import logs

logs.set_up("warning")
logs.set_up("warning")
for n in range(3):
    logging.getLogger("uvicorn.error").warning("no. %d", n)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(LINE + "WARNING uvicorn.error: no. 0", line)


FILLS = """
import logging, sys, threading
from infra import logs

logs.set_up("info")

def write(name):
    for n in range(60):
        logging.getLogger(name).info("%03d %s", n, "x" * 40)
        sys.stdout.write(f"{name} prints {n:03}\\n")  # in one call, with PYTHONUNBUFFERED too
        sys.stdout.flush()

threads = [threading.Thread(target=write, args=[name]) for name in "ab"]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_a_log_file_is_bounded_and_no_line_is_lost_or_cut(tmp_path: Path) -> None:
    """Two processes, each with two threads, share a file for a while, as one that takes over does."""
    file = tmp_path / "serving.log"
    environment = {**os.environ, LOG_VARIABLE: f"16384:{file}"}
    with file.open("ab") as output:
        command = [sys.executable, "-c", FILLS]
        running = [
            subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=environment)
            for _ in range(2)
        ]
    assert [process.wait() for process in running] == [0, 0]
    files = sorted(tmp_path.iterdir())
    assert [it.name for it in files] == ["serving.log", "serving.log.1"]
    assert all(it.stat().st_size < 16384 + 8 * 100 for it in files)
    lines = [line for it in files for line in it.read_text().splitlines()]
    assert len(lines) == 2 * 2 * 60 * 2
    whole = re.compile(LINE + r"INFO [ab]: \d{3} x{40}|[ab] prints \d{3}")
    assert [line for line in lines if not whole.fullmatch(line)] == []


def test_a_few_files_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    for n in range(6):
        file.write_text(str(n))
        rotate(file)
    kept = {it.name: it.read_text() for it in tmp_path.iterdir()}
    assert kept == {"a.log.1": "5", "a.log.2": "4", "a.log.3": "3"}
