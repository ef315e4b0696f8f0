"""Columns of records by the kernel are what msgspec gives: of valid records, of others, of broken ones."""

from __future__ import annotations

import string
from typing import Any, Final

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import records
from models.kernels.loading import kernel, missing
from models.records import RecordColumns, Remembered
from schemas import events
from schemas.actions import CLIENT_ACTIONS
from schemas.alphabet import Pseudonym
from schemas.events import Action, Assigned, Link, Listed, Merge, Preferences, Scale, Served, Source

pytestmark = pytest.mark.skipif(kernel is None, reason=missing)

TIMES: Final = st.integers(0, 4_102_444_800_000)
# few letters, so that names meet; of each the plain ones first
IDS: Final = st.one_of(
    st.sampled_from(["", "a", "alien", "é", "片", "😀", "\x7f", '"', "\\", "\n", "\0", "x" * 60]),
    st.text(max_size=20),
    st.text(string.ascii_letters, min_size=50, max_size=1_100),
)
A: Final = Pseudonym("a" * 32)
B: Final = Pseudonym("b" * 32)
PEOPLE: Final = st.sampled_from(["a" * 32, "0123456789abcdef" * 2, "é" * 32, "é" * 16])
WHOLE: Final = st.one_of(st.integers(-9, 9), st.integers(-(2**63), 2**63 - 1))
FLOATS: Final = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9).map(float)


def maybe(strategy: st.SearchStrategy[Any], default: Any = None) -> st.SearchStrategy[Any]:
    return st.just(default) | strategy


ACTIONS: Final = st.builds(
    Action,
    event_id=IDS,
    person=PEOPLE,
    item_id=IDS,
    action=st.sampled_from(CLIENT_ACTIONS),
    occurred_at=TIMES,
    received_at=TIMES,
    category=maybe(IDS, ""),
    known=st.booleans(),
    session_id=maybe(IDS, ""),
    slate_id=maybe(IDS, ""),
    rank=maybe(WHOLE),
    value=maybe(FLOATS),
    scale=maybe(st.builds(Scale, FLOATS, FLOATS, maybe(FLOATS))),
    negative=st.booleans(),
    amount=maybe(WHOLE, 0),
    currency=maybe(IDS, ""),
    quantity=maybe(WHOLE, 1),
    dwell_ms=maybe(WHOLE),
    context=maybe(st.dictionaries(IDS, st.none() | IDS | WHOLE | st.booleans(), max_size=2)),
    clamped=st.booleans(),
    group=maybe(IDS, ""),
    source=maybe(
        st.builds(
            Source, IDS, st.sampled_from(["live", "import"]), st.sampled_from(["server", "browser"])
        )
    ),
)
SERVED: Final = st.builds(
    Served,
    person=PEOPLE,
    slate_id=IDS,
    placement=IDS,
    received_at=TIMES,
    items=st.lists(IDS, max_size=2).map(tuple),
    explored=maybe(WHOLE, 0),
    probability=maybe(FLOATS, 1.0),
    experiments=maybe(st.tuples(st.builds(Assigned, IDS, WHOLE, IDS)), ()),
    took_ms=maybe(FLOATS, 0.0),
    fallback=maybe(IDS, ""),
    release=maybe(IDS, ""),
    session_id=maybe(IDS, ""),
    sources=maybe(st.lists(IDS, max_size=2).map(tuple), ()),
    swapped=maybe(st.lists(WHOLE, max_size=2).map(tuple), ()),
)
OTHERS: Final = st.sampled_from(
    [
        Preferences(event_id="p", person=A, received_at=3),
        Link(event_id="l", person=A, to=B, received_at=3),
        Listed(items=(1, 2), received_at=3),
        Merge(person=A, source=1, offset=2, n=3, received_at=4),
    ]
)
EVENTS: Final[st.SearchStrategy[Any]] = st.one_of(ACTIONS, ACTIONS, SERVED, OTHERS)
VALID: Final = EVENTS.map(events.encode)
PIECES: Final = st.sampled_from(
    [
        *(bytes([c]) for c in b'"\\{}[],:0123456789-+.eE \n\t\x00\x1f\x7f\x80\xc0\xff'),
        *(b"null", b"true", b"false", b"\\u0041", b"\\n", b"1e5", b"-0", b"00", b".5", b"5.", b"1.5"),
        *(b"\xed\xa0\x80", b"\xc3\xa9", b"\xf4\x90\x80\x80", b"\xe0\x80\x80", b"9" * 19, b"0." + b"1" * 19),
        *(b',"known":true', b',"x":1', b',"rank":null', b',"group":""', b"4102444800001", b"[]", b"{}"),
        *(b'"kind":"served",', b'"mode":"live"', b'"agent":"server"', b'"agent":"robot"', b"view"),
    ]
)  # fmt: skip


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A valid value with a piece in place of some bytes of it, once or twice."""
    value = draw(VALID)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(value)))
        value = value[:at] + draw(PIECES) + value[at + draw(st.integers(0, 8)) :]
    return value


VALUES: Final = st.one_of(VALID, VALID, broken(), broken(), st.binary(max_size=20), st.none())


TIMESTAMPS: Final = st.integers(-9, 9) | st.integers(-5, 5_000_000_000_000)


def assert_equal(found: RecordColumns, wanted: RecordColumns) -> None:
    for name in ("kind", *(it for it in RecordColumns.__slots__ if it[0] != "_")):
        if name != "values":
            assert getattr(found, name).tolist() == getattr(wanted, name).tolist(), name
    for i in np.flatnonzero(wanted.kind != records.UNDECODED).tolist():
        assert found.person_text(i) == wanted.event(i).person
        assert found.people(np.array([i])) == [wanted.event(i).person]
        assert found.event(i) == wanted.event(i)


@given(st.lists(st.tuples(VALUES, TIMESTAMPS), min_size=3, max_size=8))
def test_the_kernel_gives_the_columns_that_msgspec_gives(batch: list[tuple[Any, int]]) -> None:
    values, timestamps = [value for value, _ in batch], [time for _, time in batch]
    wanted = records.decode_by_msgspec(values, timestamps)
    assert_equal(records.decode(values, timestamps), wanted)
    remembered = Remembered()
    for _ in range(2):  # the second time every name is remembered
        assert_equal(records.decode(values, timestamps, remembered), wanted)


WHOLE_ACTION: Final = Action(
    event_id="e", person=A, item_id="i", action="purchase", occurred_at=5, received_at=6, category="c",
    known=True, session_id="s", slate_id="l", rank=1, value=2.5, scale=Scale(1.0, 5.0, 3.0), negative=True,
    amount=7, currency="EUR", quantity=2, dwell_ms=3, clamped=True, group="g",
    source=Source("app", "import", "browser"),
)  # fmt: skip
WHOLE_SERVED: Final = Served(
    person=A, slate_id="l", placement="home", received_at=6, items=("i", "j"), explored=1, probability=0.5,
    experiments=(Assigned("e", 1, "v"),), took_ms=1.5, fallback="f", release="r", session_id="s",
    sources=("p", "q"), swapped=(2,),
)  # fmt: skip
NUMBERS: Final = (
    b"0", b"-0", b"00", b"01", b"-01", b"-1", b"+1", b"1.", b".5", b"0.5", b"-0.0", b"00.5", b"01.5", b"1e5",
    b"1E-5", b"1.5e3", b"-", b"4102444800000", b"4102444800001", b"9" * 15, b"9" * 18, b"9" * 19, b"9" * 25,
    b"1." + b"3" * 17, b"1." + b"3" * 40, b"1.5.5", b"1-1", b"1 ", b" 1", b"1e999",
)  # fmt: skip
TEXTS: Final = (
    b"", b"a" * 31, b"a" * 32, b"a" * 33, b"\xc3\xa9" * 16, b"\xc3\xa9" * 32, b"\xe7\x89\x87",
    b"\xf0\x9f\x98\x80", b"\xff", b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xc3a",
    b"\xe0\x80\x80", b"\xe0\xa0", b"\xed\xa0\x80", b"\xed\x9f\xbf", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80",
    b"\xf4\x8f\xbf\xbf", b"\xf5\x80\x80\x80", b"\\n", b"\\u0041", b"\\ud800", b"\\x", b"\n", b"\x00",
    b"\x1f", b"\x7f",
    b"a" * 1100, b"view", b"impression", b"rate", b"import", b"live", b"browser", b"robot",
    b"purchase\\u0000",
)  # fmt: skip
OTHER_VALUES: Final = (
    b"null", b"true", b"false", b"tru", b"[]", b"{}", b"[1]", b'["a"]', b'["a",]', b'["a","b"', b"[1,2,3]",
    b'[["e",1,"v"]]', b'[["e",1]]', b'[["e",1,"v",2]]', b'[["e","1","v"]]', b"[null]", b"[1.5]",
    b'{"min":1,"max":5}', b'{"min":1,"max":5,"middle":3}', b'{"max":5,"min":1}', b'{"min":1,"max":5,"x":1}',
    b'{"min":01,"max":5}', b'{"client":"a"}', b'{"mode":"import"}', b'{"agent":"browser"}',
    b'{"mode":"import","agent":"browser"}', b'{"client":"a","agent":"browser"}', b'{"mode":"live"}',
    b'{,"mode":"import"}', b'{"agent":"browser","mode":"import"}', b'{"mode":"import",}', b'{"x":1}', b"",
)  # fmt: skip
PLACED: Final = (*NUMBERS, *(b'"%s"' % it for it in TEXTS), *OTHER_VALUES)


@pytest.mark.parametrize("event", [WHOLE_ACTION, WHOLE_SERVED], ids=["action", "served"])
def test_every_field_with_every_other_value(event: Any) -> None:
    """Each field left out, sent twice, and with each value of `PLACED`; each cut, each byte after the end."""
    value = events.encode(event)
    fields = [
        b'"%s":%s' % (name.encode(), bytes(raw))
        for name, raw in msgspec.json.decode(value, type=dict[str, msgspec.Raw]).items()
    ]
    assert b"{" + b",".join(fields) + b"}" == value
    made = [value[:at] for at in range(len(value))] + [value + bytes([c]) for c in range(256)]
    made += [value + value, b" " + value, value.replace(b",", b", ")]
    for n, field in enumerate(fields):
        name = field.partition(b":")[0]
        others = [(), (field, field), *((name + b":" + it,) for it in PLACED)]
        made += [b"{" + b",".join([*fields[:n], *it, *fields[n + 1 :]]) + b"}" for it in others]
    for timestamp in (-1, 5, 4_102_444_800_000):
        timestamps = [timestamp] * len(made)
        assert_equal(records.decode(made, timestamps), records.decode_by_msgspec(made, timestamps))


@given(st.lists(ACTIONS | SERVED, min_size=1, max_size=4))
def test_plain_records_need_no_msgspec(batch: list[Any]) -> None:
    """Nothing is escaped in these; an integer is short, and a float has no exponent."""
    assert kernel is not None
    plain = []
    for event in batch:
        event.person = A
        value = events.encode(event)
        numbers = [
            getattr(event, it, None) or 0 for it in ("rank", "amount", "quantity", "dwell_ms")
        ]
        numbers += [getattr(event, "explored", 0), *getattr(event, "swapped", ())]
        numbers += [it.version for it in getattr(event, "experiments", ())]
        floats = [getattr(event, it, 0) or 0 for it in ("value", "probability", "took_ms")]
        if (scale := getattr(event, "scale", None)) is not None:
            floats += [scale.min, scale.max, scale.middle or 0]
        long = max(map(abs, numbers)) >= 10**18 or any(
            (it and not 1e-3 < abs(it) < 1e14) or f"{it}" == "-0.0" for it in floats
        )
        names = len((getattr(event, "item_id", "") + event.event_id).encode()) > 900
        if b"\\" not in value and not long and not names and getattr(event, "context", 0) is None:
            plain.append(value)
    found = records.decode(plain, [0] * len(plain))
    assert not found._events  # an object is made where the kernel does not take a record
