"""A release written to disk: complete or not at all."""

from __future__ import annotations

import io
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.release import card_formats
from models.release.artefact import schema, sha256
from schemas import releases
from schemas.releases import FORMAT, MANIFEST, RANKER, Manifest, ReleaseFile

_HIDDEN: Final = ".tmp-"


def save(
    directory: Path, manifest: Manifest, arrays: Mapping[str, Any], model: bytes | None
) -> str:
    """Writes `directory`/<manifest.id>, and its model card; `arrays`: `HASHES`, `VECTORS` and `ENCODER`,
    and `SAMPLE` where there is one.
    Gives the SHA-256 of the manifest, whose `files`, `schema` and `format` it fills in.

    The files are written under another name, flushed to the disk, and renamed last: no reader sees half a
    release. Errors: FileExistsError for a release of this id; OSError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    sweep(directory)
    target = directory / manifest.id
    if target.exists():
        raise FileExistsError(f"there is a release {manifest.id} already")
    files = {name: _npy(array) for name, array in arrays.items()}
    if model is not None:
        files[RANKER] = model
    manifest.format, manifest.schema = FORMAT, schema(manifest.features, manifest.space.dim)
    manifest.files = _described(files)
    files |= card_formats.files(manifest)
    manifest.files = _described(files)
    encoded = releases.encode(manifest)
    fresh = directory / f"{_HIDDEN}{manifest.id}-{secrets.token_hex(4)}"
    fresh.mkdir()
    for name, data in {**files, MANIFEST: encoded}.items():
        with (fresh / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    _sync(fresh)
    fresh.rename(target)
    _sync(directory)
    return sha256(encoded)


def _described(files: Mapping[str, bytes]) -> dict[str, ReleaseFile]:
    return {name: ReleaseFile(sha256=sha256(data), bytes=len(data)) for name, data in files.items()}


def sweep(directory: Path) -> None:
    """Removes the unfinished releases of killed trainers."""
    for unfinished in directory.glob(f"{_HIDDEN}*"):
        shutil.rmtree(unfinished, ignore_errors=True)


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
