"""Objects by name, in a folder of this machine or in a bucket: the files of the lake, and of releases.

An object is whole or not there. A local object is written under another name, fsynced and renamed. A bucket
has no rename and needs none: an object appears when its upload is complete.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
from pyarrow import fs

from infra.files import sync_directory
from schemas.errors import FreshetError

PARTIAL_SUFFIX: Final = ".half"
"""Suffix of the name of a local object that is being written."""
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY: Final = {errno.EROFS, errno.EACCES, errno.EPERM}


class Object(NamedTuple):
    """An object's name, size and time. `at`: when it was written, Unix time in s."""

    name: str
    bytes: int
    at: float


class Sink:
    """A file for pyarrow to write to, which computes the object's size and hash."""

    closed = False

    def __init__(self, file: Any) -> None:
        self._file, self._hash, self.bytes = file, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._file.write(view)
        self._hash.update(view)
        self.bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        return None

    def close(self) -> None:
        return None

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class Errors(NamedTuple):
    """How the errors of a store read. `noun`: what it is called; `variable`: the setting with its URL;
    `away`, `full` and `read_only`: the types; `loss`: what a failed write costs."""

    noun: str
    variable: str
    away: type[FreshetError]
    full: type[FreshetError]
    read_only: type[FreshetError]
    loss: str


class ObjectStore:
    """The objects under `url`: what pyarrow's `FileSystem.from_uri` takes, or a path.

    Errors of every method: those of `errors`, and FileNotFoundError for an object that is not there.
    """

    def __init__(self, url: str, errors: Errors) -> None:
        self._errors = errors
        if "://" not in url:
            url = Path(url).absolute().as_uri()
        try:
            self.fs, root = fs.FileSystem.from_uri(url)
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise errors.away(
                f"{errors.variable} takes a path, file:// or s3://bucket/prefix?region=..."
                f" ({type(error).__name__})"
            ) from None
        self.root = root.rstrip("/")
        self.local = self.fs.type_name == "local"

    def path(self, name: str) -> str:
        """The path of an object in `fs`."""
        return f"{self.root}/{name}"

    def put(self, name: str, data: bytes) -> None:
        """Writes an object."""
        with self.create(name) as sink:
            sink.write(data)

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[Sink]:
        """Writes the object `name`: it is there once the block ends without an error."""
        opened = self._local(name) if self.local else self._remote(name)
        try:
            with opened as file:
                yield Sink(file)
        except OSError as error:
            raise self._unwritable(error, name) from None

    def get(self, name: str) -> bytes:
        """The content of an object."""
        with self.open(name) as file:
            try:
                data: bytes = file.read()
            except OSError as error:
                raise self._unreadable(error, name) from None
        return data

    def open(self, name: str) -> pa.NativeFile:
        """An object as a file to read from."""
        try:
            return self.fs.open_input_file(self.path(name))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._unreadable(error, name) from None

    def size(self, name: str) -> int | None:
        """The size of an object in bytes; None where there is no such object."""
        try:
            info = self.fs.get_file_info(self.path(name))
        except OSError as error:
            raise self._unreadable(error, name) from None
        return None if info.type == fs.FileType.NotFound else int(info.size)

    def list(self, prefix: str) -> Iterator[Object]:
        """All objects under the folder `prefix`, also those that are being written."""
        selector = fs.FileSelector(self.path(prefix), allow_not_found=True, recursive=True)
        try:
            found = self.fs.get_file_info(selector)
        except OSError as error:
            raise self._unreadable(error, prefix) from None
        for info in found:
            if info.is_file:
                name = info.path[len(self.root) + 1 :]
                yield Object(name, int(info.size), info.mtime_ns / 1e9)

    def delete(self, name: str) -> None:
        """Deletes an object; no error where it is gone already."""
        try:
            self.fs.delete_file(self.path(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unwritable(error, name) from None

    @contextlib.contextmanager
    def _local(self, name: str) -> Iterator[Any]:
        path = Path(self.path(name))
        _folder(path.parent)
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
        try:
            with partial.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
            sync_directory(path.parent)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _remote(self, name: str) -> Iterator[Any]:
        # an error may close the object with half its content: no manifest names it, so nothing reads it
        with self.fs.open_output_stream(self.path(name)) as stream:
            yield stream

    def _unwritable(self, error: OSError, name: str) -> FreshetError:
        noun, loss = self._errors.noun, self._errors.loss
        if error.errno in _FULL:
            return self._errors.full(
                f"the {noun} is full: {name} cannot be written; {loss}: make room"
            )
        if error.errno in _READ_ONLY or "ACCESS_DENIED" in str(error):
            return self._errors.read_only(
                f"the {noun} is read-only: {name} cannot be written; {loss}: allow writing"
            )
        return self._errors.away(
            f"the {noun} takes nothing: {name} cannot be written ({_why(error)}); {loss}"
        )

    def _unreadable(self, error: OSError, name: str) -> FreshetError:
        noun = self._errors.noun
        return self._errors.away(
            f"the {noun} does not answer: {name or 'its list'} cannot be read ({_why(error)})"
        )


def _folder(path: Path) -> None:
    """Makes a folder that survives a power cut."""
    if path.is_dir():
        return
    _folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def _why(error: OSError) -> str:
    """A word for people: the text of a bucket's error may hold an address and a name."""
    found = [word for word in str(error).split() if word.isupper() and "_" in word]
    return error.strerror or (found[0] if found else type(error).__name__)
