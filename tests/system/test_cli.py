"""The command line against a whole system: imports, every display, clean exits."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from infra.cli.main import COMMANDS, cli
from infra.cli.tail.command import line
from infra.client.answers import Answer
from infra.client.client import Client
from infra.datasets import generated, movielens
from infra.datasets.movielens_files import NotMovieLens
from infra.local.plan import ROOT
from infra.local.system import System
from infra.terminal.text import table
from schemas.flows import FOLDS
from tests.support.waits import until

BARE = {"KAFKA_BOOTSTRAP", "REDIS_URL", "FRESHET_URL", "FRESHET_DATA_DIR"}


def freshet(*arguments: object, code: int | None = 0) -> Result:
    """`freshet` with `arguments`, in this process: a hundred starts of Python would take minutes."""
    runner = CliRunner(env=dict.fromkeys(BARE))
    done = runner.invoke(cli, [*map(str, arguments)], prog_name="freshet")
    assert code is None or done.exit_code == code, done.output
    return done


def spawned(*arguments: object) -> subprocess.Popen[str]:
    """`freshet` with `arguments`, as a shell starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "infra.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def read_json(system: System, *arguments: object) -> Any:
    return json.loads(freshet(*arguments, "--json", "--data-dir", system.directory).stdout)


@pytest.fixture(scope="module")
def history(system: System, tmp_path_factory: pytest.TempPathFactory) -> System:
    """The system after a small history: 40 films, 12 people who each liked 9 of them."""
    folder = tmp_path_factory.mktemp("history")
    items, events = folder / "items.ndjson", folder / "events.ndjson.gz"
    genres = ("Crime", "Drama")
    with items.open("w") as file:
        for n in range(40):
            item = {"item_id": f"i{n}", "title": f"Film {n}", "category": genres[n % 2]}
            file.write(json.dumps(item) + "\n")
    with gzip.open(events, "wt") as file:
        for minute in range(9):
            for person in range(12):
                at = f"2026-11-01T10:{minute:02}:{person:02}Z"
                item_id = f"i{(person % 3) * 9 + minute}"
                event = {"user_id": f"u{person}", "item_id": item_id, "action": "like"}
                file.write(json.dumps(event | {"occurred_at": at}) + "\n")
    report = read_json(system, "import", "--items", items, "--events", events)
    assert report["items"]["accepted"] == 40
    assert report["events"]["accepted"] == 108
    assert report["events"]["positions"], "one for each partition touched"
    await_folded(system)
    return system


def await_folded(system: System) -> None:
    def caught_up() -> bool:
        status = read_json(system, "status")
        return all(flow["lag"] == 0 for flow in status["flows"]) and status["tables"] is not None

    until(caught_up)


def test_help_takes_little_processor_time() -> None:
    took = []
    for _ in range(3):  # the first may have to compile
        before = os.times()
        said, _ = spawned("--help").communicate()
        after = os.times()
        # processor time: a test machine may be busy with others
        took.append(sum(after[2:4]) - sum(before[2:4]))
    assert min(took) < 0.3
    for name in ("up", "import", "status", "tail", "inspect", "topics", "keys", "serve", "flows"):
        assert re.search(rf"^  {name} ", said, re.MULTILINE)


@pytest.mark.parametrize("command", sorted({it.name for it in COMMANDS} - {"demo", "bench"}))
def test_every_command_explains_itself(command: str) -> None:
    said = freshet(command, "--help").stdout
    assert said.startswith(f"Usage: freshet {command}")
    assert "freshet " in said.partition("\n")[2] or command in ("serve", "keys", "setup")


def test_a_wrong_call_is_exit_2() -> None:
    assert "No such command" in freshet("swim", code=2).stderr
    assert (
        "name what to load with --movielens, --items or --events"
        in freshet("import", code=2).stderr
    )
    assert (
        "--dry-run takes the flow people"
        in freshet("flows", "run", "control", "--dry-run", code=2).stderr
    )


@pytest.mark.parametrize("command", [("status",), ("tail", "events"), ("inspect", "user", "u1")])
def test_nothing_running_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = freshet(*command, code=2)
    assert done.stderr == (
        "freshet: nothing runs in .freshet: start it with `freshet up`, or name a running one with"
        " --data-dir, or with KAFKA_BOOTSTRAP and REDIS_URL\n"
    )


def test_status_counts_what_was_imported(history: System) -> None:
    status = read_json(history, "status")
    assert status["serving_status"] == 200
    people = [flow for flow in status["flows"] if flow["flow"] == "people"]
    assert [flow["partition"] for flow in people] == [0, 1, 2, 3]
    assert sum(flow["offset"] for flow in people) >= 108
    assert {it["name"] for it in status["processes"]} >= {"people", "redis", "serving-1"}
    counted = {it["process"]: it for it in status["metrics"]}
    assert set(counted) == {flow.name for flow in FOLDS}
    assert counted["people"]["records"] >= 108
    assert counted["people"]["commit_p95_ms"] > 0
    assert counted["people"]["dead_letters"] == counted["people"]["fenced"] == 0
    assert counted["people"]["out"] == 0
    said = freshet("status", "--data-dir", history.directory).stdout
    assert history.url in said
    assert "people" in said


def test_config_is_the_running_system_s(history: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRESHET_BATCH", "7")  # of this environment, not of that system
    report = read_json(history, "config")
    assert report["system"] == str(history.directory)
    settings = {it["name"]: it for it in report["settings"]}
    assert settings["kafka_bootstrap"]["value"] == history.kafka_bootstrap
    assert settings["kafka_bootstrap"]["source"] == "running system"
    assert (settings["batch"]["value"], settings["batch"]["source"]) == (2000, "default")
    said = freshet("config", "--data-dir", history.directory).stdout
    assert said.startswith(f"The system in {history.directory}")
    assert history.redis_url in said


def test_importing_again_sends_the_same_ids(history: System, tmp_path: Path) -> None:
    events = tmp_path / "events.ndjson"
    line = {
        "user_id": "again",
        "item_id": "i1",
        "action": "view",
        "occurred_at": "2026-11-01T10:00:00Z",
    }
    events.write_text(json.dumps(line) + "\n")
    for options in ((), ("--again",)):
        assert read_json(history, "import", "--events", events, *options)["events"]["sent"] == 1
    await_folded(history)
    until(lambda: read_json(history, "inspect", "user", "again")["known"])
    assert read_json(history, "inspect", "user", "again")["counts"] == {"view": 1}


def test_what_the_edge_rejects_is_reported_and_exits_with_1(
    history: System, tmp_path: Path
) -> None:
    events = tmp_path / "events.ndjson"
    good = {
        "user_id": "u1",
        "item_id": "i1",
        "action": "view",
        "occurred_at": "2026-11-01T10:00:00Z",
    }
    events.write_text("\n".join(json.dumps(it) for it in (good, good | {"action": "swim"})))
    done = freshet("import", "--events", events, "--data-dir", history.directory, code=1)
    assert "1 of 2 accepted" in done.stdout
    assert "1 rejected: action unknown_action" in done.stdout
    events.write_text("[1]\n")
    done = freshet("import", "--events", events, "--data-dir", history.directory, code=1)
    assert f"{events}" in done.stderr
    events.write_text(json.dumps(good | {"action": "swim"}))  # alone, so all of a batch is refused
    done = freshet("import", "--events", events, "--data-dir", history.directory, code=1)
    assert "0 of 1 accepted" in done.stdout
    assert "1 rejected: action unknown_action" in done.stdout


def test_an_import_says_what_will_not_count(history: System, tmp_path: Path) -> None:
    """A view of 2062 once made every other item worth nothing, for ever."""
    at = "2026-11-01T10:00:00Z"
    line = {"event_id": "f1", "user_id": "kim", "item_id": "i1", "action": "view"}
    lines = [
        line | {"occurred_at": at},
        line | {"occurred_at": at},
        line | {"occurred_at": at, "item_id": "rug"},
        line | {"occurred_at": "2062-01-01T00:00:00Z", "event_id": "f3"},
    ]
    (events := tmp_path / "events.ndjson").write_text("\n".join(map(json.dumps, lines)))
    done = freshet("import", "--events", events, "--data-dir", history.directory, code=1)
    assert "2 of 4 accepted" in done.stdout
    assert "1 rejected: occurred_at in_the_future" in done.stdout
    assert "1 left out: each equals an earlier line" in done.stdout
    assert "1 on items that the catalogue does not have" in done.stdout
    events.write_text("\n".join(map(json.dumps, lines[:3])))
    report = read_json(history, "import", "--again", "--events", events)["events"]
    assert (report["duplicates"], report["unknown_items"]) == (1, 1)
    assert report["unknown_over_limit"] == 0


def test_a_file_that_is_no_archive_is_a_sentence(history: System, tmp_path: Path) -> None:
    whole = gzip.compress(b'{"item_id": "i1"}\n' * 1000)
    for data in (b"plain text", whole[:-20], whole[:-8]):
        (path := tmp_path / "events.gz").write_bytes(data)
        done = freshet("import", "--events", path, "--data-dir", history.directory, code=1)
        assert done.stderr.splitlines()[-1].startswith(f"{path}")
    freshet("import", "--events", tmp_path, "--data-dir", history.directory, code=2)


def test_a_movielens_folder_is_imported(history: System, tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text(
        "movieId,title,genres\n"
        '901,"Seven, the Film (1995)",Crime|Thriller\n'
        "902,Bare,(no genres listed)\n"
        "903,Worse,Crime\n"
    )
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n"
        "77,902,3.5,964982800\n77,901,4.0,964982703\n77,903,0.5,964982900\n"
    )
    report = read_json(history, "import", "--movielens", tmp_path)
    assert (report["items"]["accepted"], report["events"]["accepted"]) == (3, 3)
    until(lambda: len(read_json(history, "inspect", "user", "77")["recent"]) == 3)
    recent = read_json(history, "inspect", "user", "77")["recent"]
    assert [(it["action"], it["title"], it["category"]) for it in recent] == [
        ("rated_down", "Worse", "Crime"),
        ("rate", "Bare", ""),
        ("like", "Seven, the Film (1995)", "Thriller"),
    ]


def test_inspect_user_shows_the_state_of_a_person(history: System) -> None:
    person = read_json(history, "inspect", "user", "u3")
    assert person["known"]
    assert person["counts"] == {"like": 9}
    assert person["seen"] == 9
    assert [it["item_id"] for it in person["recent"]] == [f"i{n}" for n in reversed(range(9))]
    assert [it["category"] for it in person["affinity"]] == ["Crime", "Drama"]
    by_pseudonym = read_json(history, "inspect", "user", person["pseudonym"])
    assert by_pseudonym["counts"] == person["counts"]
    assert read_json(history, "inspect", "user", " u3 ")["pseudonym"] == person["pseudonym"]
    said = freshet("inspect", "user", "u3", "--data-dir", history.directory).stdout
    assert "9 like" in said
    assert "Film 8" in said
    assert read_json(history, "inspect", "user", "nobody")["known"] is False


def test_inspect_item_shows_an_item_and_its_neighbours(history: System) -> None:
    shown: dict[str, Any] = {}

    def counted() -> bool:
        shown.update(read_json(history, "inspect", "item", "i4"))
        return bool(shown["neighbours"])

    until(counted)
    assert shown["item"]["title"] == "Film 4"
    assert shown["popularity"]["90d"] > shown["popularity"]["24h"] >= 0
    assert {it["title"] for it in shown["neighbours"]} <= {f"Film {n}" for n in range(9)}
    done = freshet("inspect", "item", "no-such", "--data-dir", history.directory, code=1)
    assert done.stderr == "freshet: neither the catalogue nor the tables hold this item\n"


def test_a_title_cannot_steer_the_terminal() -> None:
    item = {"item_id": "i1", "title": "Bad\x1b[2J"}
    record = {"timestamp": 0, "value": {"kind": "put", "item": item}}
    assert "Bad\ufffd[2J" in line("items", record)
    (cell,) = table("", ("title",), [("Bad\x1b[2J",)]).columns[0].cells
    assert str(cell) == "Bad\ufffd[2J"


async def slate_of(system: System, person: str) -> Answer:
    async with Client(system.url) as client:
        return (await client.recommendations(person, count=5)).value


def test_inspect_slate_shows_a_slate_and_its_outcomes(history: System) -> None:
    answer = asyncio.run(slate_of(history, "u3"))
    slate_id = answer.slate_id or ""
    until(
        lambda: (
            freshet(
                "inspect", "slate", slate_id, "--data-dir", history.directory, code=None
            ).exit_code
            == 0
        )
    )
    slate = read_json(history, "inspect", "slate", slate_id)
    assert [it["item_id"] for it in slate["items"]] == [it.item_id for it in answer.items]
    assert slate_id
    assert slate_id in freshet("inspect", "slate", slate_id, "--data-dir", history.directory).stdout


def test_tail_prints_records(history: System) -> None:
    where = ("--data-dir", history.directory)
    done = freshet("tail", "events", "--from-beginning", "-n", "3", "--json", *where)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(records) == 3
    assert all(record["value"]["kind"] == "action" for record in records)
    assert all(record["headers"] == {"freshet-schema": "event/1"} for record in records)
    assert not re.search(r"\bu\d+\b", done.stdout), "people are pseudonyms"
    said = freshet("tail", "items", "--from-beginning", "-n", "1", *where).stdout
    assert re.search(r"put +i\d+  Film \d+", said)


@pytest.mark.parametrize("end", ["interrupt", "pipe"])
def test_tail_stops_cleanly(history: System, end: str) -> None:
    command = ("tail", "events", "--from-beginning", "--data-dir", history.directory)
    with spawned(*command) as tail:
        assert tail.stdout
        assert tail.stderr
        assert "liked" in tail.stdout.readline()
        if end == "interrupt":
            tail.send_signal(signal.SIGINT)
        else:
            tail.stdout.close()  # nothing more comes: it must notice by itself
        assert tail.wait(10) == 0
        assert tail.stderr.read() == ""


def test_dry_run_prints_the_writes_and_makes_none(history: System) -> None:
    before = read_json(history, "status")["flows"]
    partition = next(
        it["partition"] for it in before if it["flow"] == "people" and it["offset"] > 5
    )
    command = ("flows", "run", "people", "--partition", partition, "--from", 2, "--dry-run")
    done = freshet(*command, "--limit", 3, "--data-dir", history.directory)
    assert done.stdout.startswith(f"partition {partition}, offsets 2 to 4\n")
    assert f"u:{{{partition}}}:" in done.stdout
    assert done.stderr.endswith("1 transaction would be committed; nothing was written\n")
    lines = freshet(*command, "--json", "--data-dir", history.directory).stdout.splitlines()
    assert json.loads(lines[0])["first"] == 2
    after = read_json(history, "status")["flows"]
    assert [it["offset"] for it in after] == [it["offset"] for it in before]


def test_topics_and_keys_are_listed(
    history: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = {it["name"]: it for it in read_json(history, "topics")}
    assert len(topics["events"]["partitions"]) == 4
    assert topics["events"]["records"] >= 108
    assert len(topics["control"]["partitions"]) == 1
    assert topics["control"]["schema"] == "change/1"
    monkeypatch.chdir(tmp_path)
    away = json.loads(freshet("topics", "--json").stdout)
    assert [it["partitions"] for it in away] == [[]] * len(topics)
    schema = json.loads(freshet("topics", "--schema", "events").stdout)
    assert schema["title"] == "events"
    assert "$schema" in schema
    assert "--schema takes one of" in freshet("topics", "--schema", "nope", code=2).stderr
    keys = json.loads(freshet("keys", "--json").stdout)
    assert {"u:{*}:*", "tb:{tables*}:meta"} <= {key["pattern"] for key in keys}
    assert "u:{*}:*" in freshet("keys").stdout


def test_movielens_is_found_by_its_file_names(tmp_path: Path) -> None:
    assert movielens.find({}, tmp_path) is None
    deep = tmp_path / "data" / "a" / "ml"
    deep.mkdir(parents=True)
    for name in movielens.FILES:
        (deep / name).touch()
    assert movielens.find({}, tmp_path) == deep
    given = tmp_path / "elsewhere"
    given.mkdir()
    assert movielens.find({"DATA": str(given)}, tmp_path) == deep, "$DATA holds none"
    for name in movielens.FILES:
        (given / name).touch()
    assert movielens.find({"DATA": str(given)}, tmp_path) == given
    with pytest.raises(NotMovieLens, match=r"has no ratings\.csv and no movies\.csv"):
        movielens.load(tmp_path)


def test_the_generated_catalogue_is_the_same_every_time() -> None:
    made = generated.generated(3)
    assert made == generated.generated(3) != generated.generated(4)
    assert (len(made.items), len(made.ratings)) == (generated.ITEMS, generated.RATINGS)
    assert len({it.title for it in made.items}) == generated.ITEMS
    assert len({(it.user_id, it.item_id) for it in made.ratings}) == generated.RATINGS
    assert [it.at for it in made.ratings] == sorted(it.at for it in made.ratings)
    assert "generated" in made.source
