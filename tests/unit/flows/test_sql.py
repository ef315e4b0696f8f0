"""`freshet sql` and `freshet lake`: over exactly the files of the chain, read-only, errors in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flows.offline.view import distinct
from infra.cli.main import cli
from infra.lake.reader import Lake
from infra.lake.store import Store
from infra.lake.write import write
from infra.settings import Settings
from schemas import events, times
from schemas.lake import BY_TOPIC, TABLES
from schemas.topics import EVENTS, ITEMS
from serving.edge import items
from tests.support import lakes
from tests.support.lakes import DAY, HOUR, POISON, action, person, put


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Events in two partitions, with repeats and poison; a slate; a file that no entry names."""
    for variable in ("KAFKA_BOOTSTRAP", "REDIS_URL", "FRESHET_URL"):
        monkeypatch.delenv(variable, raising=False)
    lake = Lake(Store(str(tmp_path / "lake")))
    values = [action(n, n % 3, DAY + n) for n in range(20)]
    merge = events.encode(events.Merge(person=person(1), source=2, offset=5, n=1, received_at=DAY))
    put(lake, [lakes.batch(0, [*values, values[3], POISON], [DAY + n for n in range(22)])])
    put(lake, [lakes.batch(22, [values[4], merge, merge, action(99, 1, DAY)], [DAY + HOUR] * 4)])
    put(lake, [lakes.batch(0, values[:5], [DAY] * 5, partition=1)])
    write(lake.store, BY_TOPIC[EVENTS.name], [lakes.batch(26, values, [DAY] * 20)], "id", 4)
    return tmp_path


def freshet(*words: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, words)))


def sql(folder: Path, query: str, *more: object) -> list[dict[str, Any]]:
    done = freshet("sql", query, "--data-dir", folder, "--json", *more)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_table_has_a_view(folder: Path) -> None:
    for table in TABLES:
        described = sql(folder, f"DESCRIBE {table.view}")
        names = [row["column_name"] for row in described]
        assert names == ["day", "partition", *table.schema.names]
        (count,) = sql(folder, f"SELECT count(*) AS n FROM {table.view}")
        assert count["n"] == (31 if table.topic == EVENTS.name else 0)


def test_a_query_reads_typed_columns(folder: Path) -> None:
    query = (
        "SELECT action, count(*) AS n, max(occurred_at) AS last FROM events"
        " WHERE partition = 0 AND day = '2023-11-15' AND kind = 'action' GROUP BY action"
    )
    assert sql(folder, query) == [{"action": "click", "n": 23, "last": "2023-11-15T00:00:00.019Z"}]
    (row,) = sql(folder, "SELECT value, headers FROM events WHERE kind IS NULL")
    assert row == {"value": POISON.decode(), "headers": None}


def test_items_of_any_year_are_read(folder: Path) -> None:
    """Also of 1939, which is before the epoch, and of the first year and the last."""
    texts = ["1939-08-15", "0001-01-01", "9999-12-31", "1969-12-31T23:59:59.999Z"]
    values = [
        items.put(json.dumps({"published_at": text}).encode(), f"i{n}", DAY, 4).record.value
        for n, text in enumerate(texts)
    ]
    put(Lake(Store(str(folder / "lake"))), [lakes.batch(0, values, [DAY] * 4)], ITEMS.name)
    rows = sql(folder, "SELECT published_at AS at FROM items ORDER BY item_id")
    assert [row["at"] for row in rows] == [
        times.render(times.parse_any_year(text, "at")) for text in texts
    ]
    (row,) = sql(folder, "SELECT count(*) AS n FROM items WHERE published_at < '1970-01-01'")
    assert row == {"n": 3}
    done = freshet("sql", "SELECT published_at FROM items", "--data-dir", folder)
    assert "1939-08-15" in done.stdout


def test_distinct_events_are_those_that_the_fold_takes(folder: Path) -> None:
    query = 'SELECT partition, "offset" FROM events_distinct ORDER BY ALL'
    found = [(row["partition"], row["offset"]) for row in sql(folder, query)]
    lake, settings = Lake(Store(str(folder / "lake"))), Settings()
    taken = [
        (p, offset)
        for p in (0, 1)
        for batch in distinct(lake.read(EVENTS.name, p, *lake.bounds(EVENTS.name, p)), settings)
        for offset, _, _ in batch.records
    ]
    assert found == taken
    # 20, a repeat, poison; a repeat, a merge, its repeat, one more: a person's partition is one
    assert [offset for p, offset in found if p == 0] == [*range(20), 23, 25]
    assert len(found) == 27


def test_rows_are_printed_as_a_table_up_to_a_limit(folder: Path) -> None:
    done = freshet("sql", "SELECT item_id FROM events", "--data-dir", folder, "--rows", 3)
    assert done.exit_code == 0
    assert "item_id" in done.stdout
    assert "i2" in done.stdout
    assert "only the first 3 rows are shown" in done.stderr


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("SELECT nothing FROM events", 'Binder Error: Referenced column "nothing" not found'),
        ("SELEC 1", "Parser Error: syntax error"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled"),
        ("COPY events TO '/tmp/x.csv'", "disabled"),
        ("SET enable_external_access = true", "configuration"),
        ("DELETE FROM events", "Error"),
        ("SELECT * FROM folder", "Catalog Error: Table with name folder does not exist"),
    ],
)
def test_a_bad_query_is_one_sentence(folder: Path, query: str, sentence: str) -> None:
    done = freshet("sql", query, "--data-dir", folder)
    assert done.exit_code == 1
    assert done.stderr.startswith("freshet: ")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_torn_file_is_named(folder: Path) -> None:
    path = sorted((folder / "lake" / "data").rglob("*.parquet"))[0]
    path.write_bytes(path.read_bytes()[:-10])
    done = freshet("sql", "SELECT sum(octet_length(value)) FROM events", "--data-dir", folder)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"freshet: {path.relative_to(folder / 'lake')} is torn")
    done = freshet("lake", "status", "--check", "--data-dir", folder, "--json")
    assert done.exit_code == 1
    by_topic = {it["topic"]: it for it in json.loads(done.stdout)}
    assert len(by_topic["events"]["torn"]) == 1
    assert by_topic["slates"]["torn"] == []


def test_the_lake_is_shown_compacted_and_swept(folder: Path) -> None:
    (status, *_) = json.loads(freshet("lake", "status", "--data-dir", folder, "--json").stdout)
    assert status["positions"] == {"0": [0, 26], "1": [0, 5]}
    assert (status["records"], status["files"], status["compacted"]) == (31, 3, 0)
    assert "31" in freshet("lake", "status", "--data-dir", folder).stdout
    done = freshet("lake", "compact", "--data-dir", folder)
    assert done.exit_code == 0, done.output
    assert "22 records of 1 files" in done.stdout
    (status, *_) = json.loads(freshet("lake", "status", "--data-dir", folder, "--json").stdout)
    assert (status["records"], status["files"], status["compacted"]) == (31, 3, 1)
    assert sql(folder, "SELECT count(*) AS n FROM events") == [{"n": 31}]
    swept = json.loads(freshet("lake", "sweep", "--data-dir", folder, "--json").stdout)
    assert swept == {"objects": 0, "bytes": 0, "entries": 0}
    done = freshet("lake", "sweep", "--grace", 0, "--data-dir", folder)
    assert done.stdout.startswith("1 files deleted")
    assert sql(folder, "SELECT count(*) AS n FROM events") == [{"n": 31}]
