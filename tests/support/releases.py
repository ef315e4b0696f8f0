"""Releases for tests: a few items in a space, with the coarse weights and the metrics that a test gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.release import content
from models.release.write import save
from schemas.releases import ENCODER, HASHES, VECTORS, Manifest, Space, TrainingData

ONE, TWO, THREE = (f"2026-11-24.{n}" for n in (1, 2, 3))


def manifest(name: str = ONE, **fields: Any) -> Manifest:
    given: dict[str, Any] = {
        "format": 0,
        "id": name,
        "created_at": 1_763_942_400_000,
        "parent": "",
        "code": "test",
        "features": (),
        "schema": "",
        "space": Space(name="random", dim=content.DIM, items=5),
        "coarse": {"covisit": 1.0, "popular": 0.1},
        "files": {},
        "metrics": {},
        "data": TrainingData(events=1000, offsets=(600, 400), first=10, last=20),
    }
    return Manifest(**{**given, **fields})


def saved(directory: Path, name: str = ONE, **fields: Any) -> str:
    """Writes a release. Gives the SHA-256 of its manifest."""
    rng = np.random.default_rng(int(name.rpartition(".")[2]))
    vectors = content.rows_on_grid(rng.normal(size=(5, content.DIM)))
    arrays = {
        HASHES: np.sort(rng.integers(1, 2**63, 5).astype(np.uint64)),
        VECTORS: (vectors * content.GRID).astype(np.int16),
        ENCODER: np.eye(content.DIM, dtype=np.float32),
    }
    return save(directory, manifest(name, **fields), arrays, None)
