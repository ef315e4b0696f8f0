"""MovieLens in every layout that its home has published, as people keep it."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from infra.datasets import convert, movielens
from infra.datasets.movielens_files import NotMovieLens
from infra.datasets.ratings import RatingColumns
from infra.datasets.rows import Fault, Notes, NotReadable
from tests.unit.infra.datasets.reading import Found, whole
from tests.unit.infra.datasets.test_files import bounded_source

RATINGS = "userId,movieId,rating,timestamp\n1,1,5,978300760\n"
FILMS = "movieId,title,genres\n1,Ágora (2009),Drama|War\n2,Bare,(no genres listed)\n"
FLAGS = "|".join("1" if n in (8, 17) else "0" for n in range(19))
LAYOUTS: dict[str, dict[str, bytes]] = {
    "25M": {"ratings.csv": RATINGS.encode(), "movies.csv": FILMS.encode()},
    "25M with a mark and CRLF": {
        "ratings.csv": RATINGS.replace("\n", "\r\n").encode("utf-8-sig"),
        "movies.csv": FILMS.replace("\n", "\r\n").encode("utf-8-sig"),
    },
    "25M in gzip and zstd": {
        "ratings.csv.gz": gzip.compress(RATINGS.encode()),
        "movies.csv.zst": zstandard.ZstdCompressor().compress(FILMS.encode()),
    },
    "25M in latin-1": {"ratings.csv": RATINGS.encode(), "movies.csv": FILMS.encode("latin-1")},
    "25M in milliseconds": {
        "ratings.csv": RATINGS.replace("978300760", "978300760000").encode(),
        "movies.csv": FILMS.encode(),
    },
    "25M in ISO times": {
        "ratings.csv": RATINGS.replace("978300760", "2000-12-31 22:12:40").encode(),
        "movies.csv": FILMS.encode(),
    },
    "25M with ids of floats": {
        "ratings.csv": RATINGS.replace("1,1,5", "1.0,1.0,5.0").encode(),
        "movies.csv": FILMS.replace("1,", "1.0,").replace("2,", "2.0,").encode(),
    },
    "25M in other order": {
        "ratings.csv": b"timestamp;rating;tag;movieId;userId\n978300760;5;x;1;1\n",
        "movies.csv": FILMS.encode(),
    },
    "10M": {
        "ratings.dat": b"1::1::5::978300760\n",
        "movies.dat": "1::Ágora (2009)::Drama|War\n2::Bare::(no genres listed)\n".encode(),
    },
    "1M": {
        "ratings.dat": b"1::1::5::978300760\n",
        "movies.dat": "1::Ágora (2009)::Drama|War\n2::Bare::\n".encode("latin-1"),
    },
    "100K": {
        "u.data": b"1\t1\t5\t978300760\n",
        "u.item": (
            f"1|Ágora (2009)|01-Jan-2009||http://a|{FLAGS}\n2|Bare||||1|{FLAGS[2:]}\n".replace(
                "|1|" + FLAGS[2:], "|1" + "|0" * 18
            )
        ).encode("latin-1"),
    },
}


def folder(at: Path, **files: bytes | str) -> Path:
    at.mkdir(exist_ok=True)
    for name, content in files.items():
        (at / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return at


def ratings(at: Path, content: bytes | str) -> Found:
    films = {"movies.csv": FILMS}
    return whole(movielens.sources(folder(at / "ml", **{"ratings.csv": content}, **films))[1])


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_read(tmp_path: Path, name: str) -> None:
    at = folder(tmp_path / "ml", **LAYOUTS[name])
    films, found = map(whole, movielens.sources(at))
    assert [(it["item_id"], it["title"], it["categories"]) for it in films.rows] == [
        ("1", "Ágora (2009)", ["Drama", "War"]),
        ("2", "Bare", []),
    ]
    assert found.rows == [
        {
            "event_id": "ml-1-1",
            "user_id": "1",
            "item_id": "1",
            "action": "like",
            "occurred_at": "2000-12-31T22:12:40.000Z",
        }
    ]
    assert films.faults == found.faults == []
    assert films.error == found.error == ""
    latin = "latin" in name or name in ("1M", "100K")
    assert {*films.notes.counts} >= ({"latin-1"} if latin else set())
    assert ("ids_with_fraction" in found.notes.counts) == ("floats" in name)
    assert movielens.find({"DATA": str(at)}, tmp_path) == at.resolve()
    loaded = movielens.load(at)
    assert [it.body for it in loaded.ratings] == found.rows
    assert [it.body for it in loaded.items] == films.rows


def test_ratings_come_in_order_of_time_person_and_film(tmp_path: Path) -> None:
    rows = [
        f"{u},{f},{s},{t}" for u in (10, 9, "x") for f in ("b", "a", 7) for s, t in ((4, 1), (1, 2))
    ]
    random.Random(1).shuffle(rows)
    found = ratings(tmp_path, "\n".join(["userId,movieId,rating,timestamp", *rows]))
    order = [(it["occurred_at"], it["user_id"], it["item_id"]) for it in found.rows]
    people, films = ["9", "10", "x"], ["7", "a", "b"]
    assert order == [
        (f"1970-01-01T00:00:0{t}.000Z", u, f) for t in (1, 2) for u in people for f in films
    ]
    seen = [rows[line - 2].split(",") for line in found.lines]
    assert [(u, f) for u, f, _, _ in seen] == [(u, f) for _, u, f in order]


def test_a_bad_line_costs_that_line(tmp_path: Path) -> None:
    found = ratings(
        tmp_path,
        "userId,movieId,rating,timestamp\n1,1,five,978300760\n2,2,5,soon\n\n3,3\n,4,5,978300760\n"
        "5,5,9,978300760\n6,6,nan,978300760\n7,7,3.5,978300761\n8,8,0.5,978300760\n",
    )
    assert [(it["user_id"], it["value"]) for it in found.rows] == [("8", 0.5), ("7", 3.5)]
    assert found.lines == [10, 9]
    assert sorted(found.faults) == [
        Fault(2, "value", "wrong_type"),
        Fault(3, "occurred_at", "not_a_time"),
        Fault(5, "line", "wrong_columns"),
        Fault(6, "user_id", "required"),
        Fault(7, "value", "out_of_range"),
        Fault(8, "value", "out_of_range"),
    ]
    with pytest.raises(NotReadable, match=r"ratings\.csv, line 2: value wrong_type$"):
        movielens.load(tmp_path / "ml")


def test_a_cut_file_gives_its_ratings_and_says_so(tmp_path: Path) -> None:
    chance = random.Random(2)
    rows = "".join(f"{n},{chance.randrange(10**6)},4,{978300760 + n}\n" for n in range(50_000))
    data = gzip.compress(("userId,movieId,rating,timestamp\n" + rows).encode())
    at = folder(tmp_path / "ml", **{"ratings.csv.gz": data[: len(data) // 2]})
    folder(at, **{"movies.csv": FILMS})
    found = whole(movielens.sources(at)[1])
    assert len(found.rows) > 10_000
    assert "ratings.csv.gz is cut off within its gzip data, after line" in found.error


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {},
            "has no ratings.csv and no movies.csv, no ratings.dat and no movies.dat, no u.data and no",
        ),
        ({"ratings.csv": RATINGS}, "is not MovieLens: it has no movies.csv"),
        ({"u.item": b"", "movies.dat": b""}, "it has no ratings.dat, no u.data"),
    ],
)
def test_another_folder_is_told_what_is_missing(
    tmp_path: Path, files: dict[str, Any], said: str
) -> None:
    with pytest.raises(NotMovieLens, match=said.replace(".", r"\.")):
        movielens.sources(folder(tmp_path / "ml", **files))


def test_a_column_that_is_missing_and_an_empty_file_are_told(tmp_path: Path) -> None:
    error = ratings(tmp_path, "userId,movieId,stars\n1,1,5\n").error
    assert error.endswith("ratings.csv has no column rating and no column timestamp")
    assert ratings(tmp_path, "").error.endswith("ratings.csv is empty: check that it was written")


NUMBERS = st.sampled_from(
    ["0", "1", "2", "00", "01", "-1", "1.0", "a", "", "9" * 18, "9" * 19, "१"]
)
STARS = st.sampled_from(["0.5", "3.7", "5", "5.0", "0", "6", "nan", "x", "1e0"])
TIMES = st.sampled_from(
    [
        "978300760",
        "978300760000",
        "20091027",
        "2009-10-27",
        "x",
        "99999999",
        "9999999999",
        "978_300_760",
    ]
)


@given(st.lists(st.tuples(st.integers(1, 2), NUMBERS, NUMBERS, STARS, TIMES), max_size=4))
def test_the_short_way_adds_what_the_long_way_adds(
    rows: list[tuple[int, str, str, str, str]],
) -> None:
    lines = [sum(it[0] for it in rows[: n + 1]) for n in range(len(rows))]
    cells = [it[1:] for it in rows]
    ways = []
    for batches in (
        [(lines, cells)],
        [([line], [it]) for line, it in zip(lines, cells, strict=True)],
    ):
        columns, faults = RatingColumns((0.5, 5.0), Notes()), []
        for batch in batches:
            faults += columns.add(*batch, convert.identifier, convert.identifier)
        ways.append((faults, [*columns.ordered(10)]))
    long = RatingColumns((0.5, 5.0), Notes())
    long._add_plain = lambda lines, rows: False  # type: ignore[method-assign]
    faults = long.add(lines, cells, convert.identifier, convert.identifier)
    assert ways[0] == ways[1] == (faults, [*long.ordered(10)])


def test_many_ratings_cost_little_memory(tmp_path: Path) -> None:
    chance = random.Random(3)
    rows = "".join(
        f"{n // 10 + 1},{chance.randrange(1, 60_000)},{chance.randrange(1, 11) / 2},{1_000_000_000 + n}\n"
        for n in range(200_000)
    )
    at = folder(
        tmp_path / "ml",
        **{"ratings.csv": "userId,movieId,rating,timestamp\n" + rows, "movies.csv": FILMS},
    )
    count, faults, mib, error = bounded_source("movielens.sources(path)[1]", at)
    assert (count, faults, error) == (200_000, 0, "")
    assert mib < 30


def test_the_primary_genre_is_the_rarest(tmp_path: Path) -> None:
    """Genres are listed by name, so that the first of them says nothing."""
    films = "movieId,title,genres\n1,A,Action|War\n2,B,Action|Drama\n3,C,Drama\n4,D,Action|Drama\n"
    (tmp_path / "movies.csv").write_text(films)
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,5,978300760\n")
    loaded = movielens.load(tmp_path)
    assert [film.category for film in loaded.items] == ["War", "Action", "Drama", "Action"]
    assert loaded.items[0].body["categories"] == ["Action", "War"]
