"""The write side while the broker is away: what is acknowledged reaches the log, in order, once."""

from __future__ import annotations

import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from infra.local import services
from infra.settings import Settings, signing_key
from models.features.registry import read_row
from schemas import events, items
from schemas.events import Action, Link, Preferences
from schemas.identity import pseudonym
from schemas.keys import PLAIN
from tests.laws.world import fold_log
from tests.support.http import Server, ask, metric, serving
from tests.support.outage import Broker, Ledger, bounded, spools, whole

VIEW = {"user_id": "u1", "item_id": "i1", "action": "view"}


def until_direct(ledger: Ledger, server: Server) -> None:
    """Sends until the receipt names the broker as the durable store."""

    def direct() -> bool:
        ledger.send(server, 1)
        return ledger.durable[-1] == "broker"

    services.wait_until(direct, 20, "the broker does not take over again")


def drained(server: Server) -> None:
    services.wait_until(
        lambda: metric(server, "freshet_write_spool_records") == 0, 20, "the spool is not drained"
    )


def kill(server: Server) -> None:
    server.process.kill()
    server.process.wait()


@pytest.mark.check
def test_writers_do_not_notice_a_killed_broker(
    broker_of_my_own: Broker, own: Settings, tmp_path: Path
) -> None:
    """Every kind of write but changes of control is accepted meanwhile."""
    with serving(own, tmp_path / "log") as server:
        ledger = Ledger(own)
        ledger.send(server, 6)
        broker_of_my_own.kill()
        ledger.send(server, 20)
        ledger.send(server, 5, batch=50)
        assert ledger.durable == ["broker"] * 6 + ["spool"] * 25
        receipt = server.ask("PUT", "/v1/users/u9/preferences", {"hidden_items": ["i9"]}).json
        assert receipt == {"position": None, "positions": [], "durable": "spool"}
        linked = server.ask("POST", "/v1/users/u9:link", {"anonymous_id": "a9"})
        put = server.ask("PUT", "/v1/items/i1", {"title": "one"})
        patched = server.ask("PATCH", "/v1/items/i1", {"title": "two"})
        batch = server.ask("POST", "/v1/items", {"items": [{"item_id": "i2", "title": "T"}]})
        for answer in (linked, put, patched, batch):
            assert (answer.status, answer.json["durable"]) == (202, "spool"), answer.body
        recipe = {"expected_version": 0, "recipe": {"weights": {"popular": 1}}}
        refused = server.ask("PUT", "/v1/placements/home", recipe)
        assert (refused.status, refused.json["code"]) == (503, "not_durable")
        assert refused.headers["retry-after"] == "1"
        assert metric(server, "freshet_write_spool_records") == 276
        assert metric(server, "freshet_write_spool_bytes") > 276 * 100
        assert metric(server, "freshet_write_spool_writable") == 1
        _wait_until_degraded(server, 276)

        broker_of_my_own.start()
        until_direct(ledger, server)
        drained(server)
        assert metric(server, "freshet_write_spool_drained_total") >= 276
        assert metric(server, "freshet_write_spool_bytes") == 0
        assert metric(server, "freshet_write_spool_oldest_seconds") == 0
        assert metric(server, "freshet_not_durable_total") == 1
        ledger.check()
        _check_the_others(own)
        said = server.log.read_text()
        assert said.count("the broker is away") == 1
        assert said.count("the broker is back") == 1
        assert said.count("the spool is empty: ") == 1
        assert server.stop() == 0
        assert spools(own) == []


def _wait_until_degraded(server: Server, spooled: int) -> None:
    """The server stays ready without the broker: it answers reads and accepts writes."""
    found: list[Any] = []

    def is_degraded() -> bool:
        answer = server.ask("GET", "/health/ready")
        assert answer.status == 200, answer.body
        found[:] = [it for it in answer.json["degraded"] if it["part"] == "broker"] + [answer.json]
        return len(found) == 2

    services.wait_until(is_degraded, 20, "it does not say that the broker is away")
    fault, ready = found
    assert fault["code"] == "no_answer"
    assert f"{spooled} records wait on disk" in fault["detail"]
    assert (ready["ready"], ready["spooled"]) == (True, spooled)
    status = server.ask("GET", "/v1/status").json
    assert fault in status["degraded"]
    assert status["fails"] == []
    for components in (ready["parts"], status["ready"]):
        assert (components["broker"], components["writes"]) == (False, True)
    assert 'freshet_ready{part="broker"} 0' in server.ask("GET", "/metrics").body.decode()
    assert 'freshet_ready{part="writes"} 1' in server.ask("GET", "/metrics").body.decode()
    assert server.ask("GET", "/v1/recommendations?user_id=u1").status == 200


def _check_the_others(settings: Settings) -> None:
    changes = [items.decode(record.value) for record in whole(settings, "items")]
    state: dict[str, items.Item | None] = {}
    for change in changes:
        name = change.item.item_id if isinstance(change, items.PutItem) else change.item_id
        state[name] = items.apply(change, state.get(name))
    titles = {name: it.title for name, it in state.items() if it is not None}
    assert titles == {"i1": "two", "i2": "T"}
    changed = [events.decode_stored(record.value) for record in whole(settings, "events")]
    user = pseudonym(*signing_key(settings), "u9")
    assert {it.hidden_items for it in changed if isinstance(it, Preferences)} == {("i9",)}
    assert {it.to for it in changed if isinstance(it, Link)} == {user}


@pytest.mark.check
def test_a_worker_killed_while_the_broker_is_stopped_loses_nothing(
    broker_of_my_own: Broker, own: Settings, tmp_path: Path
) -> None:
    """The next worker starts without the broker, and sends its predecessor's spool first."""
    ledger = Ledger(own)
    with serving(own, tmp_path / "one") as one:
        ledger.send(one, 3)
        broker_of_my_own.process.send_signal(signal.SIGSTOP)
        ledger.send(one, 30)
        kill(one)
    with serving(own, tmp_path / "two") as two:
        ledger.send(two, 30)
        assert metric(two, "freshet_write_spool_records") == 60
        assert metric(two, "freshet_write_spool_taken_over_total") == 1
        kill(two)
    with serving(own, tmp_path / "three") as three:
        ledger.send(three, 3)
        assert metric(three, "freshet_write_spool_records") == 63
        broker_of_my_own.process.send_signal(signal.SIGCONT)
        until_direct(ledger, three)
        ledger.check()
        assert three.stop() == 0
    assert spools(own) == []


@pytest.mark.check
def test_a_sibling_takes_over_and_a_torn_tail_is_cut(
    broker_of_my_own: Broker, own: Settings, tmp_path: Path
) -> None:
    ledger = Ledger(own)
    with serving(own, tmp_path / "one") as one, serving(own, tmp_path / "two") as two:
        ledger.send(two, 1)
        broker_of_my_own.kill()
        ledger.send(one, 40)
        [spool] = [it for it in spools(own) if any(f.stat().st_size for f in it.glob("*.seg"))]
        kill(one)
        with next(iter(spool.glob("*.seg"))).open("ab") as file:
            file.write(b"\x40\0\0\0half a frame")
        broker_of_my_own.start()
        ledger.check()
        services.wait_until(lambda: not spool.exists(), 10, "the spool is not removed")
        assert metric(two, "freshet_write_spool_taken_over_total") == 1
        assert "took over the spool of an ended worker: 40 records" in two.log.read_text()
        assert "ends within a record" in two.log.read_text()


@pytest.mark.check
def test_a_drain_that_is_killed_repeats_records_and_the_fold_counts_each_once(
    broker_of_my_own: Broker, own: Settings, tmp_path: Path
) -> None:
    ledger, made = Ledger(own), set[str]()
    with serving(own, tmp_path / "one") as one:
        broker_of_my_own.process.send_signal(signal.SIGSTOP)
        ledger.send(one, 20, people=2, batch=500)
        receipt = one.ask("POST", "/v1/events", {"events": [{**VIEW, "user_id": "u0"}] * 3}).json
        made.update(receipt["event_ids"])
        assert (len(made), receipt["durable"]) == (3, "spool")
        broker_of_my_own.process.send_signal(signal.SIGCONT)
        services.wait_until(
            lambda: metric(one, "freshet_write_spool_drained_total") > 0, 20, "nothing is sent"
        )
        kill(one)
    [spool] = spools(own)
    # as after a restart of the machine: the mark is lost, and all records are sent once more
    (spool / "lock").write_bytes(b"")
    ledger.sent |= made
    with serving(own, tmp_path / "two") as two:
        drained(two)
        found = ledger.check()
    assert made <= {name for ids in found.values() for name in ids}
    assert sum(map(len, found.values())) > 10_003, "some stand in the log twice"
    _check_counted_once(own, {**{f"u{n}": 5000 for n in range(2)}, "u0": 5003})


def _check_counted_once(settings: Settings, wanted: dict[str, int]) -> None:
    for user, count in wanted.items():
        person = pseudonym(*signing_key(settings), user)
        actions = [
            (record.offset, record.timestamp, action)
            for record in whole(settings, "events")
            if isinstance(action := events.decode_stored(record.value), Action)
            and action.person == person
        ]
        assert len({it.event_id for _, _, it in actions}) == count
        memory = fold_log(actions)
        row = read_row(memory.values[PLAIN.row(0, person)])
        assert row["counts"].sum() == count


@pytest.mark.check
def test_a_full_disk_is_a_503_of_which_nothing_counts(
    broker_of_my_own: Broker, own: Settings, tmp_path: Path
) -> None:
    """A request that the disk took is acknowledged and arrives; one that it did not take does neither."""
    ledger = Ledger(own)
    with serving(own, tmp_path / "log") as server:
        ledger.send(server, 1)
        broker_of_my_own.kill()
        ledger.send(server, 3)
        before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (20_000, before[1]))
        connection, statuses = server.connect(), []
        for n in range(20):
            answer = ledger.try_one(connection, f"u{n % 3}", batch=10)
            statuses.append(answer.status)
            if answer.status == 503:
                assert answer.json["code"] == "not_durable"
                assert answer.headers["retry-after"] == "1"
        assert statuses[0] == 202
        assert statuses[-1] == 503
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)
        services.wait_until(
            lambda: ledger.try_one(connection, "u0").status == 202, 10, "it does not write again"
        )
        connection.close()
        broker_of_my_own.start()
        until_direct(ledger, server)
        ledger.check()
        assert server.log.read_text().count("can't be written") == 1


@pytest.mark.check
def test_without_broker_and_disk_every_write_is_a_503(
    broker_of_my_own: Broker, own: Settings, tmp_path: Path
) -> None:
    """The directory takes no file: writes are accepted with the broker, and a 503 without it."""
    own.data_dir.mkdir(parents=True, exist_ok=True)
    (own.data_dir / "writes").symlink_to("/proc/self")
    ledger = Ledger(own)
    with serving(own, tmp_path / "log") as server:
        ledger.send(server, 2)
        assert metric(server, "freshet_write_spool_writable") == 0
        broker_of_my_own.kill()
        connection = server.connect()
        for n in range(5):
            answer = ledger.try_one(connection, f"u{n % 3}")
            assert (answer.status, answer.json["code"]) == (503, "not_durable")
            assert answer.headers["retry-after"] == "1"
        connection.close()
        assert ("writes", "not_ready") in server.ask("GET", "/health/ready").errors
        broker_of_my_own.start()
        services.wait_until(
            lambda: server.ask("POST", "/v1/events", {**VIEW, "event_id": "e0"}).status == 202,
            20,
            "the broker does not take anything",
        )
        ledger.check()


@pytest.mark.check
def test_a_full_spool_takes_whole_requests_or_nothing(
    broker_of_my_own: Broker, own: Settings, tmp_path: Path
) -> None:
    ledger = Ledger(own)
    with serving(bounded(own, 30_000), tmp_path / "log") as server:
        broker_of_my_own.kill()
        connection = server.connect()
        answers = [ledger.try_one(connection, "u1", batch=20).status for _ in range(10)]
        assert set(answers) == {202, 503}
        assert answers == sorted(answers), "what is behind a full spool does not overtake it"
        size = sum(path.stat().st_size for it in spools(own) for path in it.glob("*.seg"))
        assert size <= 30_000
        connection.close()
        broker_of_my_own.start()
        services.wait_until(
            lambda: metric(server, "freshet_write_spool_drained_total") == 20 * answers.count(202),
            20,
            "it is not sent",
        )
        found = ledger.check()
        assert sum(map(len, found.values())) <= 20 * (answers.count(202) + 1)


@pytest.mark.check
def test_requests_on_one_connection_keep_their_order_over_the_switch(
    broker_of_my_own: Broker, own: Settings, tmp_path: Path
) -> None:
    """The broker stops and returns while a client writes: no gap, and no request overtakes another."""
    ledger = Ledger(own)
    with serving(own, tmp_path / "log") as server:
        for _ in range(2):
            ledger.send(server, 5)
            broker_of_my_own.kill()
            ledger.send(server, 10)
            broker_of_my_own.start()
            until_direct(ledger, server)
        connection = server.connect()
        receipt = ask(connection, "POST", "/v1/events", {**VIEW, "event_id": "e0"}).json
        assert receipt["durable"] == "broker"
        connection.close()
        ledger.check()
