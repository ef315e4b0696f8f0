"""The files of a release on this machine: read, and held against the manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from infra.releases.errors import ReleaseUnavailable
from schemas import releases
from schemas.releases import MANIFEST, ReleaseFile


def bytes_of(path: Path, name: str) -> bytes:
    """The content of a file of the release at `path`. Errors: `ReleaseUnavailable`."""
    try:
        return (path / name).read_bytes()
    except OSError:
        raise ReleaseUnavailable(f"{path.name}: {name} is missing", "missing") from None


def check_name(release: str, name: str) -> None:
    """Errors: `ReleaseUnavailable` for the name of a file that is not the release's own."""
    if "/" in name or name.startswith(".") or name == MANIFEST:
        raise ReleaseUnavailable(f"{release}: it names a file elsewhere", "broken")


def is_whole(path: Path, manifest_sha256: str = "") -> bool:
    """Whether the release at `path` is as its manifest says, and the manifest is the wanted one; "": any."""
    try:
        data = (path / MANIFEST).read_bytes()
        files = releases.DECODER.decode(data).files
        wanted = manifest_sha256 in ("", hashlib.sha256(data).hexdigest())
        return wanted and all(_is_whole(path / name, of) for name, of in files.items())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return False


def _is_whole(path: Path, of: ReleaseFile) -> bool:
    """Errors: OSError."""
    if path.stat().st_size != of.bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == of.sha256
