"""The supervisor over tiny processes: order, back-off, stopping, and dying with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local.supervisor import Program, Supervisor, last_line
from tests.support.waits import alive, members, until

SLEEPER = "import time; print('at work', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-S", "-c", textwrap.dedent(code), *map(str, arguments)]


Make = Callable[..., Supervisor]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Make]:
    made: list[Supervisor] = []

    def make(*programs: Program, **options: object) -> Supervisor:
        made.append(Supervisor(programs, tmp_path, dict(os.environ), **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.hurry = True
        supervisor.stop()


def ticking(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    def step() -> bool:
        supervisor.tick()
        return condition() or bool(supervisor.failure)

    until(step, 10)


def test_dependents_wait_until_what_they_need_is_ready(supervise: Make, tmp_path: Path) -> None:
    order = tmp_path / "order"
    note = "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + ' ')"
    stay = f"{note}; {SLEEPER}"
    supervisor = supervise(
        Program("base", python(stay, order, "base"), ready=lambda: order.exists()),
        Program("once", python(note, order, "once"), ["base"], once=True),
        Program("top", python(stay, order, "top"), ["once"]),
    )
    ticking(supervisor, lambda: supervisor.was_ready and "top" in order.read_text())
    assert order.read_text().split() == ["base", "once", "top"]
    assert [it.state for it in supervisor.children.values()] == ["up", "done", "up"]


def test_a_process_that_exits_is_started_again_and_the_line_says_why(supervise: Make) -> None:
    lines: list[str] = []
    supervisor = supervise(Program("worker", python(SLEEPER)), report=lines.append)
    child = supervisor.children["worker"]
    ticking(supervisor, lambda: supervisor.was_ready and last_line(child.log) == "at work")
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    ticking(supervisor, lambda: child.restarts == 1)
    assert lines == ["worker restarted after SIGKILL"], "what it said has nothing to do with it"


def test_back_off_doubles_to_5_s_and_starts_over_after_30_s_of_health(supervise: Make) -> None:
    now = 0.0
    fails = Program("worker", python("raise SystemExit(3)"))
    supervisor = supervise(fails, clock=lambda: now)
    child, waits = supervisor.children["worker"], []
    child.worked = True  # as after some time: no failure is final any more
    for run in range(9):
        health = 31.0 if run == 7 else 0.0
        ticking(supervisor, lambda: child.state != "failed")
        now += health
        ticking(supervisor, lambda: child.state == "failed")
        waits.append(round(child.start_at - now, 3))
        now = child.start_at
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 0.1, 0.2]


def test_a_start_that_keeps_failing_is_given_up_with_a_sentence(supervise: Make) -> None:
    supervisor = supervise(Program("people", python("print('no broker'); raise SystemExit(3)")))
    ticking(supervisor, lambda: False)
    log = supervisor.children["people"].log
    assert supervisor.failure == (
        f"people does not start, it ended 5 times with exit 3: no broker (log: {log})"
    )


@pytest.mark.parametrize("once", [False, True])
def test_exit_2_is_a_wrong_setting_and_final_at_once(supervise: Make, once: bool) -> None:
    wrong = Program("setup", python("print('4 partitions'); raise SystemExit(2)"), once=once)
    supervisor = supervise(wrong)
    ticking(supervisor, lambda: False)
    assert supervisor.failure.startswith("setup does not start, it ended with exit 2: 4 partitions")


def test_a_command_that_does_not_exist_is_a_sentence(supervise: Make) -> None:
    supervisor = supervise(Program("redis", ["/no/such/binary"]))
    ticking(supervisor, lambda: False)
    assert supervisor.failure == "redis cannot be started: No such file or directory"


def test_processes_stop_in_reverse_order(supervise: Make, tmp_path: Path) -> None:
    order = tmp_path / "order"
    leave = """
        import signal, sys, time
        def leave(*_):
            open(sys.argv[1], "a").write(sys.argv[2] + " ")
            raise SystemExit
        signal.signal(signal.SIGTERM, leave)
        print("at work", flush=True)
        time.sleep(600)
    """
    names = ["base", "middle", "top"]
    supervisor = supervise(
        *(
            Program(name, python(leave, order, name), names[max(0, at - 1) : at])
            for at, name in enumerate(names)
        )
    )
    children = supervisor.children.values()
    ticking(supervisor, lambda: all(last_line(it.log) == "at work" for it in children))
    pids = [it.pid for it in children]
    supervisor.stop()
    assert order.read_text().split() == ["top", "middle", "base"]
    assert not any(alive(pid) for pid in pids if pid)


def test_a_process_that_ignores_sigterm_is_killed_with_its_children(
    supervise: Make, tmp_path: Path
) -> None:
    lines: list[str] = []
    family = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}])"
    supervisor = supervise(Program("mule", python(f"{family}; {STUBBORN}")), report=lines.append)
    log = supervisor.children["mule"].log
    ticking(supervisor, lambda: log.exists() and log.read_text().count("at work") == 2)
    group = supervisor.children["mule"].pid
    assert group
    supervisor.stop(grace=0.2)
    assert lines == ["mule did not stop within 0.2 s: killed"]
    until(lambda: not members(group), 10)


def test_a_process_that_may_stop_anywhere_is_killed_without_a_line(supervise: Make) -> None:
    lines: list[str] = []
    supervisor = supervise(Program("mule", python(STUBBORN), killed=True), report=lines.append)
    child = supervisor.children["mule"]
    ticking(supervisor, lambda: last_line(child.log) == "at work")
    supervisor.stop(grace=0.0)
    assert (child.state, lines) == ("stopped", [])


def test_a_hurried_stop_does_not_wait_for_the_grace_period(supervise: Make) -> None:
    supervisor = supervise(Program("mule", python(STUBBORN)))
    child = supervisor.children["mule"]
    ticking(supervisor, lambda: last_line(child.log) == "at work")
    threading.Timer(0.1, lambda: setattr(supervisor, "hurry", True)).start()
    began = time.monotonic()
    supervisor.stop(grace=60)
    assert time.monotonic() - began < 5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux signals children")
def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    code = f"""
        import os, sys, threading
        sys.path.insert(0, {os.getcwd()!r})
        from pathlib import Path
        from infra.local.supervisor import Program, Supervisor
        program = Program("mule", [sys.executable, "-S", "-c", {STUBBORN!r}])
        supervisor = Supervisor([program], Path(sys.argv[1]), dict(os.environ))
        print_pid = lambda: print(supervisor.children["mule"].pid, flush=True)
        supervisor.run(threading.Event(), print_pid)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        until(lambda: last_line(tmp_path / "mule.log") == "at work", 10)
        parent.kill()
    until(lambda: not alive(pid), 10)


def test_the_last_line_of_a_log_is_found(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_bytes(b"first\n" + b"x" * 9000 + b"\nthe end: \xff\n\n")
    assert last_line(log) == "the end: \N{REPLACEMENT CHARACTER}"


def test_the_log_of_a_process_that_reopens_it_is_rotated_while_it_runs(
    supervise: Make, tmp_path: Path
) -> None:
    code = """
        import sys, time
        while True:
            with open(sys.argv[2], "a") as log:
                log.write("x" * 999 + "\\n")
            time.sleep(0.001)
    """
    supervisor = supervise(Program("one", python(code), log_option="--log"), log_bytes=4096)
    oldest = tmp_path / "one.log.3"
    ticking(supervisor, oldest.exists)
    assert oldest.stat().st_size >= 4096
    assert set(oldest.read_text().splitlines()) == {"x" * 999}
