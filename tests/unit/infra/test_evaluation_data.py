"""Data for an evaluation: by name, by path or from a lake; and the log that an import of it would be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from infra.apps.evaluate.data import acts_of, to_log
from infra.datasets.rows import NotReadable
from infra.lake.reader import Lake
from infra.lake.store import Store
from schemas import events
from schemas.actions import ACTIONS
from schemas.events import Action
from schemas.identity import partition_of
from schemas.items import Item, PutItem
from schemas.topics import ITEMS
from tests.support.lakes import DAY, POISON, action, batch, person, put
from tests.support.whole import whole_only

RATINGS = "userId,movieId,rating,timestamp\n" + "".join(
    f"{n % 7},{n % 5},{1 + n % 5},{1_700_000_000 + n // 2}\n" for n in range(40)
)
FILMS = "movieId,title,genres\n1,Up,Animation\n9,Bo,\n"


def dataset(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "ratings.csv").write_text(RATINGS)
    (folder / "movies.csv").write_text(FILMS)
    return folder


def test_a_set_is_found_by_name_beside_movielens_and_by_its_path(tmp_path: Path) -> None:
    films = dataset(tmp_path / "data" / "ml")
    other = films.parent / "shop"
    other.mkdir()
    (other / "clicks.txt").write_text("s1,2023-11-14T22:13:20.000Z,a,0\n")
    nothing: dict[str, str] = {}
    for name in ("shop", "shop/clicks.txt"):
        assert acts_of(name, environment=nothing, here=tmp_path).layout == "clicks"
    assert acts_of("shop", environment={"DATA": str(films)}, here=tmp_path / "data").clock
    assert acts_of("data/ml/ratings.csv", environment=nothing, here=tmp_path).layout == "ratings"
    assert acts_of(str(films), environment=nothing, here=tmp_path).layout == "ratings"
    with pytest.raises(
        NotReadable, match=r"none is not there: name a file, a folder, or one of ml, shop"
    ):
        acts_of("none", environment=nothing, here=tmp_path)


def test_the_log_has_each_act_in_its_person_s_partition_by_time(tmp_path: Path) -> None:
    acts = acts_of(str(dataset(tmp_path / "ml")))
    for partitions in (1, 3):
        log = to_log(acts, partitions)
        assert log.items == acts.items
        found = []
        for p, records in enumerate(log.events):
            rows = list(records)
            assert [offset for offset, _, _ in rows] == [*range(len(rows))]
            assert [at for _, at, _ in rows] == sorted(at for _, at, _ in rows)
            for _, at, it in rows:
                assert isinstance(it, Action)
                assert events.DECODER.decode(events.encode(it)) == it
                assert partition_of(it.person.encode(), partitions) == p
                assert it.known
                assert it.occurred_at == it.received_at == at
                found.append((at, it.item_id, it.action, it.category))
        wanted = [
            (at, acts.item_ids[item], ACTIONS[code].name, acts.items[item].category)
            for at, item, code in zip(acts.time, acts.item, acts.action, strict=True)
        ]
        assert sorted(found) == sorted(wanted)
        if partitions == 1:
            assert found == wanted  # so that the n-th act has offset n
    assert len({it.person for _, _, it in to_log(acts, 1).events[0]}) == len(acts.people)


def test_a_lake_is_read_as_the_flows_decode_it(tmp_path: Path) -> None:
    lake = Lake(Store(str(tmp_path)))
    catalogue = [Item(item_id=f"i{n}", category="Drama") for n in range(4)]
    puts = [msgspec.json.encode(PutItem(item=it, received_at=DAY)) for it in catalogue]
    put(lake, [batch(0, puts, [DAY] * 4)], ITEMS.name)
    served = events.Served(
        person=person(1), slate_id="s", placement="home", received_at=DAY, items=("i1",)
    )
    first = [action(1, 1, DAY + 5), action(2, 2, DAY), POISON, action(9, 1, DAY)]
    again = [action(1, 1, DAY + 5), events.encode(served), action(3, 2, DAY + 9)]
    put(lake, [batch(0, first, [DAY + 9] * 4), batch(4, again, [DAY + 9] * 3)])
    put(lake, [batch(0, [action(51, 3, DAY + 7)], [DAY + 9], partition=3)])
    acts = acts_of(str(tmp_path))
    named = zip(acts.person.tolist(), acts.item.tolist(), strict=True)
    assert [(acts.people[who], acts.item_ids[what]) for who, what in named] == [
        (person(2), "i2"),
        (person(1), "i1"),
        (person(3), "i1"),
        (person(2), "i3"),
    ]
    assert (np.diff(acts.time) >= 0).all()
    assert acts.target.all()
    assert acts.layout == "lake"
    assert acts.dropped == {"undecodable": 1, "duplicate": 1, "not_in_catalogue": 1}
    assert {it.item_id: it.category for it in acts.items} == {f"i{n}": "Drama" for n in range(4)}


def test_a_lake_without_acts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest" / "events").mkdir(parents=True)
    with pytest.raises(NotReadable, match="is no lake, or an empty one: name the folder or URL of"):
        acts_of(str(tmp_path))
    put(Lake(Store(str(tmp_path))), [batch(0, [action(1, 1, DAY)], [DAY])])
    with pytest.raises(NotReadable, match="holds no act that can be read: 1 lines have not in cat"):
        acts_of(str(tmp_path))


READ = """
import os, sys
from infra.apps.bench.cpu import peak_memory
from infra.apps.evaluate.data import acts_of, to_log
acts = acts_of(sys.argv[1])
log = to_log(acts, 1)
print(len(acts.time), len(log.events[0]), peak_memory(os.getpid()) >> 20)
"""


@pytest.mark.check
@whole_only
def test_a_million_clicks_and_their_log_take_half_a_gigabyte(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    sessions = np.sort(chance.integers(0, 250_000, 1_000_000))
    times = 1_700_000_000_000 + sessions * 10_000 + chance.integers(0, 600_000, len(sessions))
    rows = zip(sessions.tolist(), times.tolist(), (sessions % 40_009).tolist(), strict=True)
    text = "session_id,timestamp,item_id\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows)
    (tmp_path / "clicks.csv").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, check=True
    )
    read, logged, megabytes = map(int, done.stdout.split())
    assert read == logged > 990_000  # equal clicks are one
    assert megabytes < 500
