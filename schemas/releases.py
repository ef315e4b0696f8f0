"""A release on disk: a directory named like its id, with `manifest.json` and the files it names."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.alphabet import Millis

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
HASHES: Final = "item_hashes.npy"
VECTORS: Final = "item_vectors.npy"
ENCODER: Final = "encoder.npy"
RANKER: Final = "ranker.onnx"


class ReleaseFile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    sha256: str
    bytes: int


class Space(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`name`: of the kind of vectors. Vectors of two releases cannot be compared, even of one kind."""

    name: str
    dim: int
    items: int


class TrainingData(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The training data: how many events, the offsets before which they lie, first and last time (ms)."""

    events: int
    offsets: tuple[int, ...]
    first: Millis
    last: Millis


class Manifest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`features`: the ranker's columns, in order. `schema`: of them and of the space, as
    `models.release.artefact.schema` makes it. `metrics`: what the trainer measured, with the gate's verdict.
    """

    format: int
    id: str
    created_at: Millis
    parent: str
    code: str
    features: tuple[str, ...]
    schema: str
    space: Space
    coarse: dict[str, float]
    files: dict[str, ReleaseFile]
    metrics: dict[str, Any]
    data: TrainingData


DECODER: Final = msgspec.json.Decoder(Manifest)


def encode(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
