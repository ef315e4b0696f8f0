"""`freshet verify` finds nothing wrong while events flow, and each value that is broken by hand."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from flows.verify import run as verify_run
from flows.verify.run import Report, verify
from infra.cli.main import cli
from infra.kafka import kafka_client
from infra.kafka.reader import Topics
from infra.local import services
from infra.local.plan import FRESHET, child_environment
from infra.settings import Settings, to_environment
from infra.signals import die_with_parent
from infra.store import redis_client
from models.features.registry import pack_rows, read_rows
from models.outcomes import impressions, open_slates
from schemas import events
from schemas.flows import GENERATIONAL
from schemas.identity import partition_of
from schemas.keys import PLAIN
from schemas.state import tables
from schemas.state.tables import ARM, MOMENTS
from schemas.topics import EVENTS
from tests.flows.faults import Flow, behind, produce, traffic, wait
from tests.flows.slates import with_slates
from tests.laws.world import T0
from tests.support.recorded import Recorded

pytestmark = [pytest.mark.check, pytest.mark.timeout(120)]
FLOWS: Final = GENERATIONAL
SENT: Final = 2_000
SEED: Final = 7


class World(NamedTuple):
    """A folded log whose flows have stopped."""

    settings: Settings
    client: Any
    while_it_ran: list[Report]
    log: Recorded

    def verify(self, **more: Any) -> Report:
        return verify(self.settings, self.log, **more)


def with_preferences_and_links(made: list[events.Event]) -> list[events.Event]:
    """The same log with preferences and links here and there."""
    found: list[events.Event] = []
    for n, event in enumerate(made):
        found.append(event)
        if n % 10 == 0:
            found.append(
                events.Preferences(
                    event_id=f"p{n}",
                    person=event.person,
                    received_at=T0 + n,
                    liked_categories=(f"c{n % 7}",),
                )
            )
        if n % 150 == 70 and (to := made[n // 3].person) != event.person:
            name = f"l{n}"
            found.append(events.Link(event_id=name, person=event.person, to=to, received_at=T0 + n))
            found.append(events.Linking(person=to, of=event.person, link=name, received_at=T0 + n))
    return found


def made(seed: int) -> list[events.Event]:
    rnd = random.Random(seed)
    acts = traffic(SENT, 150, rnd)
    named = [msgspec.structs.replace(act, event_id=f"{seed}-{act.event_id}") for act in acts]
    return with_preferences_and_links(with_slates(named, rnd))


@pytest.fixture(scope="module")
def world(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world that the flows' processes folded, verified again and again meanwhile."""
    settings = Settings(
        redis_url=redis_url,
        kafka_bootstrap=broker,
        data_dir=tmp_path_factory.mktemp("verify"),
        rollup_seconds=0.1,
        base_seconds=0.3,
        dedupe_hours=0.5,
        port=services.free_port(),
    )
    kafka_client.ensure_topics(settings)
    output = settings.data_dir / "flows.log"
    flows = [Flow(settings, name, output) for name in FLOWS]
    reports: list[Report] = []
    verified = threading.Event()

    def wait_for_verify(n: int) -> None:
        """Pauses halfway until the first verification, so that fences are before the end."""
        if n == SENT // 2:
            verified.wait(60)

    more = threading.Thread(
        target=produce, args=(settings, made(8), random.Random(8), wait_for_verify)
    )
    try:
        with redis_client.connect(settings) as client:
            produce(settings, made(SEED), random.Random(SEED), lambda n: None)
            wait(lambda: behind(settings, client) or unsent_outboxes(client), lambda: None)
            more.start()
            while more.is_alive() or behind(settings, client) or unsent_outboxes(client):
                reports.append(verify(settings, Topics(settings), people=100, seed=len(reports)))
                verified.set()
            for flow in flows:
                flow.kill()
            log = Recorded(Topics(settings), EVENTS.name, settings.partitions)
            yield World(settings, client, reports, log)
    finally:
        for flow in flows:
            flow.kill()


def unsent_outboxes(client: Any) -> str:
    """The outboxes with records for the relay; "" where there is none."""
    return ", ".join(f"outbox {p}" for p in range(4) if client.xlen(PLAIN.outbox(p)))


def test_nothing_is_wrong_while_events_flow(world: World) -> None:
    end = world.verify(people=1, sums=False).events
    assert world.while_it_ran[0].events < end, "it stood at fences before the end"
    for report in world.while_it_ran:
        assert report.mismatches == []
        assert report.people_checked > 80, "a hundred, where each partition has so many"
        assert report.fields_checked > 5_000


def test_nothing_is_wrong_once_all_is_folded(world: World) -> None:
    report = world.verify()
    assert report.mismatches == []
    assert report.people_checked > 100
    assert report.events == sum(world.log.bounds(EVENTS.name, p)[1] for p in range(4))
    assert any(world.client.hlen(PLAIN.received(p)) for p in range(4)), (
        "links went across partitions"
    )
    assert report.rate > 0


def test_a_second_process_finds_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def report() -> Report:
        found = verify(world.settings, Topics(world.settings), people=100, seed=3)
        return msgspec.structs.replace(found, rate=0.0)

    alone = report()
    monkeypatch.setattr(verify_run, "MIN_PARALLEL_RECORDS", 0)
    assert report() == alone
    assert alone.people_checked == 100


def test_a_sample_is_the_same_people_for_a_seed(world: World) -> None:
    one, again, other = (world.verify(people=40, seed=seed, sums=False) for seed in (1, 1, 2))
    assert one.people_checked == 40
    assert one.fields_checked == again.fields_checked
    assert one.fields_checked != other.fields_checked
    assert one.mismatches == again.mismatches == other.mismatches == []


# -- break one value ------------------------------------------------------------------------


class Break(NamedTuple):
    """`key` (a pattern, of which one that `fits` is taken) is changed to what `how` makes of it."""

    what: str
    field: str
    key: bytes
    how: Callable[[bytes], bytes]
    fits: Callable[[bytes], bool] = bool


def in_row(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    def how(value: bytes) -> bytes:
        rows = read_rows([value])
        change(rows[0])
        return pack_rows(rows)[0]

    return how


def one_more(row: Any) -> None:
    row["counts"][0] += 1


def another_item(row: Any) -> None:
    row["ring"]["item"][0] += np.uint64(1)


def another_session(row: Any) -> None:
    row["sessions"] += 1


def another_day(row: Any) -> None:
    row["days"][0] += 1


def liked(value: bytes) -> bytes:
    held = events.decode_stored(value)
    return events.encode(msgspec.structs.replace(held, liked_categories=("another",)))


def has_slates(value: bytes) -> bool:
    return bool(open_slates.decode(value).slates)


def another_state(value: bytes) -> bytes:
    account = open_slates.decode(value)
    account.slates[-1].states[0] ^= 2
    return open_slates.encode(account)


def shown_again(value: bytes) -> bytes:
    rows = impressions.read(value).copy()
    rows["count"][0] += 1
    return impressions.write(rows)


PEOPLE: Final = (
    Break("row", "counts", b"u:{*}:*", in_row(one_more)),
    Break("row", "ring", b"u:{*}:*", in_row(another_item)),
    Break("row", "session", b"u:{*}:*", in_row(another_session)),
    Break("row", "days", b"u:{*}:*", in_row(another_day)),
    Break(
        "row", "flags", b"u:{*}:*", in_row(lambda row: row.__setitem__("flags", row["flags"] ^ 1))
    ),
    Break("row", "value", b"u:{*}:*", lambda value: b"garbage"),
    Break("row", "seen_n", b"u:{*}:*", in_row(lambda row: row.__setitem__("seen_n", 9))),
    Break("seen", "value", b"s:{*}:*", lambda value: value + bytes(range(13))),
    Break("seen", "value", b"s:{*}:*", lambda value: value[:-8]),
    Break("seen", "value", b"s:{*}:*", lambda value: value[::-1]),
    Break("preferences", "liked_categories", b"p:{*}:*", liked),
    Break("preferences", "value", b"p:{*}:*", lambda value: b"{"),
    Break("slates", "slates", b"o:{*}:*", another_state, has_slates),
    Break("slates", "value", b"o:{*}:*", lambda value: b"\xff" + value),
    Break("impressions", "value", b"im:{*}:*", shown_again),
    Break("impressions", "value", b"im:{*}:*", lambda value: value[1:]),
    Break("ids", "bucket", b"dd:{*}:*", lambda value: value[8:]),
)


@pytest.mark.parametrize("broken", PEOPLE, ids=lambda it: f"{it.what} {it.field}")
def test_a_value_of_a_person_that_was_changed_is_found(world: World, broken: Break) -> None:
    key = one_key(world.client, broken.key, broken.fits)
    held = world.client.get(key)
    world.client.set(key, broken.how(held))
    try:
        (found,) = world.verify(sums=False).mismatches
    finally:
        world.client.set(key, held)
    assert found.what == broken.what
    assert found.field.startswith(broken.field)
    assert found.key == key.decode()
    assert found.stored != found.expected


def one_key(client: Any, pattern: bytes, fits: Callable[[bytes], bool] = bool) -> bytes:
    """The longest key of a pattern whose value `fits`, so that it holds a value to change."""
    found = sorted(client.scan_iter(match=pattern, count=1000), key=client.strlen, reverse=True)
    return next(bytes(key) for key in found if fits(client.get(key)))


def test_a_key_of_no_person_a_missing_one_and_one_of_another_type_are_found(world: World) -> None:
    client, needless = world.client, PLAIN.row(1, "ab" * 16)
    gone = one_key(client, b"u:{*}:*")
    other = one_key(client, b"s:{*}:*")
    held, items = client.get(gone), client.get(other)
    client.set(needless, held)
    client.delete(gone, other)
    client.hset(other, "a", "b")
    try:
        found = {it.key: it for it in world.verify(sums=False).mismatches if it.what != "seen"}
    finally:
        client.delete(needless, other)
        client.set(gone, held)
        client.set(other, items)
    mismatches = {key: (it.what, it.field, it.stored) for key, it in found.items()}
    assert mismatches == {
        needless.decode(): ("key", "value", "is there"),
        gone.decode(): ("row", "value", None),
        other.decode(): ("key", "type", "hash"),
    }


class Sum(NamedTuple):
    what: str
    field: str
    key: bytes
    kind: Any
    column: str


PUBLISHED: Final = (
    Sum("popularity", "24h", PLAIN.tables().popularity, tables.POPULARITY, ""),
    Sum("pairs", "share", PLAIN.tables().neighbours, tables.NEIGHBOUR, "score"),
    Sum("arms", "clicked", PLAIN.tables().arms, ARM, "clicked"),
    Sum("arms", "mean", PLAIN.tables().arms, ARM, "mean"),
    Sum("experiments", "units", PLAIN.tables().experiments, MOMENTS, "units"),
    Sum("experiments", "squares", PLAIN.tables().experiments, MOMENTS, "squares"),
)


@contextmanager
def changed(client: Any, broken: Sum) -> Iterator[None]:
    """Gives the longest row of a published table another value until the block is left."""
    name, held = max(client.hgetall(broken.key).items(), key=lambda it: (len(it[1]), it))
    rows = np.frombuffer(held, broken.kind).copy()
    column = rows[broken.column] if broken.column else rows[1:2]
    column.flat[0] = (
        column.flat[0] * 1.01 + 1e-5 if column.dtype.kind == "f" else column.flat[0] + 1
    )
    client.hset(broken.key, name, rows.tobytes())
    try:
        yield
    finally:
        client.hset(broken.key, name, held)


@pytest.mark.parametrize("broken", PUBLISHED, ids=lambda it: f"{it.what} {it.field}")
def test_a_published_sum_that_was_changed_is_found(world: World, broken: Sum) -> None:
    with changed(world.client, broken):
        found = world.verify(people=0).mismatches
    assert {it.what for it in found} == {broken.what if broken.what != "pairs" else "neighbours"}
    assert any(broken.field in it.field for it in found)
    assert {it.key for it in found} == {broken.key.decode()}


def test_a_sum_of_the_stored_base_that_was_changed_is_found(world: World) -> None:
    """Popularity, pairs, arms and moments, one of each."""
    client, base = world.client, PLAIN.tables().base
    head = client.get(base)
    chunks = PLAIN.tables().base_chunks(head)
    held = client.mget(chunks)
    changed = broken_base(b"".join(held))
    client.set(PLAIN.tables().base_chunk(b"broken", 0), changed)
    client.set(base, b"broken:1")
    try:
        found = world.verify(people=0).mismatches
    finally:
        client.delete(PLAIN.tables().base_chunk(b"broken", 0))
        client.set(base, head)
    assert {it.what for it in found} == {"popularity", "pairs", "arms", "experiments"}
    assert {it.key for it in found} == {base.decode()}
    assert len(found) == 4


def broken_base(data: bytes) -> bytes:
    import io

    with np.load(io.BytesIO(data)) as file:
        held = dict(file)
    held["popularity"][0, 2] += 1.0
    held["pairs_session_sums"][0, 0] += 1.0
    held["arms_rows"]["displayed"][0] += 1
    held["moments_rows"]["sums"][0] += 1
    out = io.BytesIO()
    np.savez(out, **held)
    return out.getvalue()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (PLAIN.tables().base, b"elsewhere:1", "lacks a chunk"),
        (PLAIN.tables().base, b"elsewhere", "does not decode"),
        (PLAIN.tables().meta, b"\x00garbage", "does not decode"),
        (PLAIN.fence("people", 2), b"garbage", "does not decode"),
    ],
)
def test_what_cannot_be_read_is_a_mismatch_and_no_crash(
    world: World, key: bytes, value: bytes, reason: str
) -> None:
    held = world.client.get(key)
    world.client.set(key, value)
    try:
        found = world.verify(people=20).mismatches
    finally:
        world.client.set(key, held)
    assert [it.key for it in found] == [key.decode()]
    assert reason in str(found[0].stored)


@pytest.mark.parametrize("key", [PLAIN.tables().popularity, PLAIN.received(0), PLAIN.tables().meta])
def test_a_key_of_another_type_is_a_mismatch_and_no_crash(world: World, key: bytes) -> None:
    held = world.client.dump(key)
    world.client.delete(key)
    world.client.sadd(key, b"x")
    try:
        found = world.verify(people=20).mismatches
    finally:
        world.client.delete(key)
        if held:
            world.client.restore(key, 0, held)
    assert ("key", "type") in {(it.what, it.field) for it in found}
    assert {it.key for it in found} == {key.decode()}


# -- the command ----------------------------------------------------------------------------


def run(world: World, *options: str) -> tuple[int, Any]:
    result = CliRunner().invoke(
        cli, ["verify", *options], env=to_environment(world.settings), catch_exceptions=False
    )
    return result.exit_code, result.stdout


def test_the_command_exits_with_1_where_something_is_wrong(world: World) -> None:
    code, text = run(world)
    assert (code, "all as the log says" in text) == (0, True), text
    code, text = run(world, "--json", "--partition", "2")
    report = json.loads(text)
    assert code == 0
    assert set(report) == {
        "partitions", "events", "people_checked", "fields_checked", "mismatches", "rate", "from",
        "snapshot",
    }  # fmt: skip
    assert (report["from"], report["snapshot"]) == ({"2": 0}, "")
    assert report["partitions"] == [2]
    assert report["mismatches"] == []
    key = one_key(world.client, b"u:{2}:*")
    held = world.client.get(key)
    world.client.set(key, in_row(one_more)(held))
    try:
        code, text = run(world, "--json", "--partition", "2")
        assert code == 1
        (found,) = json.loads(text)["mismatches"]
        assert (found["what"], found["field"], found["key"]) == (
            "row",
            "counts[0][0]",
            key.decode(),
        )
        assert found["stored"] == found["expected"] + 1
        code, text = run(world, "--people", "1000")
        assert (code, "1 are wrong" in text, "counts" in text) == (1, True, True), text
        assert run(world, "--partition", "1")[0] == 0
        assert run(world, "--sums")[0] == 0
    finally:
        world.client.set(key, held)
    assert partition_of(key[-32:], 4) == 2


def test_a_report_holds_no_raw_id(world: World, tmp_path: Path) -> None:
    key = one_key(world.client, b"p:{*}:*")
    held = world.client.get(key)
    world.client.set(key, liked(held))
    try:
        _, text = run(world, "--json", "--partition", str(partition_of(key[-32:], 4)))
    finally:
        world.client.set(key, held)
    assert "another" not in text
    assert "text of 7" in text


def test_prometheus_sees_each_run_until_it_is_stopped(world: World) -> None:
    port = services.free_port()
    settings = msgspec.structs.replace(world.settings, metrics_port=port)
    process = subprocess.Popen(
        [*FRESHET, "verify", "--every", "1"],
        env={**child_environment(settings)},
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent(),
    )

    def metric(name: str) -> float:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return -1.0
        return float(text.partition(f"\n{name} ")[2].split("\n")[0] or -1)

    table = PLAIN.tables().popularity
    (field, row), *_ = world.client.hgetall(table).items()
    try:
        services.wait_until(
            lambda: metric("freshet_verify_fields") > 1000, 30, "it exports nothing"
        )
        assert metric("freshet_verify_mismatches") == 0
        world.client.hset(table, field, row[::-1])
        services.wait_until(
            lambda: metric("freshet_verify_mismatches") > 0, 30, "it did not see it"
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        world.client.hset(table, field, row)
        process.kill()
        process.wait()
