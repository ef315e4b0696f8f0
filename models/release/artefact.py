"""A release read from disk: only if every byte is as written (`models.release.write`)."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.kernels.loading import kernel
from models.release import agreement, content
from models.release import runtime as onnx
from models.release.release import Release, Scores, Space, Vectors
from models.release.trees import Trees
from schemas import releases
from schemas.errors import FreshetError
from schemas.releases import (
    ENCODER,
    FORMAT,
    HASHES,
    MANIFEST,
    RANKER,
    SAMPLE,
    UPGRADES,
    VECTORS,
    Manifest,
    ReleaseFile,
)
from schemas.version import readable

_log = logging.getLogger(__name__)


class BadRelease(FreshetError):
    """A directory that is no release this code can serve. The text says why, and `code` in one word."""

    def __init__(self, text: str, code: str = "broken") -> None:
        super().__init__(text)
        self.code = code


class _Format(msgspec.Struct):
    """Of any manifest."""

    format: int


def encoder(matrix: NDArray[np.float32]) -> Any:
    """Content vectors (n, DIM) -> vectors of the space, through a (DIM, DIM) matrix."""

    def encode(vectors: Vectors) -> Vectors:
        return content.within_grid(vectors.astype(np.float64) @ matrix.astype(np.float64))

    return encode


def schema(features: tuple[str, ...], dim: int) -> str:
    """16 hex digits that a model file and the code that feeds it must agree on."""
    data = msgspec.json.encode([features, dim, content.VERSION])
    return hashlib.sha256(data).hexdigest()[:16]


def ranker(model: bytes, width: int) -> Any:
    """(n, width) float32 -> (n,) float32 by an ONNX model. Errors: `BadRelease`."""
    runtime = onnx.runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises any type for broken bytes
        raise BadRelease(f"{RANKER} is no model ({type(error).__name__})") from None
    takes, gives = session.get_inputs(), session.get_outputs()
    if len(takes) != 1 or len(gives) != 1 or takes[0].shape[-1] != width:
        raise BadRelease(f"{RANKER} does not take {width} features")
    name = takes[0].name

    def rank(rows: Vectors) -> Scores:
        scores: Scores = session.run(None, {name: rows})[0].reshape(-1)
        return scores

    return rank


def read_manifest(path: Path) -> tuple[Manifest, str]:
    """The manifest at `path`, and its SHA-256. Errors: `BadRelease`."""
    try:
        data = (path / MANIFEST).read_bytes()
    except OSError:
        raise BadRelease(f"{path.name}: it has no {MANIFEST}", "missing") from None
    try:
        manifest = releases.DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BadRelease(f"{path.name}: {_unreadable(data)}") from None
    return manifest, sha256(data)


def _unreadable(data: bytes) -> str:
    """Why a manifest cannot be decoded: its format, where it has another one."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        of = msgspec.json.decode(data, type=_Format).format
        if of not in readable(FORMAT, UPGRADES):
            return _foreign(of)
    return f"its {MANIFEST} cannot be read"


def _foreign(of: int) -> str:
    reads = " and ".join(map(str, readable(FORMAT, UPGRADES)))
    return f"it is of format {of}, this code reads {reads}"


def load(path: Path, manifest_sha256: str = "") -> Release:
    """The release at `path`, all of it checked. `manifest_sha256`: the one on `control`; "" is not checked.

    Errors: `BadRelease`.
    """
    manifest, sha = read_manifest(path)
    try:
        return _load(path, manifest, sha, manifest_sha256)
    except BadRelease as bad:
        raise BadRelease(f"{path.name}: {bad}", bad.code) from None


def _load(path: Path, manifest: Manifest, sha: str, wanted: str) -> Release:
    if manifest.format not in readable(FORMAT, UPGRADES):
        raise BadRelease(_foreign(manifest.format), "foreign")
    if field := manifest.counting.fault:
        raise BadRelease(f"its counting has another {field} than this code can count by", "foreign")
    if manifest.id != path.name:
        raise BadRelease("it calls itself otherwise")
    if wanted and sha != wanted:
        raise BadRelease("its manifest is not the one that was published", "unpublished")
    if manifest.schema != schema(manifest.features, manifest.space.dim):
        raise BadRelease("its features or vectors are of another schema than it says", "foreign")
    if manifest.format != FORMAT:
        manifest = UPGRADES[manifest.format](manifest)
    if manifest.space.dim != content.DIM:
        raise BadRelease(
            f"its vectors have {manifest.space.dim} dimensions, this code {content.DIM}"
        )
    if not np.isfinite(list(manifest.coarse.values())).all():
        raise BadRelease("a coarse weight is not finite", "not_finite")
    files = {name: _read(path, name, of) for name, of in manifest.files.items()}
    missing = {HASHES, VECTORS, ENCODER} - files.keys()
    if missing:
        raise BadRelease(f"it lacks {', '.join(sorted(missing))}")
    space = _space(files, manifest.space.items)
    release = Release(
        manifest.id, manifest.features, manifest.coarse, space, counting=manifest.counting
    )
    if RANKER not in files:
        return release
    sample = _sample(files[SAMPLE], len(manifest.features)) if SAMPLE in files else None
    return with_ranker(release, files[RANKER], sample)


def with_ranker(release: Release, model: bytes, sample: Vectors | None = None) -> Release:
    """`release` with this ranker, an ONNX model over its features. Where the kernel reads its trees and ONNX
    Runtime agrees with it, on `sample`, rows of the training, and on rows about each threshold, these serve.

    Errors: `BadRelease`.
    """
    width = len(release.features)
    rank = ranker(model, width)
    tried = rank(np.zeros((2, width), np.float32))
    if tried.shape != (2,) or not np.isfinite(tried).all():
        raise BadRelease(f"{RANKER} does not give a finite score a row")
    trees, why = None, "there is no compiled kernel"
    if kernel is not None:
        trees, why = _judged(model, width, rank, sample)
    if why:
        _log.info("release %s: ONNX Runtime ranks: %s", release.id, why)
    return replace(release, rank=rank, trees=trees, without_trees=why)


def _judged(
    model: bytes, width: int, rank: Any, sample: Vectors | None
) -> tuple[Trees | None, str]:
    """The trees that the kernel may evaluate, or None and why it may not."""
    trees = Trees.read(model, width)
    if trees is None:
        return None, f"the kernel reads no trees in {RANKER}"
    for rows in (agreement.probes(trees), sample):
        if rows is not None and (why := agreement.disagreement(trees, rank, rows)):
            _log.warning("the kernel's trees are not used: %s", why)
            return None, why
    return trees, ""


def _sample(data: bytes, width: int) -> Vectors:
    rows = _array(SAMPLE, data)
    if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != width:
        raise BadRelease(f"{SAMPLE} does not hold rows of {width} features")
    return rows


def _space(files: Mapping[str, bytes], items: int) -> Space:
    hashes, vectors, matrix = (_array(name, files[name]) for name in (HASHES, VECTORS, ENCODER))
    if hashes.dtype != np.uint64 or hashes.shape != (items,) or np.any(hashes[1:] <= hashes[:-1]):
        raise BadRelease(f"{HASHES} does not hold {items} ascending ids")
    if vectors.dtype != np.int16 or vectors.shape != (items, content.DIM):
        raise BadRelease(f"{VECTORS} does not hold a vector for each of {items} items")
    squares = (vectors.astype(np.int64) ** 2).sum(axis=1)
    if squares.max(initial=0) > content.MAX_NORM**2:
        raise BadRelease(f"{VECTORS} holds a vector that is longer than 1")
    if matrix.shape != (content.DIM, content.DIM) or not np.isfinite(matrix).all():
        raise BadRelease(f"{ENCODER} is no finite {content.DIM} x {content.DIM} matrix")
    grid: Vectors = (vectors / content.GRID).astype(np.float32)
    return Space(hashes, grid, encoder(matrix))


def _read(path: Path, name: str, of: ReleaseFile) -> bytes:
    if "/" in name or name.startswith("."):
        raise BadRelease("it names a file elsewhere")
    try:
        data = (path / name).read_bytes()
    except OSError:
        raise BadRelease(f"{name} is missing", "missing") from None
    if len(data) != of.bytes:
        if len(data) < of.bytes:
            raise BadRelease(f"{name} is cut short: {len(data)} of {of.bytes} bytes", "cut_short")
        raise BadRelease(f"{name} is corrupt: {len(data)} bytes, not {of.bytes}", "corrupt")
    if sha256(data) != of.sha256:
        raise BadRelease(f"{name} is corrupt: its checksum differs", "corrupt")
    return data


def _array(name: str, data: bytes) -> NDArray[Any]:
    try:
        held: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        raise BadRelease(f"{name} is no array") from None
    return held


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
