"""Starting a process that dies with the one that started it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from infra.signals import die_with_parent


class Process(Protocol):
    """A child of this process, the first of its process group; `returncode` as `subprocess.Popen` has it."""

    pid: int
    returncode: int | None

    def wait(self) -> int: ...


class Launcher:
    """How processes are started: by an interpreter of their own. The fork server has a faster way."""

    @property
    def ready(self) -> bool:
        """Whether it is worth while to start what can wait."""
        return True

    def spawn(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
        """Runs `command` with this whole environment; what it prints is appended to `log`. It dies with this
        process. Errors: OSError."""
        with log.open("ab") as output:
            return subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,  # a terminal's Ctrl-C reaches the supervisor alone
                preexec_fn=die_with_parent(),
            )
