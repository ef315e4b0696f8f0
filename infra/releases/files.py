"""The files of a release on this machine: read, and held against the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from infra.releases.errors import ReleaseUnavailable
from schemas.releases import MANIFEST, ReleaseFile


def bytes_of(path: Path, name: str) -> bytes:
    """The content of a file of the release at `path`. Errors: `ReleaseUnavailable`."""
    try:
        return (path / name).read_bytes()
    except OSError:
        raise ReleaseUnavailable(f"{path.name}: {name} is missing", "missing") from None


class Listed(msgspec.Struct):
    """What a manifest of any format says of its files."""

    files: dict[str, ReleaseFile]


LISTED: Final = msgspec.json.Decoder(Listed)


def listed(release: str, data: bytes) -> Mapping[str, ReleaseFile]:
    """The files that a manifest names. Errors: `ReleaseUnavailable`."""
    try:
        files = LISTED.decode(data).files
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ReleaseUnavailable(f"{release}: its {MANIFEST} cannot be read", "broken") from None
    if any("/" in name or name.startswith(".") or name == MANIFEST for name in files):
        raise ReleaseUnavailable(f"{release}: it names a file elsewhere", "broken")
    return files


def check(path: Path, manifest_sha256: str = "") -> None:
    """Holds the files of the release at `path` against its manifest, and that against the wanted one; "" is
    any. Errors: `ReleaseUnavailable`, with the file's name."""
    release, data = path.name, bytes_of(path, MANIFEST)
    if manifest_sha256 not in ("", hashlib.sha256(data).hexdigest()):
        raise ReleaseUnavailable(
            f"{release}: its manifest is not the one that was published", "unpublished"
        )
    for name, of in listed(release, data).items():
        try:
            size, digest = (path / name).stat().st_size, _sha256(path / name)
        except OSError:
            raise ReleaseUnavailable(f"{release}: {name} is missing", "missing") from None
        compare(release, name, of, size, digest)


def compare(release: str, name: str, of: ReleaseFile, size: int, digest: str, at: str = "") -> None:
    """Errors: `ReleaseUnavailable` for a file of another size or SHA-256; `at`: where it lies."""
    if size < of.bytes:
        raise ReleaseUnavailable(
            f"{release}: {name} is cut short{at}: {size} of {of.bytes} bytes", "cut_short"
        )
    if size > of.bytes:
        raise ReleaseUnavailable(
            f"{release}: {name} is corrupt{at}: {size} bytes, not {of.bytes}", "corrupt"
        )
    if digest != of.sha256:
        raise ReleaseUnavailable(
            f"{release}: {name} is corrupt{at}: its checksum differs", "corrupt"
        )


def is_whole(path: Path, manifest_sha256: str = "") -> bool:
    """Whether `check` finds no fault."""
    try:
        check(path, manifest_sha256)
    except ReleaseUnavailable:
        return False
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
