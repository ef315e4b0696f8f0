"""A release on disk: what is written is read, and what is broken is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from models.kernels.loading import kernel
from models.release import artefact, content
from models.release.artefact import BadRelease
from models.release.write import save
from models.training.onnx import export
from schemas.releases import (
    ENCODER,
    HASHES,
    MANIFEST,
    RANKER,
    SAMPLE,
    VECTORS,
    Manifest,
    Space,
    TrainingData,
)
from schemas.state.counting import FORMAT_1, Counting, only

FEATURES = ("covisit", "content", "popular")
ID = "2026-11-24.1"
COUNTING = Counting(gap="session", fade=0.9, strangers=only("1h"))


def manifest(items: int = 5) -> Manifest:
    return Manifest(
        format=0,
        id=ID,
        created_at=1,
        parent="",
        code="test",
        features=FEATURES,
        schema="",
        space=Space(name="made up", dim=content.DIM, items=items),
        coarse={"covisit": 1.0},
        files={},
        metrics={},
        data=TrainingData(events=3, offsets=(1, 2), first=0, last=1),
        counting=COUNTING,
        card={"why": ["a table"]},
    )


@pytest.fixture(scope="module")
def model() -> bytes:
    rng = np.random.default_rng(0)
    rows = rng.random((400, len(FEATURES)), np.float32)
    made = lightgbm.train(
        {"objective": "lambdarank", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5},
        lightgbm.Dataset(rows, (rows[:, 0] > 0.5).astype(int), group=[20] * 20),
        5,
    )
    return export(made, [0.0] * len(FEATURES))


def arrays(items: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    vectors = content.rows_on_grid(rng.normal(size=(items, content.DIM)))
    return {
        HASHES: np.sort(rng.integers(1, 2**63, items).astype(np.uint64)),
        VECTORS: (vectors * content.GRID).astype(np.int16),
        ENCODER: rng.normal(size=(content.DIM, content.DIM)).astype(np.float32),
    }


@pytest.fixture
def saved(tmp_path: Path, model: bytes) -> Path:
    save(tmp_path, manifest(), arrays(), model)
    return tmp_path / ID


def test_a_release_is_read_as_it_was_written(saved: Path) -> None:
    read, given = artefact.load(saved), arrays()
    assert (read.id, read.features, dict(read.coarse)) == (ID, FEATURES, {"covisit": 1.0})
    assert np.array_equal(read.space.hashes, given[HASHES])
    assert np.array_equal(read.space.vectors * content.GRID, given[VECTORS])
    assert read.rank is not None
    assert read.rank(np.ones((7, 3), np.float32)).shape == (7,)
    encoded = read.space.encode(read.space.vectors)
    assert np.array_equal(np.rint(encoded * content.GRID), encoded * content.GRID)
    one = read.space.encode(read.space.vectors[2:3])
    assert np.array_equal(one[0], encoded[2])


def test_a_sample_of_the_training_comes_with_a_release_and_must_be_rows_of_its_ranker(
    tmp_path: Path, model: bytes
) -> None:
    rows = np.random.default_rng(2).random((20, 3), np.float32)
    save(tmp_path, manifest(), arrays() | {SAMPLE: rows}, model)
    read = artefact.load(tmp_path / ID)
    assert (read.trees is None) == (kernel is None)
    assert read.predict(rows).shape == (20,)
    for name, bad in (
        ("width", rows[:, :2]),
        ("kind", rows.astype(np.float64)),
        ("shape", rows[0]),
    ):
        save(tmp_path / name, manifest(), arrays() | {SAMPLE: bad}, model)
        with pytest.raises(BadRelease, match=r"sample\.npy does not hold rows of 3 features"):
            artefact.load(tmp_path / name / ID)


def test_a_release_names_how_is_counted_and_one_of_format_1_the_counting_of_its_time(
    saved: Path,
) -> None:
    held, _ = artefact.read_manifest(saved)
    assert (held.format, held.counting, held.card) == (2, COUNTING, {"why": ["a table"]})
    assert artefact.load(saved).counting == COUNTING
    edited(lambda m: m.update(format=1))(saved)
    for name in ("counting", "card"):
        edited(lambda m, name=name: m.__delitem__(name))(saved)  # type: ignore[misc]
    assert artefact.load(saved).counting == FORMAT_1


def test_features_of_format_1_have_the_names_of_their_columns_now(
    tmp_path: Path, model: bytes
) -> None:
    held = manifest()
    held.features = ("covisit", "popular_24h", "popular")
    save(tmp_path, held, arrays(), model)
    assert artefact.load(tmp_path / ID).features == held.features
    edited(lambda m: m.update(format=1, coarse={"popular_7d": 2}))(tmp_path / ID)
    read = artefact.load(tmp_path / ID)
    assert read.features == ("covisit", "popular_24h_log", "popular")
    assert dict(read.coarse) == {"popular_7d_log": 2.0}


def test_a_release_is_refused_under_another_manifest(saved: Path) -> None:
    _, sha = artefact.read_manifest(saved)
    assert artefact.load(saved, sha).id == ID
    with pytest.raises(BadRelease, match="published"):
        artefact.load(saved, "0" * 64)


def test_no_release_replaces_another_of_its_name(saved: Path, model: bytes) -> None:
    with pytest.raises(FileExistsError):
        save(saved.parent, manifest(), arrays(), model)
    assert artefact.load(saved).id == ID


def test_half_a_release_is_invisible_and_swept(tmp_path: Path) -> None:
    unfinished = tmp_path / ".tmp-2026-11-23.1-aa"
    unfinished.mkdir()
    (unfinished / HASHES).write_bytes(b"half")
    save(tmp_path, manifest(), arrays(), None)
    assert [path.name for path in tmp_path.iterdir()] == [ID]


def edited(change: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        held = json.loads((path / MANIFEST).read_text())
        change(held)
        (path / MANIFEST).write_text(json.dumps(held))

    return edit


def cut(name: str) -> Callable[[Path], None]:
    def shorten(path: Path) -> None:
        (path / name).write_bytes((path / name).read_bytes()[:-1])

    return shorten


def flipped(name: str) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        data = bytearray((path / name).read_bytes())
        data[len(data) // 2] ^= 1
        (path / name).write_bytes(data)

    return flip


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        *((cut(name), "cut short") for name in (HASHES, VECTORS, ENCODER, RANKER)),
        *((flipped(name), "corrupt") for name in (HASHES, VECTORS, ENCODER, RANKER)),
        *(((lambda p, n=name: (p / n).unlink()), "missing") for name in (VECTORS, RANKER)),
        ((lambda p: (p / MANIFEST).unlink()), "no manifest"),
        ((lambda p: (p / MANIFEST).write_bytes(b"{")), "cannot be read"),
        (edited(lambda m: m.update(format=3)), "format 3, this code reads 1 and 2"),
        (edited(lambda m: m["counting"].update(fade=2)), "another fade"),  # type: ignore[attr-defined]
        (edited(lambda m: m["counting"].update(gap="day")), "cannot be read"),  # type: ignore[attr-defined]
        (edited(lambda m: m.update(id="2026-11-24.2")), "otherwise"),
        (edited(lambda m: m.update(features=["covisit", "content"])), "another schema"),
        (edited(lambda m: m.update(coarse={"covisit": 1e999})), "cannot be read"),
        (edited(lambda m: m["files"].pop(HASHES)), "lacks"),  # type: ignore[attr-defined]
        (edited(lambda m: m["space"].update(items=4)), "4 ascending"),  # type: ignore[attr-defined]
    ],
)
def test_a_broken_release_is_refused(
    saved: Path, harm: Callable[[Path], None], reason: str
) -> None:
    harm(saved)
    with pytest.raises(BadRelease, match=reason):
        artefact.load(saved)


def test_nan_and_models_that_do_not_fit_are_refused(tmp_path: Path, model: bytes) -> None:
    broken = {
        ENCODER: np.full((content.DIM, content.DIM), np.nan, np.float32),
        VECTORS: np.zeros((5, 3), np.int16),
        HASHES: np.zeros(5, np.uint64),
    }
    for n, (name, array) in enumerate(broken.items()):
        save(tmp_path / str(n), manifest(), {**arrays(), name: array}, None)
        with pytest.raises(BadRelease, match=name):
            artefact.load(tmp_path / str(n) / ID)
    long = arrays()[VECTORS]
    long[3, 0] = 3 * content.GRID
    save(tmp_path / "long", manifest(), {**arrays(), VECTORS: long}, None)
    with pytest.raises(BadRelease, match="longer than 1"):
        artefact.load(tmp_path / "long" / ID)
    wide = manifest()
    wide.features = (*FEATURES, "affinity")
    save(tmp_path / "wide", wide, arrays(), model)
    with pytest.raises(BadRelease, match="does not take 4"):
        artefact.load(tmp_path / "wide" / ID)
    save(tmp_path / "no", manifest(), arrays(), b"no model")
    with pytest.raises(BadRelease, match="no model"):
        artefact.load(tmp_path / "no" / ID)


def test_a_model_and_its_export_say_the_same(model: bytes) -> None:
    rank = artefact.ranker(model, len(FEATURES))
    rows = np.random.default_rng(2).random((1000, len(FEATURES)), np.float32)
    assert np.isfinite(rank(rows)).all()
    # one row or a thousand at once: the same score
    assert np.array_equal(rank(rows[5:6]), rank(rows)[5:6])
