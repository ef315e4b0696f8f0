"""Sets that are damaged, odd or of two readers: counts of what was dropped, or an error with the remedy."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.datasets.acts import read_acts
from infra.datasets.layouts.clocks import START_MS
from infra.datasets.rows import NotReadable
from tests.unit.infra.datasets.test_acts import RATINGS, S, check, put, table

HEADER = "user_id,item_id,rating,timestamp\n"
REFUSED = {
    "empty": ("", "x.csv is empty: check that it was written"),
    "blank": (" \n\n", "x.csv is empty"),
    "a header alone": (HEADER, "x.csv holds no act: check that it was written"),
    "no time": (
        f"{HEADER}1,a,5,12/1/2010 8:26\n2,b,4,12/2/2010 8:26\n",
        "x.csv holds no act that can be read: 2 lines have no time, the first is line 2:"
        " write times as ISO 8601, or as seconds or milliseconds since 1970",
    ),
    "no people": ("item_id,timestamp\na,1\n", "is no data set: it has no column of people: put the"),
    "no names": ("0.5,0.1,0.7\n0.1,0.2,0.3\n", "x.csv is no data set: it has no header"),
    "prose": ("The data of a shop.\nIt has no header: none.\n", "x.csv is no data set"),
    "features": ("2 1:0.74 6:0.87\n1 2:0.5 4:0.6\n", "x.csv is no data set"),
    "one array": ('[{"item_id":"a"}]', "x.csv is no data set"),
    "other objects": ('{"asin":"a","overall":5}\n', "x.csv is no data set: its objects have no item_id"),
    "items alone": ("item_id,title\na,Up\n", "x.csv holds items and no acts: name the file of the"),
    "labels of one class, 0": (
        "user_id,item_id,label\n1,a,0\n2,b,0\n",
        "x.csv holds no choice: its greatest rating, or label, is 0",
    ),
    "actions against": (
        f"user_id,item_id,event,timestamp\n1,a,dislike,{S}\n",
        "x.csv holds no choice: none of its actions speaks for an item",
    ),
    "prefixes": (
        "session_id:token\titem_id_list:token_seq\titem_id:token\n1\ta b\tc\n",
        "x.csv is no data set: its lines hold prefixes of sequences",
    ),
    "two readers": (
        "1,2,3\n2,3,4,5\n3,1,2\n",
        "x.csv can be read as baskets and as sequences: say which it is: --layout baskets, or --layout"
        " sequences",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_none_is_refused_with_the_remedy(tmp_path: Path, name: str) -> None:
    content, error = REFUSED[name]
    path = put(tmp_path, x_csv=content) / "x.csv"
    with pytest.raises(NotReadable) as refused:
        read_acts(path)
    assert str(refused.value).startswith(str(path))
    assert error in str(refused.value)


def test_the_layout_that_is_said_decides_between_two_that_fit(tmp_path: Path) -> None:
    path = put(tmp_path, x_csv=REFUSED["two readers"][0]) / "x.csv"
    assert len(check(read_acts(path, layout="baskets")).time) == 10
    assert len(check(read_acts(path, layout="sequences")).time) == 7
    with pytest.raises(NotReadable, match="cannot be read as ratings: its content is that of"):
        read_acts(path, layout="ratings")


def test_a_folder_of_several_sets_names_them(tmp_path: Path) -> None:
    with pytest.raises(NotReadable, match="holds no data set: no file"):
        read_acts(tmp_path)
    put(
        tmp_path, b_txt="1 2 3\n2 3\n", a_csv=RATINGS["csv"], tags_csv="userId,movieId,tag\n1,a,x\n"
    )
    with pytest.raises(NotReadable, match=r"holds 2 sets: a.csv \(ratings\); b.txt \(sequences\)"):
        read_acts(tmp_path)
    assert read_acts(tmp_path, layout="sequences").layout == "sequences"
    put(tmp_path, ratings_csv=RATINGS["csv"])
    assert read_acts(tmp_path).layout == "ratings"  # its published name is more than a cut of it
    with pytest.raises(NotReadable, match="nothing is not there"):
        read_acts(tmp_path / "nothing")


def test_what_is_no_act_is_dropped_and_counted(tmp_path: Path) -> None:
    text = (
        f"{HEADER}1,a,5,{S}\n"
        f"1,a,5,{S}\n"
        f"{HEADER}"
        f"2,b,nan,{S}\n2,b,,{S}\n2,b,inf,{S}\n2,b,good,{S}\n"
        "2,b,5,nan\n2,b,5,\n2,b,5,soon\n"
        "2,b,5,-86400\n2,b,5,9999999999999\n"
        f"nan,b,5,{S}\n,b,5,{S}\n2,,5,{S}\n2,undefined,5,{S}\n"
        f"2,b,5\n2,b,5,{S},6\n"
        f"2,{'b' * 300},5,{S}\n"
        f"3,c,1,{S + 1}\n"
    )
    acts = check(read_acts(put(tmp_path, x_csv=text)))
    assert table(acts) == [("1", "a", "like", True), ("3", "c", "view", False)]
    assert acts.dropped == {
        "duplicate": 1,
        "header_again": 1,
        "no_rating": 4,
        "no_time": 3,
        "time_out_of_range": 2,
        "no_person": 2,
        "no_item": 3,
        "wrong_columns": 2,
    }
    assert acts.notes.texts["no_time"].endswith("the first is of line 9")
    assert acts.notes.counts["no_item"] == 3


def test_seconds_milliseconds_dates_and_iso_in_one_column_are_told_apart(tmp_path: Path) -> None:
    times = ["1700000000", "1700000001000", "2023-11-14T22:13:22Z", "2023-11-15 00:13:23+02:00"]
    times += ["1700000004000000", "1700000005.5", "20231116"]
    text = HEADER + "".join(f"1,i{n},5,{it}\n" for n, it in enumerate(times))
    acts = check(read_acts(put(tmp_path, x_csv=text)))
    assert [acts.item_ids[it] for it in acts.item.tolist()] == [f"i{n}" for n in range(7)]
    assert ((acts.time - S * 1000) / 1000).tolist() == [0, 1, 2, 3, 4, 5.5, 92800]


def test_times_from_a_set_s_own_beginning_are_put_where_a_product_s_are(tmp_path: Path) -> None:
    acts = check(read_acts(put(tmp_path, x_csv=f"{HEADER}1,a,5,0\n2,b,1,86400\n2,c,1,-1\n")))
    assert (acts.time - START_MS).tolist() == [0, 86_400_000]
    assert acts.notes.counts["times_moved"] == 1
    assert acts.dropped == {"time_out_of_range": 1}


def test_one_person_one_item_and_one_second_are_read(tmp_path: Path) -> None:
    person = check(read_acts(put(tmp_path, x_csv=f"{HEADER}1,a,5,{S}\n1,b,1,{S}\n") / "x.csv"))
    assert (len(person.people), len(person.item_ids)) == (1, 2)
    item = check(read_acts(put(tmp_path, x_csv=f"{HEADER}1,a,5,{S}\n2,a,1,{S}\n") / "x.csv"))
    assert (len(item.people), len(item.item_ids)) == (2, 1)
    assert {*item.time.tolist()} == {S * 1000}
    one = check(read_acts(put(tmp_path, x_csv="1 a1\n") / "x.csv"))
    assert table(one) == [("1", "a1", "click", True)]


def test_a_sequence_of_ten_thousand_keeps_its_order(tmp_path: Path) -> None:
    items = [f"i{n * 7919 % 10_007}" for n in range(10_000)]
    acts = check(read_acts(put(tmp_path, x_txt=f"1 {' '.join(items)}\n2 i5 i6\n")))
    mine = acts.item[acts.person == 0].tolist()
    assert [acts.item_ids[it] for it in mine] == items
    assert (np.diff(acts.time[acts.person == 0]) > 0).all()


def test_labels_of_one_class_are_all_likes_and_said(tmp_path: Path) -> None:
    text = (
        f"user_id:token\titem_id:token\tlabel:float\ttimestamp:float\n1\ta\t1\t{S}\n2\tb\t1\t{S}\n"
    )
    acts = check(read_acts(put(tmp_path, x_inter=text)))
    assert acts.target.all()
    assert acts.notes.counts["all_likes"] == 2


def test_ids_of_mixed_types_are_texts(tmp_path: Path) -> None:
    text = f"{HEADER}1,7,5,{S}\nx1,07,5,{S + 1}\n1.0,7.0,5,{S + 2}\n 1 ,café,5,{S + 3}\n"
    acts = check(read_acts(put(tmp_path, x_csv=text)))
    assert [it[:2] for it in table(acts)] == [
        ("1", "7"),
        ("x1", "07"),
        ("1.0", "7.0"),
        ("1", "café"),
    ]
    whole = f"{HEADER}1.0,7.0,5,{S}\n2.0,8.0,5,{S + 1}\n"
    acts = check(read_acts(put(tmp_path, x_csv=whole)))
    assert [it[:2] for it in table(acts)] == [("1", "7"), ("2", "8")]


def test_items_without_texts_or_that_are_damaged_are_bare(tmp_path: Path) -> None:
    films = "movieId,title,genres\na,nan,\nb,Bo\n,No id,x\nc,Up,(no genres listed)\n"
    acts = check(read_acts(put(tmp_path, ratings_csv=RATINGS["csv"], movies_csv=films)))
    by_id = {it.item_id: it for it in acts.items}
    assert {name: (it.title, it.category) for name, it in by_id.items()} == {
        "a": ("", ""),
        "b": ("", ""),
        "c": ("Up", ""),
    }
    assert acts.notes.counts["items_left_out"] == 2


def test_compressed_data_that_is_cut_is_refused(tmp_path: Path) -> None:
    rows = "".join(
        f"{n % 50},{n % 999 * 7919 % 1000},5,{S + n * n % 7919}\n" for n in range(50_000)
    )
    data = gzip.compress((HEADER + rows).encode())
    path = put(tmp_path, x_csv=data[: len(data) // 2]) / "x.csv"
    with pytest.raises(
        NotReadable, match=r"x.csv is cut off within its gzip data, after line [\d,]+"
    ):
        read_acts(path)
    put(tmp_path, x_csv=b"PK\x03\x04zip")
    with pytest.raises(NotReadable, match=r"x.csv is a zip archive: unpack or export it"):
        read_acts(path)


def test_an_event_that_cannot_be_read_is_dropped_and_counted(tmp_path: Path) -> None:
    good = '{"user_id":"kim","item_id":"a","action":"click","occurred_at":"2023-11-14T22:13:20Z"}'
    bad = [
        good.replace('"occurred_at"', '"sent_at"'),
        good.replace("click", "dance"),
        good.replace('"kim"', "null"),
        good.replace('"a"', '""'),
        good[:-1],
        good,
    ]
    acts = check(read_acts(put(tmp_path, x_ndjson="\n".join([good, *bad]))))
    assert len(acts.time) == 1
    assert acts.dropped == {
        "no_time": 1,
        "other_action": 1,
        "no_person": 1,
        "no_item": 1,
        "malformed_json": 1,
        "duplicate": 1,
    }


CELLS = [
    "1",
    "a",
    "",
    "4.5",
    "nan",
    f"{S}",
    "2023-11-14T22:13:20Z",
    "-1",
    '"',
    "é",
    "user_id",
    "inf",
    "0",
]


@given(
    header=st.sampled_from(
        ["", HEADER, "session_id,item_id,timestamp\n", '{"item_id":1}\n', "1 2 3\n"]
    ),
    rows=st.lists(st.lists(st.sampled_from(CELLS), max_size=5), max_size=12),
    by=st.sampled_from([",", " ", "\t", "::", "|"]),
)
def test_whatever_a_file_holds_it_is_read_or_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, header: str, rows: list[list[str]], by: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.csv"
    path.write_text(header.replace(",", by) + "\n".join(by.join(it) for it in rows))
    try:
        acts = read_acts(path)
    except NotReadable as error:
        refused = error
    else:
        check(acts)
        return
    assert refused.sentence.startswith(str(path))
    assert refused.remedy
