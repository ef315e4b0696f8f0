"""The source of the demo's data, and the sentence about it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from infra.datasets.find import NotFetched, catalogue, fetch

NOWHERE = "http://127.0.0.1:1/ml.zip"
RATINGS = "userId,movieId,rating,timestamp\n1,10,4.5,1000\n"
MOVIES = "movieId,title,genres\n10,Alien (1979),Horror|Sci-Fi\n"


def folder(at: Path) -> Path:
    at.mkdir(parents=True)
    (at / "ratings.csv").write_text(RATINGS)
    (at / "movies.csv").write_text(MOVIES)
    return at


def archive(at: Path, *names: str) -> str:
    with zipfile.ZipFile(at, "w") as file:
        for name in names:
            file.writestr(name, RATINGS if "ratings" in name else MOVIES)
    return at.as_uri()


def test_the_given_folder_comes_first(tmp_path: Path) -> None:
    given = folder(tmp_path / "given")
    folder(tmp_path / "data" / "ml")
    assert str(given) in catalogue(given, tmp_path / "keep", {}, tmp_path, NOWHERE).source


def test_then_a_folder_in_the_working_directory(tmp_path: Path) -> None:
    lies = folder(tmp_path / "data" / "anything")
    assert str(lies) in catalogue(None, tmp_path / "keep", {}, tmp_path, NOWHERE).source


def test_then_its_home_which_is_asked_once(tmp_path: Path) -> None:
    url = archive(tmp_path / "ml.zip", "ml/ratings.csv", "ml/movies.csv", "ml/tags.csv")
    keep, empty = tmp_path / "keep", tmp_path / "empty"
    empty.mkdir()
    found = catalogue(None, keep, {}, empty, url)
    assert found.source == f"MovieLens, fetched from {url}"
    assert [rating.item_id for rating in found.ratings] == ["10"]
    again = catalogue(None, keep, {}, empty, NOWHERE)
    assert again.ratings == found.ratings
    assert str(keep) in again.source


def test_else_it_is_made_up_and_says_so(tmp_path: Path) -> None:
    found = catalogue(None, tmp_path / "keep", {}, tmp_path, NOWHERE)
    assert found.source.startswith("a generated catalogue")
    assert found.source.endswith("and its home can't be reached)")


def test_an_archive_writes_nothing_elsewhere(tmp_path: Path) -> None:
    url = archive(tmp_path / "ml.zip", "../../ratings.csv", "/movies.csv", "../evil.txt")
    fetch(url, tmp_path / "a" / "b" / "c")
    written = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert [str(path) for path in written] == ["a/b/c/movies.csv", "a/b/c/ratings.csv", "ml.zip"]


def test_what_is_no_archive_or_lacks_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.zip").write_text("<html>")
    for url in ((tmp_path / "page.zip").as_uri(), archive(tmp_path / "b.zip", "movies.csv")):
        with pytest.raises(NotFetched):
            fetch(url, tmp_path / "out")
    assert not (tmp_path / "out").exists()
