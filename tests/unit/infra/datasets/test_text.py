"""Encodings and line ends: recognised, said, and a line that is none costs itself."""

from __future__ import annotations

import codecs
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.datasets.lines import MAX_LINE_BYTES, stretches
from infra.datasets.options import ReadOptions
from infra.datasets.rows import Fault
from infra.datasets.text import utf8
from tests.unit.infra.datasets.reading import events, items

LINES = '{"item_id":"cup","title":"Tasse à café"}\n{"item_id":"pan","title":"鍋 🍳"}\n'
TABLE = "item_id,title\ncup,Misérables\npan,Noël\nbox,Box\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_unicode_is_recognised(tmp_path: Path, encoding: str, end: str) -> None:
    for text in (LINES, TABLE):
        found = items(tmp_path, text.replace("\n", end).encode(encoding))
        assert found.rows[0]["title"] in ("Tasse à café", "Misérables")
        assert (found.faults, found.error, found.notes.counts) == ([], "", {})


def test_utf_16_with_the_mark_of_big_endian(tmp_path: Path) -> None:
    data = codecs.BOM_UTF16_BE + LINES.encode("utf-16-be")
    assert items(tmp_path, data).rows[1]["title"] == "鍋 🍳"


def test_utf_32_is_refused_in_words_and_read_when_it_is_said(tmp_path: Path) -> None:
    data = LINES.encode("utf-32")
    assert "is UTF-32: convert it to UTF-8" in items(tmp_path, data).error
    assert len(items(tmp_path, data, ReadOptions(encoding="utf-32")).rows) == 2


def test_a_byte_that_is_no_utf_8_costs_its_line(tmp_path: Path) -> None:
    content = b'{"item_id":"a"}\n{"item_id":"b\xe9"}\n{"item_id":"c","title":"\xc3\xa9"}\n'
    found = items(tmp_path, content)
    assert [it["item_id"] for it in found.rows] == ["a", "c"]
    assert (found.lines, found.faults) == ([1, 3], [Fault(2, "line", "not_utf8")])
    assert found.notes.counts == {"not_utf8": 1}


def test_latin_1_is_read_when_it_is_said(tmp_path: Path) -> None:
    content = '{"item_id":"a","title":"é"}\n'.encode("latin-1")
    assert items(tmp_path, content, ReadOptions(encoding="latin-1")).rows[0]["title"] == "é"
    assert len(items(tmp_path, content).faults) == 1


def test_a_table_that_is_no_utf_8_is_latin_1_and_that_is_noted(tmp_path: Path) -> None:
    found = items(tmp_path, TABLE.encode("latin-1"))
    assert [it["title"] for it in found.rows] == ["Misérables", "Noël", "Box"]
    assert found.notes.counts["latin-1"] == 2


def test_a_table_of_windows_is_read_as_such(tmp_path: Path) -> None:
    table = "item_id,title\ncup,€ 5 “Tasse”\npan,Noël\n"
    for options in (ReadOptions(), ReadOptions(encoding="latin-1"), ReadOptions(encoding="cp1252")):
        found = items(tmp_path, table.encode("cp1252") + b"box,\x81\n", options)
        assert [it["title"] for it in found.rows] == ["€ 5 “Tasse”", "Noël", "\x81"]


def test_most_lines_that_are_not_ascii_decide(tmp_path: Path) -> None:
    bad = "bad,é\n".encode("latin-1")
    head, rest = TABLE.encode().split(b"\n", 1)
    found = items(tmp_path, head + b"\n" + bad + rest)
    assert [it["title"] for it in found.rows] == ["Misérables", "Noël", "Box"]
    assert found.faults == [Fault(2, "line", "not_utf8")]


def test_a_line_that_is_no_utf_8_costs_itself_in_a_table(tmp_path: Path) -> None:
    found = items(tmp_path, TABLE.encode() + "tin,é\n".encode("latin-1") + b"zoo,Zoo\n")
    assert [it["item_id"] for it in found.rows] == ["cup", "pan", "box", "zoo"]
    assert found.faults == [Fault(5, "line", "not_utf8")]
    marked = codecs.BOM_UTF8 + TABLE.encode("latin-1")
    assert len(items(tmp_path, marked).faults) == 2
    said = ReadOptions(encoding="utf-8")
    assert len(items(tmp_path, TABLE.encode("latin-1"), said).faults) == 2


def test_a_lone_surrogate_in_utf_16_costs_its_line(tmp_path: Path) -> None:
    good = '{"item_id":"a"}\n'
    data = (good + '{"item_id":"\ud83c"}\n' + good).encode("utf-16", "surrogatepass")
    found = items(tmp_path, data)
    assert (found.lines, found.faults) == ([1, 3], [Fault(2, "line", "not_utf8")])
    table = "item_id\na\n\ud83c\n".encode("utf-16", "surrogatepass")
    assert items(tmp_path, table).faults == [Fault(3, "line", "not_utf8")]
    cut = items(tmp_path, good.encode("utf-16") + b"{")
    assert (cut.lines, cut.faults) == ([1], [Fault(2, "line", "not_utf8")])


@pytest.mark.parametrize("name", ["klingon", "base64", "a\0b", ""])
def test_an_encoding_that_is_none_is_said(tmp_path: Path, name: str) -> None:
    assert "name one as utf-8" in items(tmp_path, LINES, ReadOptions(encoding=name)).error


def test_nul_costs_its_line_and_blank_lines_count(tmp_path: Path) -> None:
    found = items(tmp_path, b'\n{"item_id":"a"}\r\n \t\n{"item_id":"\0"}\n{"item_id":"b"}')
    assert [it["item_id"] for it in found.rows] == ["a", "b"]
    assert (found.lines, found.faults) == ([2, 5], [Fault(4, "line", "nul_byte")])


def test_lines_may_end_in_a_lone_cr(tmp_path: Path) -> None:
    found = items(tmp_path, '{"item_id":"a"}\r{"item_id":"b"}\r')
    assert found.lines == [1, 2]
    assert len(items(tmp_path, TABLE.replace("\n", "\r")).rows) == 3


def test_a_line_may_be_as_long_as_the_api_takes(tmp_path: Path) -> None:
    head, tail = b'{"item_id":"', b'"}'
    fits = head + b"x" * (MAX_LINE_BYTES - len(head + tail)) + tail
    found = items(tmp_path, fits + b"\n" + fits + b" \n" + fits)
    assert (found.lines, found.faults) == ([1, 3], [Fault(2, "line", "too_long")])
    assert events(tmp_path, fits + b" ").faults == [Fault(1, "line", "too_long")]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_any_cut_into_blocks_gives_the_same_lines(data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(data)]
    parts = [data[a:b] for a, b in pairwise(places)]
    found = [*stretches(iter(parts))]
    once = [*stretches(iter([data]))]
    assert [it for part in found for it in part.lines] == [it for p in once for it in p.lines]
    assert [n for part in found for n in part.numbers] == [n for p in once for n in p.numbers]
    assert [it for part in found for it in part.faults] == [it for p in once for it in p.faults]


@given(st.text(max_size=50), st.sampled_from(["utf-8-sig", "utf-16", "utf-32"]), st.integers(1, 7))
def test_text_of_any_encoding_is_the_same_text(text: str, encoding: str, size: int) -> None:
    data = text.encode(encoding)
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    assert b"".join(utf8(parts, encoding)[0]) == text.encode().removeprefix(codecs.BOM_UTF8)
