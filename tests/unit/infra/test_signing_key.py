"""The generated pseudonym key: one for all workers of a folder, whole or not there."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from infra.settings import BadSetting, Settings, signing_key

WORKERS = 8


def test_workers_that_start_together_have_one_key(tmp_path: Path) -> None:
    def start(folder: Path, barrier: Barrier) -> tuple[int, bytes]:
        barrier.wait()
        return signing_key(Settings(data_dir=folder))

    with ThreadPoolExecutor(WORKERS) as pool:
        for n in range(100):
            barrier, folder = Barrier(WORKERS), tmp_path / str(n)
            found = set(pool.map(lambda _: start(folder, barrier), range(WORKERS)))  # noqa: B023
            assert len(found) == 1
            assert [len(key) for _, key in found] == [32]
            assert [path.name for path in folder.iterdir()] == ["pseudonym.key"]


def test_the_key_is_stored_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert signing_key(settings) == signing_key(settings)
    assert stat.S_IMODE((tmp_path / "pseudonym.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("held", ["", "abcd", "no hex at all, but long enough to be a key"])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, held: str) -> None:
    (tmp_path / "pseudonym.key").write_text(held)
    with pytest.raises(BadSetting) as error:
        signing_key(Settings(data_dir=tmp_path))
    assert not held or held not in str(error.value)
