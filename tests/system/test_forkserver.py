"""The fork server forks the requested process, as a child of the requesting process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.local.forkserver import ANSWER_SECONDS
from infra.local.plan import PRELOAD, ROOT, child_environment
from infra.settings import Settings
from tests.support.waits import alive, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no fork server")

# Asked in a process of its own: a subreaper would take in whatever other tests leave behind.
KEEPER = """
import json, sys
from pathlib import Path
from infra.local.forkserver import ForkServer, Forked

folder, environment = Path(sys.argv[1]), json.loads(sys.argv[2])
seconds, modules = float(sys.argv[3]), sys.argv[4:]
server = ForkServer(modules, environment, folder / "forkserver.log", seconds)
children = {}
print("begun", flush=True)
for line in sys.stdin:
    verb, *rest = json.loads(line)
    if verb == "ready":
        answer = server.ready
    elif verb == "failure":
        answer = server.failure
    elif verb == "server":
        answer = server._process and server._process.pid
    elif verb == "spawn":
        command, own, log = rest
        child = server.spawn([sys.executable, *command], own, folder / log)
        children[child.pid] = child
        answer = [child.pid, isinstance(child, Forked)]
    elif verb == "wait":
        answer = children[rest[0]].wait()
    print(json.dumps(answer), flush=True)
"""
CHILD = """
import contextlib, json, os, sys, time
files = []
for it in os.listdir("/proc/self/fd"):
    with contextlib.suppress(FileNotFoundError):  # that of the listing
        if os.readlink(f"/proc/self/fd/{it}") != "/dev/urandom":  # some Pythons keep it
            files.append(int(it))
report = {
    "argv": sys.argv[1:], "name": __name__, "environment": dict(os.environ), "parent": os.getppid(),
    "alone": os.getsid(0) == os.getpgrp() == os.getpid(), "json": "xml.dom" in sys.modules,
    "files": sorted(files),
    "title": open("/proc/self/cmdline").read().strip(chr(0)), "input": sys.stdin.read(),
}
print(json.dumps(report), flush=True)
if "stay" in sys.argv:
    time.sleep(600)
sys.exit(7)
"""


class Keeper:
    def __init__(self, folder: Path, *modules: str, seconds: float = ANSWER_SECONDS) -> None:
        (folder / "child_of_a_test.py").write_text(textwrap.dedent(CHILD))
        (folder / "starts_a_thread.py").write_text(
            "import threading, time\nthreading.Thread(target=time.sleep, args=[600], daemon=True).start()\n"
        )
        self.folder = folder
        self.environment = {
            **child_environment(Settings()),
            "PYTHONPATH": f"{ROOT}:{folder}",
        }
        options = [str(folder), json.dumps(self.environment), str(seconds)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", KEEPER, *options, *modules],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "begun\n"

    def ask(self, verb: str, *rest: object) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps([verb, *rest]), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def await_ready(self) -> None:
        until(lambda: self.ask("ready"))

    def spawn(
        self, *arguments: str, environment: Mapping[str, str] | None = None, log: str = "child.log"
    ) -> tuple[int, bool]:
        """The pid of the new process, and whether it was forked."""
        command = ["-m", "child_of_a_test", *arguments]
        pid, forked = self.ask("spawn", command, environment or self.environment, log)
        return pid, forked

    def report(self, log: str = "child.log") -> dict[str, Any]:
        """The report of a child, once it is written."""
        # not by `last_line`: the environment that a report holds is longer than what that reads
        report = self.folder / log
        until(lambda: report.exists() and report.read_text().endswith("}\n"))
        found: dict[str, Any] = json.loads(report.read_text().splitlines()[-1])
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


Keep = Callable[..., Keeper]


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Keep]:
    kept: list[Keeper] = []

    def make(*modules: str, **more: float) -> Keeper:
        kept.append(Keeper(tmp_path, *modules, **more))
        return kept[-1]

    yield make
    for keeper in kept:
        keeper.close()


def test_a_forked_process_is_the_one_that_was_asked_for(keep: Keep) -> None:
    keeper = keep("xml.dom")
    keeper.await_ready()
    own = {"PATH": os.environ["PATH"], "ONLY": "this"}
    pid, forked = keeper.spawn("a", "b c", environment=own)
    assert forked
    report = keeper.report()
    assert report["argv"] == ["a", "b c"]
    assert report["name"] == "__main__"
    assert report["environment"] == own
    assert report["json"], "it has what was imported before"
    assert report["alone"], "a session and a process group of its own"
    assert report["files"] == [0, 1, 2], "and no file of the fork server"
    assert report["input"] == ""
    assert report["parent"] == keeper.process.pid
    assert report["title"] == f"{sys.executable} -m child_of_a_test a b c"
    assert keeper.ask("wait", pid) == 7


def test_the_signal_that_killed_a_forked_process_is_its_status(keep: Keep) -> None:
    keeper = keep("xml.dom")
    keeper.await_ready()
    pid, _ = keeper.spawn("stay")
    os.kill(pid, signal.SIGKILL)
    assert keeper.ask("wait", pid) == -signal.SIGKILL


def test_what_it_forked_outlives_the_fork_server_and_another_one_comes(keep: Keep) -> None:
    keeper = keep("xml.dom")
    keeper.await_ready()
    pid, _ = keeper.spawn("stay")
    keeper.report()
    first = keeper.ask("server")
    os.kill(first, signal.SIGKILL)
    between, forked = keeper.spawn("a", log="between.log")
    assert not forked, "no process waits for the next fork server"
    assert keeper.ask("wait", between) == 7
    keeper.await_ready()
    _, forked = keeper.spawn("b", log="later.log")
    assert forked
    assert keeper.report("later.log")["argv"] == ["b"]
    assert keeper.ask("server") not in (None, first)
    assert alive(pid)


def test_a_stopped_fork_server_is_not_waited_for(keep: Keep) -> None:
    keeper = keep("xml.dom", seconds=0.2)
    keeper.await_ready()
    os.kill(keeper.ask("server"), signal.SIGSTOP)
    pid, forked = keeper.spawn("a")
    assert not forked
    assert keeper.ask("wait", pid) == 7


def test_forked_processes_die_with_who_asked_for_them(keep: Keep) -> None:
    keeper = keep("xml.dom")
    keeper.await_ready()
    pid, _ = keeper.spawn("stay")
    server = keeper.ask("server")
    keeper.process.kill()
    until(lambda: not alive(pid) and not alive(server))


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("starts_a_thread", "a module that is imported before forking has started a thread"),
        ("no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_without_a_fork_server_processes_start_all_the_same(
    keep: Keep, module: str, why: str
) -> None:
    keeper = keep(module)
    keeper.await_ready()
    assert why in keeper.ask("failure")
    pid, forked = keeper.spawn("a")
    assert not forked
    assert keeper.ask("wait", pid) == 7
    assert keeper.report()["argv"] == ["a"]


def test_what_freshet_imports_before_forking_starts_no_thread(keep: Keep) -> None:
    keeper = keep(*PRELOAD)
    keeper.await_ready()
    assert keeper.ask("failure") == ""
    assert keeper.ask("server")
