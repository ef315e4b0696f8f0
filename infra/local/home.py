"""The data folder of a running system: claimed by one `freshet up`, described in its `up.json`.

The claim is a lock on the folder itself. The lock goes with the process that holds it, so a killed process
needs no clean-up, and an `up.json` in an unclaimed folder is stale.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from infra.settings import Settings
from schemas.errors import ConfigurationError

MIN_FREE_BYTES: Final = 64 << 20
"""Free bytes of a folder before a start: broker, Redis and logs all write there."""
SUBFOLDERS: Final = ("logs", "redis", "broker")
MARKER_FILE: Final = ".freshet-data"
"""A file that marks a folder as Freshet's."""
RECORD_FILE: Final = "up.json"
TARGETS_FILE: Final = "prometheus-targets.json"
_OWN_FILES: Final = {
    MARKER_FILE,
    RECORD_FILE,
    TARGETS_FILE,
    "pseudonym.key",
    "issuer.key",
    "token",
    "flow-workers",
}
"""Files that Freshet alone makes: other files beside them do not matter."""
_FILES_BEFORE_MARKER: Final = {
    *SUBFOLDERS, "bench", "bin", "chaos", "data", "demo", "ends", "imports", "kafka", "lake", "partitions",
    "releases", "report.json", "spool", "system", "writes", "lost+found",
}  # fmt: skip
"""All names in a folder that is older than the marker and has none of `_OWN_FILES`, or of which a part was
kept; the file system of a disk makes the last one."""


class Unusable(ConfigurationError):
    """This folder cannot be used; the text is one sentence with the remedy."""


class RunningProcess(msgspec.Struct, kw_only=True):
    """One supervised process. `pid` is None before its restart; `metrics_port` is 0 for a process without
    metrics."""

    name: str
    pid: int | None
    state: str
    restarts: int
    log: str
    last_exit: str = ""
    metrics_port: int = 0


class Up(msgspec.Struct, kw_only=True):
    """The content of `up.json`. `environment` gives another process the same settings, with the token: only
    the owner may read the file. `started_at` is in ms since 1970."""

    pid: int
    started_at: int
    data_dir: str
    url: str
    kafka_bootstrap: str
    redis_url: str
    ready: bool
    environment: dict[str, str]
    processes: list[RunningProcess]


def prepare_folder(directory: Path, *, needed: bool = True) -> Path:
    """`directory`, made if need be, as an absolute path, and marked as Freshet's. Of `.freshet/x` both are
    marked. With `needed=False` a folder that cannot be written to is no error.

    Errors: `Unusable`, always where the folder holds files and Freshet made none of them.
    """
    if directory.parent == Settings().data_dir:
        prepare_folder(directory.parent, needed=needed)
    directory = directory.absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        directory = directory.resolve()
        if not _is_ours({path.name for path in directory.iterdir()}):
            raise Unusable(
                f"{directory} is not empty, and Freshet did not make it: give another folder with"
                " --data-dir or FRESHET_DATA_DIR, or empty this one"
            )
        if not (directory / MARKER_FILE).exists():
            (directory / MARKER_FILE).write_text("Freshet keeps its data in this folder.\n")
    except OSError as error:
        if needed:
            raise Unusable(_describe(directory, error)) from None
    return directory


def _is_ours(names: set[str]) -> bool:
    """
    >>> [_is_ours(names) for names in (set(), {".freshet-data", "notes"}, {"up.json", "notes"}, {"logs"})]
    [True, True, True, True]
    >>> _is_ours({"logs", "notes"})
    False
    """
    if names & _OWN_FILES:
        return True
    # the output of `freshet up` may be kept in the same folder
    return {name for name in names if not name.endswith(".log")} <= _FILES_BEFORE_MARKER


@contextlib.contextmanager
def claimed(directory: Path, min_free_bytes: int = MIN_FREE_BYTES) -> Iterator[Path]:
    """`directory`, made if need be, as an absolute path. Only this process may run a system in it.

    Errors: `Unusable`.
    """
    directory = prepare_folder(directory)
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Unusable(_describe(directory, error)) from None
    try:
        if not _lock(lock):
            raise Unusable(_already_claimed(directory))
        try:
            for subfolder in SUBFOLDERS:
                (directory / subfolder).mkdir(exist_ok=True)
            _try_to_write(directory, min_free_bytes)
        except OSError as error:
            raise Unusable(_describe(directory, error)) from None
        yield directory
    finally:
        os.close(lock)


def remove_stale_record(directory: Path, report: Callable[[str], None]) -> None:
    """Removes the `up.json` of a killed `up` from a folder that the caller has claimed."""
    record = directory / RECORD_FILE
    if not record.exists():
        return
    up = _decode(record)
    process = f"process {up.pid}" if up else "an earlier run"
    report(f"{process} ended without tidying up: its {RECORD_FILE} is replaced")
    record.unlink(missing_ok=True)


def write(directory: Path, up: Up) -> None:
    """Replaces `up.json` atomically: a reader sees the old one or the new one. Errors: OSError."""
    fresh = directory / f"{RECORD_FILE}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(up), indent=2) + b"\n")
    fresh.replace(directory / RECORD_FILE)


def write_targets(directory: Path, ports: Mapping[str, int], host: str) -> None:
    """Writes the metrics address of each process for a Prometheus, whose `file_sd_configs` reads the file.

    `ports`: by the process's name. Errors: OSError.
    """
    targets = [
        {"targets": [f"{host}:{port}"], "labels": {"process": name}} for name, port in ports.items()
    ]
    fresh = directory / f"{TARGETS_FILE}.new"
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(targets), indent=2) + b"\n")
    fresh.replace(directory / TARGETS_FILE)


def remove(directory: Path) -> None:
    """Removes `up.json` and the metrics addresses. Errors: OSError."""
    for name in (RECORD_FILE, f"{RECORD_FILE}.new"):
        (directory / name).unlink(missing_ok=True)
    remove_targets(directory)


def remove_targets(directory: Path) -> None:
    """Removes the metrics addresses. Errors: OSError."""
    for name in (TARGETS_FILE, f"{TARGETS_FILE}.new"):
        (directory / name).unlink(missing_ok=True)


def read(directory: Path) -> Up | None:
    """The system that runs in `directory`. None without an `up.json`, and for a stale one."""
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        # shared: two readers don't take each other for a running system
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        up = _decode(directory / RECORD_FILE)
        # the next `up` may have claimed the folder and not yet removed the `up.json` of a killed one
        return up if up and _alive(up.pid) else None
    finally:
        os.close(lock)
    return None


def _lock(descriptor: int) -> bool:
    for _ in range(10):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.02)  # the lock may be a reader's, which lasts microseconds
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process
        return True
    return True


def _decode(record: Path) -> Up | None:
    try:
        return msgspec.json.decode(record.read_bytes(), type=Up)
    except (OSError, msgspec.DecodeError):
        return None


def _already_claimed(directory: Path) -> str:
    up = _decode(directory / RECORD_FILE)
    process = f" as process {up.pid}, at {up.url}" if up else ""
    return (
        f"a system already runs in {directory}{process}: stop that one (Ctrl-C or SIGTERM), or give"
        " another folder with --data-dir"
    )


def _try_to_write(directory: Path, min_free_bytes: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < min_free_bytes:
        raise Unusable(
            f"{directory} has {free >> 20} MiB free and a system needs {min_free_bytes >> 20} MiB:"
            " make room, or give another folder with --data-dir"
        )
    for subfolder in (".", *SUBFOLDERS):
        probe = directory / subfolder / f".probe-{os.getpid()}"
        try:
            with probe.open("wb") as file:
                file.write(b"\0" * 4096)
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)


def _describe(directory: Path, error: OSError) -> str:
    reason = {
        errno.EACCES: "may not be written to",
        errno.EPERM: "may not be written to",
        errno.EROFS: "is on a read-only file system",
        errno.ENOSPC: "is full",
        errno.EDQUOT: "is full (its quota is used up)",
        errno.ENOTDIR: "is not a folder",
        errno.EEXIST: "is not a folder",
    }.get(error.errno or 0, f"cannot be used ({error.strerror})")
    return f"{directory} {reason}: give another folder with --data-dir"
