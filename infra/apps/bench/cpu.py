"""CPU time and memory of processes, and a description of this machine."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

from infra.version import DISTRIBUTION

PACKAGES: Final = (
    "bytewax",
    "fastapi",
    "kafka-python",
    "msgspec",
    "numpy",
    "redis",
    "usearch",
    "uvicorn",
)
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SCHEDULED: Final = 2
"""Low bits of the id of a process's CPU clock, as clock_getcpuclockid(3) makes it: CPUCLOCK_SCHED."""


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, in s over all its threads, those that ended too; 0 where it has ended.

    Its clock counts ns, utime and stime of proc(5) hundredths of a second.
    """
    try:
        return time.clock_gettime(~pid << 3 | _SCHEDULED)
    except OSError:
        return 0.0


def peak_memory(pid: int, proc: Path = Path("/proc")) -> int:
    """Bytes of memory that a process had resident at its most; 0 where it has ended.

    Its `ru_maxrss` will not do: that begins with what its parent had.
    """
    try:
        lines = (proc / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def cpu_of(pids: Mapping[str, Iterable[int]]) -> dict[str, float]:
    """Seconds of CPU of each component's processes."""
    return {name: sum(map(cpu_seconds, of)) for name, of in pids.items()}


def per_event(
    before: Mapping[str, float], after: Mapping[str, float], events: int
) -> dict[str, float]:
    """Microseconds of CPU an event cost each component."""
    return {name: round((after[name] - before[name]) * 1e6 / events, 2) for name in before}


def without_idle(
    before: Mapping[str, float],
    after: Mapping[str, float],
    idle: Mapping[str, float],
    seconds: float,
) -> dict[str, float]:
    """`after` less what each component would have used in `seconds` without work; `idle`: in cores."""
    return {name: max(before[name], after[name] - idle[name] * seconds) for name in before}


class Neighbours:
    """Cores that other programs use meanwhile, which timings suffer from."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.monotonic(), _busy(), _own()

    def cores(self) -> float | None:
        """Cores in use by other programs, on average since construction; None where it cannot be known.

        Other programs are all but this process and its children that ended.
        """
        now = _busy()
        if now is None or self._busy is None:
            return None
        others = (now - self._busy) - (_own() - self._own)
        return round(max(0.0, others / (time.monotonic() - self._began)), 2)


def machine() -> dict[str, object]:
    """The machine of the figures: cores, processor, memory in bytes, system, Python."""
    return {
        "cores": os.cpu_count(),
        "processor": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Versions of Freshet and of the packages that its figures depend on most, where installed."""
    found = {}
    for name in (DISTRIBUTION, *PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _busy() -> float | None:
    """Seconds of CPU that this machine was busy; None in a container with fewer cores than its host."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    cores = sum(line.startswith("cpu") for line in lines) - 1
    user, nice, system, _, _, irq, soft, *_ = (int(it) for it in lines[0].split()[1:])
    return (user + nice + system + irq + soft) / _TICKS if cores == os.cpu_count() else None


def _own() -> float:
    return sum(os.times()[:4])


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
