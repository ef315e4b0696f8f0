"""Any data set as columns: each layout is recognised by its content, and means what the protocols say."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard

from infra.datasets.acts import Acts, read_acts
from infra.datasets.layouts.clocks import LAST_AFTER_MS, START_MS, YEAR_MS
from infra.datasets.rows import NotReadable
from schemas.actions import ACTIONS

S = 1_700_000_000
"""A second, 2023-11-14T22:13:20Z."""


def put(folder: Path, **files: str | bytes) -> Path:
    """Writes files; ``_`` in a name stands for a dot."""
    for name, text in files.items():
        data = text.encode() if isinstance(text, str) else text
        (folder / name.replace("_", ".")).write_bytes(data)
    return folder


def table(acts: Acts) -> list[tuple[str, str, str, bool]]:
    """(person, item, action, target) of each act."""
    columns = zip(
        acts.person.tolist(),
        acts.item.tolist(),
        acts.action.tolist(),
        acts.target.tolist(),
        strict=True,
    )
    return [
        (acts.people[who], acts.item_ids[what], ACTIONS[code].name, target)
        for who, what, code, target in columns
    ]


def check(acts: Acts) -> Acts:
    """What holds of every set."""
    count = len(acts.time)
    columns = (acts.person, acts.item, acts.time, acts.action, acts.target, acts.basket, acts.rated)
    assert [len(it) for it in columns] == [count] * 7
    assert [it.dtype.str[1:] for it in columns] == ["i8", "i8", "i8", "i1", "b1", "i8", "f4"]
    assert (np.diff(acts.time) >= 0).all()
    assert {*acts.person.tolist()} == {*range(len(acts.people))}
    assert {*acts.item.tolist()} == {*range(int(acts.item.max()) + 1)}
    assert [it.item_id for it in acts.items] == acts.item_ids
    assert len({*acts.people}) == len(acts.people)
    assert len({*acts.item_ids}) == len(acts.item_ids)
    return acts


RATED = [("2", "b", "like", True), ("1", "a", "view", False), ("1", "c", "like", True)]
RATINGS = {
    "csv": f"userId,movieId,rating,timestamp\n1,a,3.5,{S + 1}\n1,c,4.0,{S + 2}\n2,b,5.0,{S}\n",
    "u_data": f"1\ta\t3\t{S + 1}\n1\tc\t4\t{S + 2}\n2\tb\t5\t{S}\n",
    "dat": f"1::a::7::{S + 1}\n1::c::8::{S + 2}\n2::b::10::{S}\n",
    "headerless_csv": f"1,a,3.0,{S + 1}\n1,c,4.0,{S + 2}\n2,b,5.0,{S}\n",
    "amazon": f"reviewerID;asin;overall;unixReviewTime\n1;a;3;{S + 1}\n1;c;4;{S + 2}\n2;b;5;{S}\n",
    "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    f"1\ta\t3.5\t{S + 1}.0\n1\tc\t4.0\t{S + 2}.0\n2\tb\t5.0\t{S}.0\n",
    "blanks": f"1 a 3 {S + 1}\n1 c 4 {S + 2}\n2 b 5 {S}\n",
}


@pytest.mark.parametrize("name", RATINGS)
def test_a_rating_of_four_fifths_of_the_greatest_is_a_like_and_a_target(
    tmp_path: Path, name: str
) -> None:
    acts = check(read_acts(put(tmp_path, any_bin=RATINGS[name])))
    assert table(acts) == RATED
    assert acts.layout == ("recbole" if name == "inter" else "ratings")
    assert acts.time.tolist() == [S * 1000, (S + 1) * 1000, (S + 2) * 1000]
    assert acts.clock
    assert not acts.dropped
    assert acts.rated.tolist()[0] == (10 if name == "dat" else 5)


def test_ratings_of_one_moment_are_in_order_of_person_and_item(tmp_path: Path) -> None:
    rows = ["2,a,5", "1,b,5", "10,a,5", "1,a,5"]
    text = "user,item,rating,time\n" + "\n".join(f"{it},{S}" for it in rows)
    acts = check(read_acts(put(tmp_path, ratings_csv=text)))
    assert [it[:2] for it in table(acts)] == [("1", "a"), ("1", "b"), ("10", "a"), ("2", "a")]
    assert acts.notes.counts["all_likes"] == 4


CLICKS = {
    "ms": ("SessionId\tTime\tItemId", "s1\t{0}000\ta", "s1\t{1}000\tb", "s2\t{2}000\ta"),
    "s": ("session_id,timestamp,item_id", "s1,{0},a", "s1,{1},b", "s2,{2},a"),
    "iso": (
        "time,item,session",
        "2023-11-14T22:13:20Z,a,s1",
        "2023-11-14 22:13:21Z,b,s1",
        "2023-11-15T00:13:22+02:00,a,s2",
    ),
    "headerless": ("s1,{0}000,a", "s1,{1}000,b", "s2,{2}000,a"),
    "people": ("s1 a {0}", "s1 b {1}", "s2 a {2}"),
    "named": (
        "user_id,item_id,action,timestamp",
        "s1,a,click,{0}",
        "s1,b,click,{1}",
        "s2,a,click,{2}",
    ),
    "yoochoose": (
        "s1,2023-11-14T22:13:20.000Z,a,0",
        "s1,2023-11-14T22:13:21.000Z,b,7",
        "s2,2023-11-14T22:13:22.000Z,a,S",
    ),
    "days": (
        "session_id;user_id;item_id;timeframe;eventdate",
        "s1;NA;a;500;2023-11-14",
        "s1;NA;b;1500;2023-11-14",
        "s2;7;a;2500;2023-11-14",
    ),
}


@pytest.mark.parametrize("name", CLICKS)
def test_clicks_are_targets_of_their_session(tmp_path: Path, name: str) -> None:
    text = "\n".join(CLICKS[name]).format(S, S + 1, S + 2)
    acts = check(read_acts(put(tmp_path, x_txt=text)))
    assert table(acts) == [
        ("s1", "a", "click", True),
        ("s1", "b", "click", True),
        ("s2", "a", "click", True),
    ]
    assert acts.layout == "clicks"
    assert np.diff(acts.time).tolist() == [1000, 1000]
    if name != "days":
        assert acts.time[0] == S * 1000
    if name == "yoochoose":
        assert {it.item_id: it.category for it in acts.items} == {"a": "", "b": "7"}


def test_named_actions_are_ours_and_a_view_among_clearer_acts_is_no_target(tmp_path: Path) -> None:
    rows = ["view,a", "addtocart,a", "transaction,b", "dance,b"]
    text = "visitorid,timestamp,event,itemid\n"
    text += "\n".join(f"7,{S + n}000,{it}" for n, it in enumerate(rows))
    acts = check(read_acts(put(tmp_path, events_csv=text)))
    assert table(acts) == [
        ("7", "a", "view", False),
        ("7", "a", "cart", True),
        ("7", "b", "purchase", True),
    ]
    assert acts.dropped == {"other_action": 1}
    only = text.splitlines()[:2]
    views = check(read_acts(put(tmp_path, events_csv="\n".join(only))))
    assert table(views) == [("7", "a", "view", True)]
    assert views.notes.counts["views_are_choices"] == 1


@pytest.mark.parametrize("text", ["1 a1\n1 b2\n2 a1\n1 c3\n", "1 a1 b2 c3\n2 a1\n"])
def test_sequences_are_laid_out_over_a_year_and_their_last_act_a_week_after(
    tmp_path: Path, text: str
) -> None:
    acts = check(read_acts(put(tmp_path, Beauty_txt=text)))
    assert (acts.layout, acts.clock) == ("sequences", False)
    assert table(acts)[:2] == [("1", "a1", "click", True), ("1", "b2", "click", True)]
    assert {it[:2] for it in table(acts)[2:]} == {("1", "c3"), ("2", "a1")}
    at = [START_MS + YEAR_MS // 6, START_MS + YEAR_MS // 2]
    assert acts.time.tolist() == at + [START_MS + YEAR_MS + LAST_AFTER_MS] * 2


def test_a_line_of_a_basket_is_a_target_once_a_second(tmp_path: Path) -> None:
    text = "85123A,71053,85123A\n71053\n\nPOST,85123A\n"
    acts = check(read_acts(put(tmp_path, baskets_csv=text)))
    assert (acts.layout, acts.clock) == ("baskets", False)
    assert [(what, code) for _, what, code, _ in table(acts)] == [
        (it, "cart") for it in ("85123A", "71053", "85123A", "71053", "POST", "85123A")
    ]
    assert acts.target.tolist() == [True, True, False, True, True, True]
    assert acts.basket.tolist() == [0, 0, 0, 1, 2, 2]
    assert ((acts.time - START_MS) // 1000).tolist() == [0, 1, 2, 1244, 2488, 2489]
    assert len(acts.people) == 3


def test_lines_of_orders_keep_their_clock_their_people_and_their_texts(tmp_path: Path) -> None:
    text = (
        "InvoiceNo,StockCode,Description,InvoiceDate,CustomerID\n"
        "536365,85123A,WHITE LAMP,2010-12-01 08:26,17850.0\n"
        "536365,71053,LANTERN,2010-12-01 08:26,17850.0\n"
        "536365,71053,LANTERN,2010-12-01 08:26,17850.0\n"
        "536366,71053,LANTERN,2010-12-01 08:28,\n"
    )
    acts = check(read_acts(put(tmp_path, retail_csv=text)))
    assert [it[0] for it in table(acts)] == ["17850"] * 3 + ["basket 536366"]
    assert acts.target.tolist() == [True, True, False, True]
    assert acts.basket.tolist() == [0, 0, 0, 1]
    assert acts.clock
    assert [it.title for it in acts.items] == ["WHITE LAMP", "LANTERN"]


EVENTS = [
    '{"user_id":"kim","item_id":7,"action":"view","occurred_at":"2023-11-14T22:13:20Z"}',
    '{"anonymous_id":"kim","item_id":"7","action":"click","occurred_at":1700000001}',
    '{"user_id":"kim","item_id":"b","action":"rate","value":4,"scale":{"min":1,"max":5},'
    '"occurred_at":"2023-11-14T22:13:22Z"}',
    '{"user_id":"kim","item_id":"c","action":"rate","value":1,"scale":{"min":1,"max":5},'
    '"occurred_at":"2023-11-14T22:13:23Z","event_id":"e"}',
]


def test_events_of_the_api_keep_their_actions_and_items_are_read_beside_them(
    tmp_path: Path,
) -> None:
    items = (
        '{"item_id":"7","title":"Cup","categories":["kitchen"],"tags":["red"],"owner_id":"ann"}\n'
        '{"item_id":"d","published_at":"2020-01-01"}\n'
        '{"item_id":"b","embedding":[NaN]}\n'
    )
    acts = check(read_acts(put(tmp_path, a_ndjson="\n".join(EVENTS), b_ndjson=items)))
    assert table(acts) == [
        ("kim", "7", "view", False),
        ("anonymous kim", "7", "click", True),
        ("kim", "b", "rate", True),
        ("kim", "c", "rated_down", False),
    ]
    assert acts.layout == "events"
    assert acts.item_ids == ["7", "b", "c", "d"]
    cup = acts.items[0]
    assert (cup.title, cup.category, cup.tags, cup.owner_id) == ("Cup", "kitchen", ("red",), "ann")
    assert acts.items[3].published_at == 1_577_836_800_000
    assert acts.notes.counts["items_left_out"] == 1
    csv = "user_id,item_id,action,occurred_at\nkim,7,view,2023-11-14T22:13:20Z\n"
    assert table(read_acts(put(tmp_path, c_csv=csv) / "c.csv")) == [("kim", "7", "view", True)]


FILMS = {
    "ratings_csv": (
        "movies_csv",
        'movieId,title,genres\na,"Up, (2009)",Animation|Comedy\nb,Bo,x\n',
    ),
    "ratings_dat": ("movies_dat", "a::Up, (2009)::Animation|Comedy\nb::Bo::(no genres listed)\n"),
    "u_data": (
        "u_item",
        "a|Up, (2009)|1-Jan-2009||http://x|0|0|0|1|0|1"
        + "|0" * 13
        + "\nb|Bo|||"
        + "|0" * 19
        + "\n",
    ),
    "ml_inter": (
        "ml_item",
        "item_id:token\tmovie_title:token_seq\tclass:token_seq\na\tUp, (2009)\tAnimation Comedy\n",
    ),
}


@pytest.mark.parametrize("name", FILMS)
def test_items_have_the_titles_and_categories_of_the_file_beside(tmp_path: Path, name: str) -> None:
    other, films = FILMS[name]
    source = {"ratings_dat": "dat", "ratings_csv": "csv", "ml_inter": "inter"}.get(name, name)
    put(tmp_path, **{name: RATINGS[source], other: films, "README": "Ratings, and more, of films"})
    put(tmp_path, ml_user="user_id:token\tage:token\n1\t24\n", tree_csv="categoryid,parent\n1,2\n")
    for path in (tmp_path, tmp_path / name.replace("_", ".")):
        acts = check(read_acts(path))
        by_id = {it.item_id: it for it in acts.items}
        assert (by_id["a"].title, by_id["a"].categories) == ("Up, (2009)", ("Animation", "Comedy"))
        assert by_id["c"].title == ""


def test_parquet_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {"user": [1.0, 1.0, 2.0], "item": ["a", "c", "b"], "rating": [3.5, 4.0, 5.0]}
    times = pa.array([S + 1, S + 2, S], pa.timestamp("s"))
    parquet.write_table(pa.table({**columns, "timestamp": times}), tmp_path / "x.parquet")
    assert table(check(read_acts(tmp_path))) == RATED


CODED: dict[str, Callable[[str], bytes]] = {
    "BOM": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "gzip": lambda text: gzip.compress(text.encode()),
    "zstd": lambda text: zstandard.compress(text.encode()),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "latin-1": lambda text: (text.replace(",c,", ",ç,")).encode("latin-1"),
}


@pytest.mark.parametrize("name", CODED)
def test_a_file_is_read_in_any_encoding_and_compression(tmp_path: Path, name: str) -> None:
    acts = check(read_acts(put(tmp_path, x_csv=CODED[name](RATINGS["csv"]))))
    found = [(who, what.replace("ç", "c"), *rest) for who, what, *rest in table(acts)]
    assert found == RATED


@pytest.mark.parametrize("header", ["user_id,item_id\n", ""])
def test_a_set_with_people_and_items_alone_is_sequences(tmp_path: Path, header: str) -> None:
    acts = check(read_acts(put(tmp_path, x_csv=f"{header}1,a\n1,b\n2,a\n")))
    assert (acts.layout, acts.clock, len(acts.time)) == ("sequences", False, 3)


def test_ratings_without_times_are_laid_out_as_sequences(tmp_path: Path) -> None:
    rows = [f"{n // 5} i{n} {1 + n % 5}" for n in range(40)]
    acts = check(read_acts(put(tmp_path, x_txt="\n".join(rows))))
    assert (acts.layout, acts.clock) == ("ratings", False)
    assert acts.target.sum() == 16
    assert len({*acts.time[-8:].tolist()}) == 1  # everyone's last act


def test_a_layout_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotReadable, match="no layout is called foo: name one of ratings, clicks"):
        read_acts(tmp_path, layout="foo")
