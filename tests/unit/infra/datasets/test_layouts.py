"""NDJSON and delimited text: recognised by content, columns by name or as they are mapped."""

from __future__ import annotations

import os
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.datasets import delimited, sources
from infra.datasets.lines import stretches
from infra.datasets.options import ReadOptions
from infra.datasets.rows import Fault, Notes
from infra.datasets.text import Decoder
from tests.unit.infra.datasets.reading import events, items, whole

VIEW = {"user_id": "kim", "item_id": "cup", "action": "view"}


@pytest.mark.parametrize("by", delimited.DELIMITERS)
def test_the_delimiter_is_seen_in_the_header(tmp_path: Path, by: str) -> None:
    lines = ["user_id,item_id,action,occurred_at", "kim,cup,view,2026-11-27T09:00:00Z"]
    found = events(tmp_path, "\n".join(it.replace(",", by) for it in lines))
    assert found.rows == [{**VIEW, "occurred_at": "2026-11-27T09:00:00.000Z"}]
    assert found.lines == [2]
    assert found.notes.counts == {}


def test_values_have_the_types_of_their_fields(tmp_path: Path) -> None:
    found = items(
        tmp_path,
        "item_id;title;categories;tags;available;embedding;attributes.colour;attributes.size;"
        "published_at;price\n"
        ' 7 ; 1984 ;Crime|Drama;["a","b"];No;0.5|1;red;12.5;1939-08-15;9\n'
        "8;;;;;;;;;\n",
    )
    assert found.rows == [
        {
            "item_id": "7",
            "title": " 1984 ",
            "categories": ["Crime", "Drama"],
            "tags": ["a", "b"],
            "available": False,
            "embedding": [0.5, 1],
            "attributes": {"colour": "red", "size": 12.5},
            "published_at": "1939-08-15T00:00:00.000Z",
        },
        {"item_id": "8"},
    ]
    assert found.notes.texts["columns_not_read"].endswith(": price")


def test_columns_are_mapped_and_constants_put_in(tmp_path: Path) -> None:
    options = ReadOptions(
        {"item_id": "sku", "user_id": "who", "context.page": "page"},
        {"action": "view", "quantity": "2", "context.shop": "1"},
    )
    wanted = {**VIEW, "quantity": 2, "context": {"shop": 1, "page": "home"}}
    found = events(tmp_path, "who,sku,page,item_id,action\nkim,cup,home,other,cart\n", options)
    assert found.rows == [wanted]
    assert {*found.notes.texts} == {"columns_replaced"}
    assert found.notes.texts["columns_replaced"].endswith(": item_id, action")
    lines = '{"who":"kim","sku":"cup","page":"home","action":"cart","context":{"a":1}}\n{"who":1\n'
    found = events(tmp_path, lines, options)
    assert found.rows[0] == {**wanted, "context": {"a": 1, "page": "home", "shop": 1}}
    assert found.rows[1] == b'{"who":1', "the decoder of the import refuses it"
    assert found.notes.counts == {}
    found = items(tmp_path, '{"item_id":"a"}\n', ReadOptions({"title": "nme"}))
    assert found.notes.texts == {"keys_not_found": "no line has the key nme"}


@pytest.mark.parametrize(
    ("columns", "constants", "said"),
    [
        ({"item_id": "sku", "title": "sku"}, {}, "cannot have item_id and title of one column sku"),
        ({"item_id": "sku"}, {"item_id": "1"}, "cannot have item_id of a column and of a constant"),
        ({"iten_id": "sku"}, {}, "has no field iten_id: the fields are item_id, group_id"),
        ({"item_id": "none"}, {}, "has no column none, only sku, name"),
        (
            {"title": "name"},
            {},
            "has no column item_id, only sku, name: name the one that holds it",
        ),
        ({"item_id": "sku"}, {"available": "maybe"}, "cannot have that constant as available"),
    ],
)
def test_a_mapping_that_cannot_be_is_told(
    tmp_path: Path, columns: dict[str, str], constants: dict[str, str], said: str
) -> None:
    found = items(tmp_path, "sku,name\n1,Cup\n", ReadOptions(columns, constants))
    assert said in found.error
    assert found.rows == []


def test_options_of_an_import_are_for_items_and_for_events(tmp_path: Path) -> None:
    options = ReadOptions({"item_id": "sku", "user_id": "sku", "title": "name"}, {"action": "view"})
    for content in ("sku,name\n7,Cup\n", '{"sku":"7","name":"Cup"}\n'):
        assert items(tmp_path, content, options).rows == [{"item_id": "7", "title": "Cup"}]
    options = ReadOptions({"item_id": "sku", "user_id": "who", "title": "sku"}, {"action": "view"})
    found = events(tmp_path, "sku,who\ncup,kim\n", options)
    assert found.rows == [{"user_id": "kim", "item_id": "cup", "action": "view"}]


def test_the_null_of_a_database_is_not_said(tmp_path: Path) -> None:
    found = items(tmp_path, "item_id\ttitle\texpires_at\ttags\ncup\t\\N\t\\N\t\n\\N\ta\t\t\n")
    assert found.rows == [{"item_id": "cup"}, {"title": "a"}]


def test_a_column_that_is_there_twice_is_told_where_it_is_taken(tmp_path: Path) -> None:
    assert "has 2 columns item_id" in items(tmp_path, "item_id,item_id\n1,2\n").error
    assert items(tmp_path, "item_id,x,x\n1,2,3\n").error == ""


def test_a_header_is_bounded(tmp_path: Path) -> None:
    wide = ",".join(f"c{n}" for n in range(20_000)) + ",item_id\n"
    assert "has 20,001 columns, and 10,000 are the most" in items(tmp_path, wide).error
    million = ",".join(f"c{n}" for n in range(1_000_000)) + ",item_id\n"
    assert "has no header that can be read (line 1: too_long)" in items(tmp_path, million).error


def test_a_file_without_a_header_is_told_and_not_shown(tmp_path: Path) -> None:
    found = events(tmp_path, "kim@example.org,cup,view,2026-11-20T09:00:00Z\n" * 2)
    assert "has no names of columns in its first line: put them there" in found.error
    assert "kim" not in found.error
    assert 'only "", b' in items(tmp_path, ",b\n1,2\n").error


def test_a_header_that_is_damaged_is_told(tmp_path: Path) -> None:
    for head in ('item_id,"a\rb"c\rd\n', 'item_id,"title\n', "item_id\0,title\n", 'a"\rb\n'):
        assert "file has no " in items(tmp_path, head + "1,b\n").error


def test_names_in_a_sentence_are_few_and_printable(tmp_path: Path) -> None:
    error = items(tmp_path, ",".join(f"c\x1b{n}" for n in range(50)) + "\n").error
    assert "c?0, " in error
    assert "and 40 more" in error


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"item_id":"a"}]', "is one JSON array: write each object in a line of its own"),
        ('[\n  {"item_id":"a"},\n  {"item_id":"b"}\n]', "is one JSON array"),
        ('[{"item_id":"a"},\n{"item_id":"b"}]', "is one JSON array"),
        ('[\n {\n "item_id": "a"\n}\n]', "is one JSON array"),
        ('{\n "item_id": "a"\n}', "is JSON with one object over several lines"),
    ],
)
def test_json_that_is_no_ndjson_is_told(tmp_path: Path, content: str, said: str) -> None:
    assert said in items(tmp_path, content).error


def test_a_damaged_first_line_of_ndjson_costs_itself(tmp_path: Path) -> None:
    found = items(tmp_path, 'd":"x"}\n{"item_id":"a"}\n{"item_id":"b"}\n')
    assert found.rows == [b'd":"x"}', {"item_id": "a"}, {"item_id": "b"}]
    for damaged in ("[1]", "[", "{", '[{"item_id":"x"}]', 'd":"x"}', '"x"', "7"):
        assert items(tmp_path, f'{damaged}\n{{"item_id":"a"}}\n').rows[1] == {"item_id": "a"}
    noise = "-- a dump\n" * 8
    assert len(items(tmp_path, noise + '{"item_id":"a"}\n{"item_id":"b"}\n').rows) == 10
    found = items(tmp_path, '[\n{"item_id":"a"},\n{"item_id":"b"}\n]\n')
    assert "is one JSON array" in found.error


def test_quoted_cells_hold_delimiters_quotes_and_line_ends(tmp_path: Path) -> None:
    found = items(
        tmp_path,
        '"item_id",title\r\n1,"Seven, the ""film"""\r\n2,"two\r\n\r\nlines"\r\n3,5" nail\r\n',
    )
    assert [it["title"] for it in found.rows] == ['Seven, the "film"', "two\n\nlines", '5" nail']
    assert found.lines == [2, 3, 6]


def test_a_quote_that_does_not_end_costs_its_line(tmp_path: Path) -> None:
    found = items(tmp_path, 'item_id,title\n1,"open\n2,b\n3,c\n')
    assert [it["item_id"] for it in found.rows] == ["2", "3"]
    assert found.faults == [Fault(2, "line", "open_quote")]
    found = items(tmp_path, 'item_id,title\n1,"open\n2,b\n3,"c\n4,d\n')
    assert [it["item_id"] for it in found.rows] == ["2", "4"]
    assert [it.line for it in found.faults] == [2, 4]
    many = "".join(f"{n},b\n" for n in range(300_000))
    found = items(tmp_path, f'item_id,title\nx,"open\n{many}')
    assert (len(found.rows), found.faults) == (300_000, [Fault(2, "line", "open_quote")])


def test_many_quotes_that_do_not_end_cost_their_lines(tmp_path: Path) -> None:
    rows = [f"{n},{chr(34) if n % 100 == 3 else ''}5 inch\n" for n in range(60_000)]
    for head in ("", "\ufeff"):
        found = items(tmp_path, f"{head}item_id,title\n" + "".join(rows))
        assert (found.error, len(found.rows), len(found.faults)) == ("", 59_400, 600)
    found = items(tmp_path, "item_id,title\n" + 'b"x,"\n' * 400_000)
    assert (found.error, len(found.faults)) == ("", 400_000)


def test_many_quotes_that_end_in_no_cell_of_theirs_end_the_file_in_words(tmp_path: Path) -> None:
    found = items(tmp_path, "item_id,title\n" + ('"a,b\n' * 30_000 + 'a",b,c\n') * 2)
    assert "has too many quotes that do not end" in found.error


def test_a_row_of_another_width_costs_itself(tmp_path: Path) -> None:
    found = items(tmp_path, "item_id,title\n1\n2,b,c\n3,d\n")
    assert (len(found.rows), [it.code for it in found.faults]) == (1, ["wrong_columns"] * 2)


def test_a_value_that_its_field_does_not_take_costs_its_row(tmp_path: Path) -> None:
    content = "user_id,item_id,action,rank,occurred_at\na,b,view,first,\na,b,view,,someday\n"
    assert events(tmp_path, content).faults == [
        Fault(2, "rank", "wrong_type"),
        Fault(3, "occurred_at", "not_a_time"),
    ]


def test_ids_written_with_a_fraction_are_read_without_and_that_is_noted(tmp_path: Path) -> None:
    found = items(tmp_path, "item_id,group_id\n1.0,1.0\n2.0,1.5\n,\n")
    assert [it.get("item_id") for it in found.rows] == ["1", "2", None]
    assert [it.get("group_id") for it in found.rows] == ["1.0", "1.5", None]
    assert found.notes.counts == {"ids_with_fraction": 2}
    blanks = "".join(f"a{n},\n" for n in range(2000))
    for cells, ids in ((("7.0", "8.5"), ["7", "8.5"]), (("x", "8.0"), ["x", "8.0"])):
        found = items(tmp_path, f"item_id,group_id\n{blanks}a,{cells[0]}\nb,{cells[1]}\n")
        assert [it["group_id"] for it in found.rows[2000:]] == ids
        assert bool(found.notes.counts) == (cells[0] == "7.0")


@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_faults_or_told(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    for head in (b"", b"item_id,title\n", b'{"item_id":"a"}\n'):
        found = items(folder, head + data)
        lines = (head + data).count(b"\n") + (head + data).count(b"\r") + 1
        assert all(1 <= it <= lines for it in found.lines)
        assert {*found.lines}.isdisjoint(it.line for it in found.faults)
        assert len({*found.lines}) == len(found.lines) == len(found.rows)


CELLS = st.sampled_from(["", "a", '"a"', '"', '"a,b"', '"a\nb"', 'a"b', '"a""b"', '""', "é"])


@given(st.lists(st.lists(CELLS, min_size=1, max_size=3)), st.lists(st.integers(0, 60)))
def test_any_cut_into_blocks_gives_the_same_rows(rows: list[list[str]], cuts: list[int]) -> None:
    data = "\n".join(",".join(it) for it in rows).encode()
    places = [0, *sorted(cuts), max(60, len(data))]
    parts = [data[a:b] for a, b in pairwise(places)]

    def read(blocks: list[bytes]) -> tuple[list[object], list[int], set[Fault]]:
        reader = delimited.Reader(",", Decoder(Notes(), is_utf8=False), 2)
        found = [*reader.rows(stretches(iter(blocks)))]
        faults = {it for part in found for it in part.faults}
        cells: list[object] = [it for part in found for it in part.cells]
        return cells, [it for part in found for it in part.lines], faults

    assert read(parts) == read([data])


def test_a_file_from_a_pipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b'{"item_id":"a"}\n',))
    writer.start()
    source = sources.items(path)
    source.size = 16
    assert whole(source).rows == [{"item_id": "a"}]
    writer.join()
