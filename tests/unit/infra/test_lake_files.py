"""The lake gives back what was written, byte for byte, in any layout of its rows."""

from __future__ import annotations

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.lake import file
from infra.lake.compact import compact
from infra.lake.file import RECORD_COLUMNS, File
from infra.lake.reader import Lake
from infra.lake.store import Store
from infra.lake.write import columns
from infra.log_reader import Batch, OffTheLog
from schemas import dead_letters, events, items, lake, slates
from schemas.access.audit import AuditRecord
from schemas.lake import BY_TOPIC, TABLES
from schemas.topics import BY_NAME, EVENTS
from tests.support import lakes
from tests.support.lakes import DAY, HOUR, POISON, action, everything, person, put


@pytest.fixture
def held(tmp_path) -> Lake:  # type: ignore[no-untyped-def]
    return Lake(Store(str(tmp_path)))


def test_every_topic_has_a_table_with_its_version() -> None:
    assert [table.topic for table in TABLES] == list(BY_NAME)
    for table in TABLES:
        assert table.schema.names[:5] == ["offset", "timestamp", "key", "value", "headers"]
        assert table.schema.metadata[b"version"] == b"1"
        assert len(set(table.schema.names)) == len(table.schema.names)
        assert table.cluster in table.schema.names


def test_typed_columns_say_what_the_record_says() -> None:
    served = events.Served(
        person=person(1), slate_id="s1", placement="home", received_at=DAY, items=("i1", "i2")
    )
    link = events.Link(event_id="l", person=person(1), to=person(2), received_at=DAY)
    values = [action(1, 1, DAY), events.encode(served), events.encode(link), POISON, None]
    rows = columns(BY_TOPIC["events"], [lakes.batch(0, values, [DAY] * 5)]).to_pylist()
    assert [row["kind"] for row in rows] == ["action", "served", "link", None, None]
    assert [row["event_id"] for row in rows] == ["e1", None, "l", None, None]
    assert rows[0]["person"] == person(1)
    assert (rows[0]["item_id"], rows[0]["action"]) == ("i1", "click")
    assert rows[0]["slate_id"] is None
    assert rows[1]["items"] == ["i1", "i2"]
    assert rows[2]["linked_to"] == person(2)
    assert [row["value"] for row in rows] == values


def test_the_columns_of_a_purchase_and_of_what_was_served_agree_with_the_record() -> None:
    bought = events.Action(
        event_id="e",
        person=person(1),
        item_id="red",
        action="purchase",
        occurred_at=DAY,
        received_at=DAY,
        group="shirt",
        negative=True,
        amount=1999,
        currency="EUR",
        quantity=2,
        source=events.Source(client="till", mode="import"),
    )
    served = events.Served(
        person=person(1),
        slate_id="s1",
        placement="home",
        received_at=DAY,
        items=("red", "mug"),
        took_ms=1.5,
        fallback="content",
        release="2026-01-01.1",
        session_id="x",
        sources=("covisit", "explore"),
        swapped=(2,),
    )
    values = [events.encode(bought), events.encode(served), action(1, 1, DAY), POISON]
    rows = columns(BY_TOPIC["events"], [lakes.batch(0, values, [DAY] * 4)]).to_pylist()
    bought_row, served_row, plain, poison = rows
    assert bought_row.items() >= {
        "group_id": "shirt", "negative": True, "amount": 1999, "currency": "EUR", "quantity": 2,
        "client": "till", "mode": "import", "agent": "server", "sources": None, "took_ms": None,
    }.items()  # fmt: skip
    assert served_row.items() >= {
        "took_ms": 1.5, "fallback": "content", "release": "2026-01-01.1", "session_id": "x",
        "sources": ["covisit", "explore"], "swapped": [2], "group_id": None, "client": None,
        "quantity": None,
    }.items()  # fmt: skip
    assert (plain["negative"], plain["client"], plain["quantity"]) == (False, None, 1)
    assert {poison[name] for name in ("negative", "mode", "took_ms")} == {None}


@given(st.lists(st.integers(0, 5), max_size=40))
def test_a_record_has_the_same_columns_whatever_lies_beside_it(kinds: list[int]) -> None:
    served = events.Served(
        person=person(1), slate_id="s1", placement="home", received_at=DAY, items=("i1", "i2")
    )
    link = events.Link(event_id="l", person=person(1), to=person(2), received_at=DAY)
    merge = events.Merge(person=person(3), source=1, offset=2, n=0, received_at=DAY)
    others = [events.encode(it) for it in (served, link, merge)]
    several = [action(1, 1, DAY), *others, POISON, None]
    table = BY_TOPIC["events"]

    def rows(values: list[bytes | None]) -> list[tuple[object, ...]]:
        return list(zip(*(column.to_pylist() for column in table.typed(values)), strict=True))

    assert rows([several[n] for n in kinds]) == [rows([several[n]])[0] for n in kinds]


def test_a_document_that_is_no_text_is_null_and_its_record_whole() -> None:
    value = b'{"subject":"experiment","id":"a","expected_version":0,"received_at":1,"body":{"a":"\xff"}}'
    (row,) = columns(BY_TOPIC["control"], [lakes.batch(0, [value], [DAY])]).to_pylist()
    assert (row["id"], row["body"], row["value"]) == ("a", None, value)


def test_typed_columns_of_the_others() -> None:
    put_item = items.PutItem(
        item=items.Item(item_id="i1", title="Alien", group_id="g"), received_at=DAY
    )
    shown = slates.Slate(
        slate_id="s",
        served_at=DAY,
        placement="home",
        person=None,
        items=(
            slates.SlateItem(item_id="i1", rank=1, score=0.5, sources=("popular", "fresh")),
            slates.SlateItem(item_id="i2", rank=2, score=0.5, explore=True, swapped=True),
        ),
        session_id="x",
    )
    letter = dead_letters.DeadLetter(
        topic="events", partition=3, offset=7, reason="not_json", value=b"\xff", record_at=DAY
    )
    for topic, record, want in (
        (
            "items",
            put_item,
            {"kind": "put", "item_id": "i1", "title": "Alien", "group_id": "g", "owner_id": None},
        ),
        (
            "slates",
            shown,
            {"slate_id": "s", "items": ["i1", "i2"], "person": None, "session_id": "x"},
        ),
        ("slates", shown, {"sources": ["popular", "explore"], "swapped": [2], "took_ms": 0.0}),
        (
            "audit",
            AuditRecord(
                audit_id="a",
                stage="answered",
                kind="access",
                occurred_at=DAY,
                client="shop",
                method="GET",
                route="/v1/recommendations",
                targets=("person:01ab",),
                status=200,
            ),
            {"client": "shop", "person": None, "targets": ["person:01ab"], "status": 200},
        ),
        ("dead-letters", letter, {"of_topic": "events", "of_partition": 3, "of_offset": 7}),
    ):
        batch = lakes.batch(0, [msgspec.json.encode(record)], [DAY])
        (row,) = columns(BY_TOPIC[topic], [batch]).to_pylist()
        assert row.items() >= want.items()


def test_a_number_that_no_column_holds_is_null_there_and_whole_in_its_record(held: Lake) -> None:
    value = b'{"kind":"delete","item_id":"i1","received_at":123456789012345678901234567890}'
    put(held, [lakes.batch(0, [value, value], [DAY, DAY])], "items")
    (found, _) = held.select("items").table.to_pylist()
    assert (found["item_id"], found["received_at"], found["value"]) == ("i1", None, value)


records = st.tuples(
    st.none() | st.binary(max_size=8),
    st.none() | st.binary(max_size=20) | st.just(action(3, 4, DAY)),
    st.integers(-1, DAY * 2),
    st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=3)), max_size=2),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(records, min_size=1, max_size=8), min_size=1, max_size=5), st.data())
def test_any_records_come_back_as_written_from_any_offset_to_any(
    tmp_path_factory: pytest.TempPathFactory,
    chunks: list[list[tuple[bytes | None, bytes | None, int, list[tuple[str, bytes | None]]]]],
    data: st.DataObject,
) -> None:
    held = Lake(Store(str(tmp_path_factory.mktemp("lake"))))
    topic = data.draw(st.sampled_from([table.topic for table in TABLES]))
    written = []
    gap = data.draw(st.integers(1, 3))  # a compacted topic has gaps
    at = 0
    for chunk in chunks:
        end = at + len(chunk) * gap
        written.append(
            Batch(
                0,
                at,
                end,
                list(range(at, end, gap)),
                [it[2] for it in chunk],
                [it[1] for it in chunk],
                keys=[it[0] for it in chunk],
                headers=[it[3] for it in chunk] if any(it[3] for it in chunk) else [],
            )
        )
        at = end
    put(held, written, topic)
    if data.draw(st.booleans()):
        now = data.draw(st.integers(0, DAY * 3))
        compact(held, topic, 0, now, all_=data.draw(st.booleans()))
    start = data.draw(st.integers(0, at))
    end = data.draw(st.integers(start, at))
    found = lakes.read(held.read(topic, 0, start, end, data.draw(st.integers(1, 9))))
    want = lakes.read(written)
    kept = [n for n, offset in enumerate(want.offsets) if start <= offset < end]
    for name in ("offsets", "timestamps", "keys", "values"):
        assert getattr(found, name) == [getattr(want, name)[n] for n in kept], name
    assert list(map(list, found.headers)) == [list(want.headers[n]) for n in kept]
    edges = [start, *(cut[1] for cut in found.cuts)]
    assert [cut[0] for cut in found.cuts] == edges[:-1]
    assert edges[-1] == end


def test_a_compacted_day_is_the_same_log(held: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "OFFSETS_PER_STEP", 700)
    put(held, lakes.a_day(20_000, 300, 20))
    put(held, [lakes.batch(20_000, [POISON, None], [DAY + 24 * HOUR, DAY - 5])])
    before = everything(held)
    (done,) = compact(held, EVENTS.name, 0, DAY + 30 * HOUR)
    assert (done.replaced, done.entry.rows, done.entry.clustered) == (20, 20_000, True)
    assert [span[:2] for span in held.manifest(EVENTS.name, 0).chain()] == [
        (0, 20_000),
        (20_000, 20_002),
    ]
    assert everything(held)[:5] == before[:5]
    assert compact(held, EVENTS.name, 0, DAY + 30 * HOUR) == []
    middle = lakes.read(held.read(EVENTS.name, 0, 4_321, 9_876, 100))
    assert middle.offsets == list(range(4_321, 9_876))
    assert middle.values == before.values[4_321:9_876]


def test_an_hour_of_many_rows_is_several_runs_cut_in_the_order_of_the_log(
    held: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.lake.compact.MAX_SORTED_ROWS", 100)
    monkeypatch.setattr("infra.lake.compact.MIN_GROUP_ROWS", 10)
    monkeypatch.setattr("infra.lake.compact.GROUP_ROWS", 50)
    timestamps = [DAY + n for n in range(40)]
    for first in range(0, 400, 40):
        values = [action(first + n, n % 7, timestamp) for n, timestamp in enumerate(timestamps)]
        put(held, [lakes.batch(first, values, timestamps)])
    put(held, [lakes.batch(400, [POISON], [DAY + HOUR])])
    put(held, [lakes.batch(401, [POISON], [DAY + 24 * HOUR])])
    before = everything(held)
    # the hour, then the day of that file and the record after it
    for now, end, groups in ((DAY + 2 * HOUR, 400, 8), (DAY + 30 * HOUR, 401, 9)):
        (done,) = compact(held, EVENTS.name, 0, now)
        assert (done.entry.start, done.entry.end) == (0, end)
        with held.store.open(done.entry.name) as source:
            read = File(held.store, done.entry, source)
            rows = read.read(range(read.groups), ["offset", "person"]).to_pylist()
            assert read.groups == groups, "two a run"
        for first in range(0, 400, 100):
            run = rows[first : first + 100]
            assert {row["offset"] for row in run} == set(range(first, first + 100))
            assert run == sorted(run, key=lambda row: (row["person"], row["offset"]))
        assert everything(held)[:5] == before[:5]


def test_the_last_file_is_not_compacted(held: Lake) -> None:
    put(held, lakes.a_day(400, 5, 4))
    assert compact(held, EVENTS.name, 0, DAY + 12 * HOUR) == []
    (done,) = compact(held, EVENTS.name, 0, DAY + 12 * HOUR, all_=True)
    assert (done.entry.start, done.entry.end) == (0, 300)


def a_record_a_minute(day: int = DAY, start: int = 0) -> list[Batch]:
    """A lake with a record a minute, in files of 20."""
    made = []
    for first in range(0, 1440, 20):
        timestamps = [day + n * 60_000 for n in range(first, first + 20)]
        values = [action(start + first + n, n % 9, at) for n, at in enumerate(timestamps)]
        made.append(lakes.batch(start + first, values, timestamps))
    return made


def test_until_a_day_is_over_each_hour_of_it_becomes_a_file(held: Lake) -> None:
    put(held, a_record_a_minute())
    before = everything(held)
    done = compact(held, EVENTS.name, 0, DAY + 12 * HOUR + 1)
    hours = [(60 * n, 60 * (n + 1)) for n in range(12)]
    assert [(it.entry.start, it.entry.end, it.replaced) for it in done] == [
        (*it, 3) for it in hours
    ]
    assert [span[:2] for span in held.manifest(EVENTS.name, 0).chain()][:12] == hours
    assert everything(held)[:5] == before[:5]
    # each once: the one that is not over waits, as does the one that the chain ends in
    assert compact(held, EVENTS.name, 0, DAY + 12 * HOUR + 2) == []
    (one,) = compact(held, EVENTS.name, 0, DAY + 13 * HOUR)
    assert (one.entry.start, one.entry.end) == (720, 780)
    assert len(compact(held, EVENTS.name, 0, DAY + 24 * HOUR - 1)) == 10
    # 23 hours, and what there is of the last one
    (day,) = compact(held, EVENTS.name, 0, DAY + 24 * HOUR)
    assert (day.entry.start, day.entry.end, day.replaced) == (0, 1420, 23 + 2)
    assert everything(held)[:5] == before[:5]


def test_a_timestamp_from_long_ago_keeps_no_hour_back(held: Lake) -> None:
    put(held, a_record_a_minute())
    put(held, [lakes.batch(1440, [POISON, POISON], [DAY + 24 * HOUR, 5])])
    put(held, a_record_a_minute(DAY + 24 * HOUR, 1442))
    day, *hours = compact(held, EVENTS.name, 0, DAY + 36 * HOUR)
    assert (day.entry.start, day.entry.end, day.replaced) == (0, 1440, 72)
    assert [it.replaced for it in hours] == [4] + [3] * 11


def test_a_timestamp_from_the_future_takes_no_day_with_it(held: Lake) -> None:
    put(held, lakes.a_day(200, 5, 2))
    put(held, [lakes.batch(200, [POISON], [DAY * 5])])
    put(held, lakes.a_day(200, 5, 2, start=201))
    put(held, lakes.a_day(100, 5, 1, day=DAY + 24 * HOUR, start=401))
    (done,) = compact(held, EVENTS.name, 0, DAY + 25 * HOUR)
    assert (done.replaced, done.entry.start, done.entry.end) == (5, 0, 401)
    assert everything(held).offsets == list(range(501))


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A day of 100,000 events by 2,000 people, compacted: 4,166 an hour; and one file more."""
    held = Lake(Store(str(tmp_path_factory.mktemp("lake"))))
    patch = pytest.MonkeyPatch()
    patch.setattr("infra.lake.compact.GROUP_ROWS", 512)
    patch.setattr("infra.lake.compact.MIN_GROUP_ROWS", 128)
    put(held, lakes.a_day(100_000, 2_000, 8))
    put(held, [lakes.batch(100_000, [POISON], [DAY + 24 * HOUR])])
    compact(held, EVENTS.name, 0, DAY + 30 * HOUR)
    patch.undo()
    return held


def test_one_person_takes_a_row_group_or_two_of_each_hour(
    compacted: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the lake holds partition 0 alone: every person belongs there
    monkeypatch.setattr("infra.lake.reader.partition_of", lambda key, partitions: 0)
    who = person(1234)
    found = compacted.person(who, columns=["offset", "person", "value"])
    log = everything(compacted, size=50_000)
    mine = [n for n, value in enumerate(log.values) if value and who.encode() in value]
    assert len(mine) > 30
    assert found.table["offset"].to_pylist() == mine
    assert set(found.table["person"].to_pylist()) == {who}
    assert found.groups > 24 * 8
    assert found.read <= 24 * 2


def test_one_hour_takes_its_own_row_groups(compacted: Lake) -> None:
    since, until = DAY + 7 * HOUR, DAY + 8 * HOUR
    found = compacted.select(EVENTS.name, since=since, until=until, columns=["offset"])
    log = everything(compacted, size=50_000)
    mine = [n for n, at in zip(log.offsets, log.timestamps, strict=True) if since <= at < until]
    assert found.table["offset"].to_pylist() == mine
    assert found.read <= 10
    assert found.groups > 24 * 8


def test_a_person_whose_partition_is_another_costs_nothing(compacted: Lake) -> None:
    other = next(person(n) for n in range(99) if lake_partition(person(n)) != 0)
    found = compacted.person(other)
    assert (len(found.table), found.groups, found.read) == (0, 0, 0)
    assert found.table.schema.names[1:] == BY_TOPIC[EVENTS.name].schema.names


def lake_partition(who: str) -> int:
    from schemas.identity import partition_of

    return partition_of(who.encode(), 4)


def test_reading_in_order_holds_only_what_is_open(
    compacted: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read of a day holds the row groups of an hour or two, not those of the day."""
    monkeypatch.setattr(file, "OFFSETS_PER_STEP", 4_000)
    (entry, _) = (
        compacted.manifest(EVENTS.name, 0).entry(span)
        for span in compacted.manifest(EVENTS.name, 0).chain()
    )
    with compacted.store.open(entry.name) as source:
        opened = File(compacted.store, entry, source)
        seen: list[int] = []
        read_ = opened.read

        def counted(groups: list[int], names: list[str]) -> pa.Table:
            seen.extend(groups)
            return read_(groups, names)

        opened.read = counted  # type: ignore[method-assign,assignment]
        next(opened.ordered(0, 100_000, RECORD_COLUMNS))
        assert len(seen) < opened.groups / 8


def test_what_is_not_there_is_an_error_that_says_what_is(held: Lake) -> None:
    assert held.bounds(EVENTS.name, 0) == (0, 0)
    put(held, [lakes.batch(10, [action(1, 1, DAY)] * 5, [DAY] * 5)])
    assert held.bounds(EVENTS.name, 0) == (10, 15)
    for start, end in ((9, 12), (10, 16)):
        with pytest.raises(OffTheLog, match="holds offsets 10 to 15 of events partition 0"):
            list(held.read(EVENTS.name, 0, start, end))
    assert list(held.read(EVENTS.name, 0, 12, 12)) == []


def test_an_entry_says_the_version_also_where_it_is_the_usual_one() -> None:
    held = lake.ManifestEntry(
        name="n", start=0, end=1, rows=1, bytes=1, sha256="", first_at=0, last_at=0,
        topic_id="t", partitions=4,
    )  # fmt: skip
    assert b'"version":1' in lake.encode_entry(held)
    assert lake.decode_entry(lake.encode_entry(held)) == held
