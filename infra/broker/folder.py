"""The data folder: made if missing, locked against a second broker, refused if not writable."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from infra.broker.codes import CannotStart


class DataFolder:
    """Holds the folder's lock from construction to `close`, or until the process ends."""

    def __init__(self, path: Path) -> None:
        """Errors: `CannotStart` where another broker has the folder or it cannot be written."""
        self.path = path
        try:
            (path / "topics").mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CannotStart(unusable_reason(path, error)) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel always frees it
        except OSError:
            os.close(self._fd)
            raise CannotStart(f"another broker is using the data folder {path}") from None
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            self.close()
            raise CannotStart(unusable_reason(path, error)) from error

    def close(self) -> None:
        """Frees the lock."""
        os.close(self._fd)


def unusable_reason(path: Path, error: OSError) -> str:
    """The sentence why `path` cannot be used."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk of the data folder {path} is full"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"the data folder {path} cannot be written by this user"
    return f"the data folder {path} cannot be used: {os.strerror(error.errno or 0)}"
