"""A release on this machine: fetched from the bucket where the folder lacks it, complete or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from infra.files import sync_directory
from infra.releases.bucket import CHUNK_BYTES, open_bucket
from infra.releases.errors import ReleaseUnavailable
from infra.releases.files import compare, is_whole, listed
from schemas.control import RELEASE_ID, release_order
from schemas.releases import MANIFEST, ReleaseFile

if TYPE_CHECKING:
    from infra.objects import ObjectStore
    from infra.settings import Settings

MAX_KEPT: Final = 10
"""Releases of the bucket that the folder holds copies of, those that were asked for last."""
_DRAFT: Final = ".fetch-"
_LOCK: Final = ".fetch.lock"


def fetch(settings: Settings, release: str, manifest_sha256: str = "") -> Path:
    """The folder of a release, `Settings.releases`/`release`. Where there is a bucket, a release that the
    folder lacks, or holds otherwise than its manifest says, is fetched from there; `manifest_sha256`: the one
    on `control`, "" is any. Without a bucket the folder may not be there.

    Processes of one machine fetch one release once. Errors: `ReleaseUnavailable`; ValueError where `release`
    is no id of a release.
    """
    release_order(release)  # another name must not become a path
    directory, bucket = settings.releases, open_bucket(settings)
    target = directory / release
    if bucket is None:
        return target
    try:
        if not is_whole(target, manifest_sha256):
            directory.mkdir(parents=True, exist_ok=True)
            with _locked(directory):
                if not is_whole(target, manifest_sha256):
                    _remove_drafts(directory)
                    _download(bucket, target, manifest_sha256)
                    _sweep(bucket, directory, keep=release)
        os.utime(target)  # what is used stays
    except OSError as error:
        raise ReleaseUnavailable(
            f"{release}: it cannot be written into {directory} ({error.strerror})"
        ) from None
    return target


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Waits until no other process fetches. The lock goes with the process."""
    with (directory / _LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(bucket: ObjectStore, target: Path, wanted: str) -> None:
    release = target.name
    data = manifest(bucket, release, wanted)
    draft = target.with_name(f"{_DRAFT}{release}-{secrets.token_hex(4)}")
    draft.mkdir()
    try:
        for name, of in listed(release, data).items():
            _copy(bucket, release, name, of, draft)
        _write(draft / MANIFEST, data)
        sync_directory(draft)
        if target.exists():
            target.rename(draft.with_name(f"{draft.name}.old"))
        draft.rename(target)
        sync_directory(target.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(draft.with_name(f"{draft.name}.old"), ignore_errors=True)


def manifest(bucket: ObjectStore, release: str, wanted: str = "") -> bytes:
    """A release's manifest in the bucket; `wanted`: its SHA-256. Errors: `ReleaseUnavailable`."""
    try:
        data = bucket.get(f"{release}/{MANIFEST}")
    except FileNotFoundError:
        raise ReleaseUnavailable(f"{release}: the bucket has no {MANIFEST}", "missing") from None
    if wanted and hashlib.sha256(data).hexdigest() != wanted:
        raise ReleaseUnavailable(
            f"{release}: its manifest in the bucket is not the one that was published",
            "unpublished",
        )
    return data


def _copy(bucket: ObjectStore, release: str, name: str, of: ReleaseFile, draft: Path) -> None:
    """Copies one file. Errors: `ReleaseUnavailable`, with its name, where it is not as the manifest says."""
    digest, size = hashlib.sha256(), 0
    try:
        with bucket.open(f"{release}/{name}") as source, (draft / name).open("wb") as file:
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                size += file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError:
        raise ReleaseUnavailable(f"{release}: {name} is missing in the bucket", "missing") from None
    compare(release, name, of, size, digest.hexdigest(), " in the bucket")


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _remove_drafts(directory: Path) -> None:
    """Removes what fetches of killed processes left. The caller holds the lock."""
    for draft in directory.glob(f"{_DRAFT}*-*"):
        shutil.rmtree(draft, ignore_errors=True)


def _sweep(bucket: ObjectStore, directory: Path, keep: str) -> None:
    """Removes copies of releases beyond `MAX_KEPT`; one that the bucket lacks is no copy."""
    found = [it for it in directory.iterdir() if RELEASE_ID.fullmatch(it.name) and it.name != keep]
    found.sort(key=lambda it: it.stat().st_mtime, reverse=True)
    for path in found[MAX_KEPT - 1 :]:
        with contextlib.suppress(OSError, ReleaseUnavailable):
            if bucket.size(f"{path.name}/{MANIFEST}") == (path / MANIFEST).stat().st_size:
                unused = path.rename(path.with_name(f"{_DRAFT}{path.name}-old"))
                shutil.rmtree(unused, ignore_errors=True)
