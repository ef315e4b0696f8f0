"""The data folder of a running system: claimed by one `freshet up`, described in its `up.json`.

The claim is a lock on the folder itself: it goes with the process that holds it, so nothing is left
to tidy up, and an `up.json` in a folder that nobody claims is stale.
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
"""Bytes a folder must have free before a start: broker, Redis and logs all write there."""
SUBFOLDERS: Final = ("logs", "redis", "broker")
MARKER_FILE: Final = ".freshet-data"
"""A file that says whose a folder is."""
RECORD_FILE: Final = "up.json"
TARGETS_FILE: Final = "prometheus-targets.json"
_OWN_FILES: Final = {MARKER_FILE, RECORD_FILE, TARGETS_FILE, "pseudonym.key", "flow-workers"}
"""Files that Freshet alone makes: what else lies beside them does not matter."""
_FILES_BEFORE_MARKER: Final = {
    *SUBFOLDERS, "bench", "bin", "chaos", "data", "demo", "ends", "kafka", "lake", "partitions", "releases",
    "report.json", "spool", "system", "writes", "lost+found",
}  # fmt: skip
"""All that a folder holds that is older than the marker and has none of those; the last is a disk's own."""


class Unusable(ConfigurationError):
    """This folder can't be used; the text is one sentence."""


class RunningProcess(msgspec.Struct, kw_only=True):
    """One supervised process. `pid` is None while it waits for its restart; `metrics_port` is 0 where
    it answers no scrapes."""

    name: str
    pid: int | None
    state: str
    restarts: int
    log: str
    last_exit: str = ""
    metrics_port: int = 0


class Up(msgspec.Struct, kw_only=True):
    """What `up.json` says. `environment` gives another process the same settings (token included:
    the file is its owner's alone to read)."""

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
    """`directory`, made if need be, as an absolute path, and marked as Freshet's. `needed`: an error where it
    cannot be written to, which some processes do without. Of `.freshet/x` both are.

    Errors: `Unusable`, always where it holds files and Freshet made none of them.
    """
    if directory.parent == Settings().data_dir:
        prepare_folder(directory.parent, needed=needed)
    directory = directory.absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        directory = directory.resolve()
        if not _is_ours({it.name for it in directory.iterdir()}):
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
    >>> [_is_ours(it) for it in (set(), {".freshet-data", "notes"}, {"up.json", "notes"}, {"logs", "broker"})]
    [True, True, True, True]
    >>> _is_ours({"logs", "notes"})
    False
    """
    if names & _OWN_FILES:
        return True
    # what `freshet up` prints may be kept in the same folder
    return {it for it in names if not it.endswith(".log")} <= _FILES_BEFORE_MARKER


@contextlib.contextmanager
def claimed(directory: Path, least_free: int = MIN_FREE_BYTES) -> Iterator[Path]:
    """`directory`, made if need be, as an absolute path that only this process runs a system in.

    Errors: `Unusable`.
    """
    directory = prepare_folder(directory)
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Unusable(_describe(directory, error)) from None
    try:
        if not _lock(lock):
            raise Unusable(_taken(directory))
        try:
            for part in SUBFOLDERS:
                (directory / part).mkdir(exist_ok=True)
            _try_to_write(directory, least_free)
        except OSError as error:
            raise Unusable(_describe(directory, error)) from None
        yield directory
    finally:
        os.close(lock)


def remove_stale_record(directory: Path, report: Callable[[str], None]) -> None:
    """Removes what an `up` that was killed left in a folder that the caller has claimed."""
    record = directory / RECORD_FILE
    if not record.exists():
        return
    up = _decode(record)
    who = f"process {up.pid}" if up else "an earlier run"
    report(f"{who} ended without tidying up: its {RECORD_FILE} is replaced")
    record.unlink(missing_ok=True)


def write(directory: Path, up: Up) -> None:
    """Replaces `up.json` atomically: a reader sees the old one or the new one. Errors: OSError."""
    fresh = directory / f"{RECORD_FILE}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(up), indent=2) + b"\n")
    fresh.replace(directory / RECORD_FILE)


def write_targets(directory: Path, ports: Mapping[str, int], host: str) -> None:
    """Tells a Prometheus where each process answers it: `file_sd_configs` reads the file.

    `ports`: by the process's name. Errors: OSError.
    """
    told = [
        {"targets": [f"{host}:{port}"], "labels": {"process": name}} for name, port in ports.items()
    ]
    fresh = directory / f"{TARGETS_FILE}.new"
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")
    fresh.replace(directory / TARGETS_FILE)


def remove(directory: Path) -> None:
    for name in (RECORD_FILE, f"{RECORD_FILE}.new"):
        (directory / name).unlink(missing_ok=True)
    remove_targets(directory)


def remove_targets(directory: Path) -> None:
    for name in (TARGETS_FILE, f"{TARGETS_FILE}.new"):
        (directory / name).unlink(missing_ok=True)


def read(directory: Path) -> Up | None:
    """What runs in `directory`, or None: no `up.json`, or one that nobody stands behind."""
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        # shared: two readers don't take each other for a running system
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        up = _decode(directory / RECORD_FILE)
        # the next one may just have claimed the folder, and not tidied up behind a killed one yet
        return up if up and _alive(up.pid) else None
    finally:
        os.close(lock)
    return None


def _lock(descriptor: int) -> bool:
    for _ in range(10):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.02)  # it may be a reader's lock, which lasts microseconds
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _decode(record: Path) -> Up | None:
    try:
        return msgspec.json.decode(record.read_bytes(), type=Up)
    except (OSError, msgspec.DecodeError):
        return None


def _taken(directory: Path) -> str:
    up = _decode(directory / RECORD_FILE)
    where = f" as process {up.pid}, at {up.url}" if up else ""
    return (
        f"a system already runs in {directory}{where}: stop that one (Ctrl-C or SIGTERM), or give"
        " another folder with --data-dir"
    )


def _try_to_write(directory: Path, least_free: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < least_free:
        raise Unusable(
            f"{directory} has {free >> 20} MiB free and a system needs {least_free >> 20} MiB:"
            " make room, or give another folder with --data-dir"
        )
    for part in (".", *SUBFOLDERS):
        probe = directory / part / f".probe-{os.getpid()}"
        try:
            with probe.open("wb") as file:
                file.write(b"\0" * 4096)
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)


def _describe(directory: Path, error: OSError) -> str:
    why = {
        errno.EACCES: "may not be written to",
        errno.EPERM: "may not be written to",
        errno.EROFS: "is on a read-only file system",
        errno.ENOSPC: "is full",
        errno.EDQUOT: "is full (its quota is used up)",
        errno.ENOTDIR: "is not a folder",
        errno.EEXIST: "is not a folder",
    }.get(error.errno or 0, f"cannot be used ({error.strerror})")
    return f"{directory} {why}: give another folder with --data-dir"
