"""Starting a process that dies with its parent."""

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
    """Starts each process with an interpreter of its own. The fork server has a faster way."""

    @property
    def ready(self) -> bool:
        """Whether processes that can wait should start now."""
        return True

    def spawn(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
        """Runs `command`; `environment` is the whole environment of the child. The child's output is appended
        to `log`, and the child dies with this process. Errors: OSError."""
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
