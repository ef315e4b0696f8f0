"""A release on disk: a directory named like its id, with `manifest.json` and the files it names."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.alphabet import Millis
from schemas.state.counting import FORMAT_1, Counting
from schemas.state.tables import WINDOWS
from schemas.version import Upgrades

FORMAT: Final = 2
RENAMED: Final = {f"popular_{window}": f"popular_{window}_log" for window in WINDOWS[:3]}
"""Columns of format 1 by their names since: format 2 has others under the former ones."""
MANIFEST: Final = "manifest.json"
HASHES: Final = "item_hashes.npy"
VECTORS: Final = "item_vectors.npy"
ENCODER: Final = "encoder.npy"
RANKER: Final = "ranker.onnx"
SAMPLE: Final = "sample.npy"
"""Rows that the ranker learnt from, some hundred; a release may lack it."""
CARD: Final = "card.md"
CARD_PAGE: Final = "card.html"
"""The model card, twice: for a terminal, and for a browser."""


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
    `counting`: how pairs and popularity are counted for it; format 1 names none. `card`: the model card.
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
    counting: Counting = FORMAT_1
    card: dict[str, Any] = {}


def _from_format_1(manifest: Manifest) -> Manifest:
    # the defaults of `Manifest` are what format 1 lacks
    return msgspec.structs.replace(
        manifest,
        features=tuple(RENAMED.get(name, name) for name in manifest.features),
        coarse={RENAMED.get(name, name): weight for name, weight in manifest.coarse.items()},
    )


UPGRADES: Final[Upgrades[Manifest]] = {1: _from_format_1}
DECODER: Final = msgspec.json.Decoder(Manifest)


def encode(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
