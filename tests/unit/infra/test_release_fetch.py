"""Releases that machines share: uploaded whole, fetched whole or not at all, refused by the file's name."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.releases import fetch as fetching
from infra.releases.bucket import in_bucket, upload
from infra.releases.errors import ReleaseUnavailable
from infra.releases.fetch import fetch
from infra.settings import Settings
from models.release.artefact import load
from schemas.releases import ENCODER, HASHES, MANIFEST, VECTORS
from tests.support.releases import ONE, TWO, saved


class Machines:
    """A machine that trains and one that serves, with a store between them."""

    def __init__(self, folder: Path) -> None:
        self.url = folder / "shared"
        self.trains, self.serves = (
            Settings(data_dir=folder / name, release_url=str(self.url)) for name in ("a", "b")
        )

    def share(self, name: str = ONE) -> str:
        sha = saved(self.trains.releases, name)
        upload(self.trains, name)
        return sha


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    return Machines(tmp_path)


def names(path: Path) -> set[str]:
    return {it.name for it in path.iterdir() if not it.name.endswith(".lock")}


def test_a_release_is_uploaded_and_fetched_as_it_was_written(machines: Machines) -> None:
    sha = machines.share()
    whole = {it.name: it.stat().st_size for it in (machines.trains.releases / ONE).iterdir()}
    assert in_bucket(machines.serves) == {ONE: whole}
    path = fetch(machines.serves, ONE, sha)
    assert path == machines.serves.releases / ONE
    assert load(path, sha).id == ONE
    assert names(path.parent) == {ONE}
    upload(machines.trains, ONE)  # again: nothing happens
    (machines.url / ONE / VECTORS).unlink()
    assert load(fetch(machines.serves, ONE, sha), sha).id == ONE, "what is whole is not fetched"


def test_without_a_store_the_folder_is_all(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    saved(settings.releases)
    upload(settings, ONE)
    assert in_bucket(settings) == {}
    assert fetch(settings, TWO) == settings.releases / TWO
    with pytest.raises(ValueError):
        fetch(settings, "../../etc")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flipped(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[-1] ^= 1
    path.write_bytes(held)


@pytest.mark.parametrize(
    ("name", "harm", "why"),
    [
        (VECTORS, cut, f"{VECTORS} is cut short in the bucket"),
        (HASHES, flipped, f"{HASHES} is corrupt in the bucket"),
        (ENCODER, Path.unlink, f"{ENCODER} is missing in the bucket"),
        (MANIFEST, Path.unlink, f"the bucket has no {MANIFEST}"),
        (MANIFEST, cut, "its manifest in the bucket is not the one that was published"),
    ],
)
def test_a_broken_release_is_not_fetched(
    machines: Machines, name: str, harm: Callable[[Path], None], why: str
) -> None:
    sha = machines.share()
    kept = saved(machines.serves.releases, TWO)
    harm(machines.url / ONE / name)
    with pytest.raises(ReleaseUnavailable, match=f"^{ONE}: {why}"):
        fetch(machines.serves, ONE, sha)
    assert names(machines.serves.releases) == {TWO}, "half a release is on no disk"
    assert fetch(machines.serves, TWO, kept).is_dir()


def test_a_broken_copy_is_fetched_again(machines: Machines) -> None:
    sha = machines.share()
    path = fetch(machines.serves, ONE, sha)
    for harm in (cut, flipped, Path.unlink):
        harm(path / VECTORS)
        assert load(fetch(machines.serves, ONE, sha), sha).id == ONE
    assert names(path.parent) == {ONE}


def test_a_release_of_another_machine_keeps_its_name(machines: Machines) -> None:
    machines.share()
    saved(machines.serves.releases, ONE, code="another")
    with pytest.raises(ReleaseUnavailable, match="another release of this id"):
        upload(machines.serves, ONE)


def test_a_broken_release_is_not_uploaded(machines: Machines) -> None:
    saved(machines.trains.releases)
    flipped(machines.trains.releases / ONE / VECTORS)
    with pytest.raises(ReleaseUnavailable, match=f"{VECTORS} is corrupt"):
        upload(machines.trains, ONE)
    assert in_bucket(machines.trains) == {}


def test_old_copies_are_swept_and_what_has_no_copy_stays(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MAX_KEPT", 2)
    ids = [f"2026-11-24.{n}" for n in (1, 2, 3, 4)]
    own = "2026-11-20.1"
    saved(machines.serves.releases, own)
    os.utime(machines.serves.releases / own, (1, 1))
    (machines.serves.releases / ".fetch-2026-11-20.2-dead").mkdir()
    for n, name in enumerate(ids):
        machines.share(name)
        os.utime(fetch(machines.serves, name), (n + 2, n + 2))
    assert names(machines.serves.releases) == {own, *ids[2:]}


def test_processes_that_ask_at_once_fetch_a_release_once(machines: Machines) -> None:
    sha = machines.share()
    with ThreadPoolExecutor(4) as pool:
        paths = [*pool.map(lambda _: fetch(machines.serves, ONE, sha), range(8))]
    assert {load(path, sha).id for path in paths} == {ONE}
    assert names(machines.serves.releases) == {ONE}


def test_a_store_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings(data_dir=tmp_path, release_url=str(tmp_path / "file"))
    with pytest.raises(ReleaseUnavailable, match=ONE):
        fetch(settings, ONE)
    wrong = Settings(data_dir=tmp_path, release_url="nothing://x")
    with pytest.raises(ReleaseUnavailable, match="FRESHET_RELEASE_URL takes a path"):
        fetch(wrong, ONE)
