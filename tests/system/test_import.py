"""`freshet import` against a server that takes what the API takes: faults, memory, and what it says."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from infra.apps.bulk_import import memory
from infra.local.plan import ROOT
from tests.support.api import Answer, Api, serving
from tests.system.test_cli import freshet

MONDAY = (
    '{"user_id":"ann","item_id":"mug","action":"view","occurred_at":"2026-11-20T09:00:00Z"}\n'
    '{"user_id":"bob","item_id":"jug","action":"view","occurred_at":"2026-11-20T09:01:00Z"}\n'
)
TUESDAY = (
    '{"user_id":"cat","item_id":"mug","action":"view","occurred_at":"2026-11-21T08:00:00Z"}\n'
    + MONDAY
)


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as server:
        yield server


class Importer:
    """Imports files of these lines, with one data folder."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.api, self.folder = api, folder
        self._files = 0

    def file(self, text: str | bytes) -> Path:
        self._files += 1
        path = self.folder / f"{self._files}.ndjson"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def where(self) -> list[str]:
        return ["--url", self.api.url, "--data-dir", str(self.folder / "data")]

    def run(self, *options: object, code: int = 0) -> Result:
        return freshet("import", *self.where(), *options, code=code)

    def events(self, text: str | bytes, *options: object, code: int = 0) -> Any:
        done = self.run("--json", "--events", self.file(text), *options, code=code)
        return json.loads(done.stdout)["events"]

    def memory(self) -> list[Path]:
        return sorted(it for it in (self.folder / "data").rglob("imports/*/*/*"))


@pytest.fixture
def importer(api: Api, tmp_path: Path) -> Importer:
    return Importer(api, tmp_path)


def views(count: int, people: int = 1) -> str:
    return "".join(
        f'{{"user_id":"u{n % people}","item_id":"i{n}","action":"view",'
        f'"occurred_at":"2026-11-20T09:{n // 60 % 60:02}:{n % 60:02}Z"}}\n'
        for n in range(count)
    )


def ids(api: Api) -> list[str]:
    return [line["event_id"] for line in api.lines]


def test_the_dump_of_tonight_adds_only_what_is_new(importer: Importer, api: Api) -> None:
    assert importer.events(MONDAY)["sent"] == 2
    report = importer.events(TUESDAY)
    assert (report["read"], report["sent"], report["already_sent"]) == (3, 1, 2)
    assert {line["user_id"] for line in api.lines[:2]} == {"ann", "bob"}
    assert api.lines[2]["user_id"] == "cat"
    assert len(set(ids(api))) == 3
    assert importer.events(TUESDAY + TUESDAY.replace("cat", "dan"))["sent"] == 3, "two are equals"
    assert [path.name for path in importer.memory()] == ["2026-11-20", "2026-11-21"]


def test_equal_events_of_one_import_are_as_many_as_the_files_have(
    importer: Importer, api: Api
) -> None:
    first, other = importer.file(MONDAY * 2), importer.file(MONDAY)
    importer.run("--events", first, "--events", other)
    assert len(set(ids(api))) == 6
    stem = ids(api)[0]
    assert [it for it in ids(api) if it.startswith(stem)] == [stem, f"{stem}-2", f"{stem}-3"]
    assert importer.events(MONDAY * 3)["already_sent"] == 6
    assert importer.events(MONDAY * 4)["sent"] == 2


def test_again_sends_the_same_ids(importer: Importer, api: Api) -> None:
    importer.events(MONDAY)
    importer.events(MONDAY, "--again")
    assert {*ids(api)[:2]} == {*ids(api)[2:]}
    assert sum(it.stat().st_size for it in importer.memory()) == 16, "it is remembered once"


def test_each_source_has_a_memory_of_its_own(importer: Importer) -> None:
    assert importer.events(MONDAY, "--source", "shop")["sent"] == 2
    assert importer.events(MONDAY, "--source", "blog")["sent"] == 2
    assert importer.events(MONDAY, "--source", "shop")["sent"] == 0
    for name in ("", "..", "a/b", ".hidden", "x" * 65, "a\n"):
        done = importer.run("--events", importer.file(MONDAY), "--source", name, code=2)
        assert "give it another name" in done.stderr


def test_another_log_gets_everything(importer: Importer, api: Api) -> None:
    importer.events(MONDAY)
    api.topic = "log-2"
    report = importer.events(MONDAY)
    assert report["sent"] == 2
    assert [(it["code"], it["count"]) for it in report["warnings"]] == [("other_log", 2)]
    assert importer.events(MONDAY)["warnings"] == []
    api.topic = "-"
    assert importer.events(MONDAY)["sent"] == 2
    assert importer.events(MONDAY)["sent"] == 0, "the address names a log without an id"


def test_a_bad_line_costs_that_line(importer: Importer, api: Api) -> None:
    first = importer.file(MONDAY + "{\n" + "oops\n" + '{"user_id":"secretive"}\n' + MONDAY)
    other = importer.file(b'{"user_id":"\xff","item_id":"a","action":"view"}\n' + MONDAY.encode())
    done = importer.run("--events", first, "--events", other, code=1)
    assert len(api.lines) == 6
    assert f"{first}, line 3: line malformed_json" in done.stderr
    assert f"{first}, line 4:" not in done.stderr, "one line for each kind"
    assert f"{other}, line 1: line not_utf8" in done.stderr
    assert f"2 faulty: line malformed_json (first: {first}, line 3)" in done.stdout
    assert "6 of 6 accepted" in done.stdout
    assert "oops" not in done.output
    assert "secretive" not in done.output


def test_a_line_that_the_api_rejects_is_named_by_file_and_line(
    importer: Importer, api: Api
) -> None:
    rejected = [{"index": 1, "field": "action", "code": "unknown_action"}]
    api.answers = [(202, {"accepted": 2, "rejected": rejected, "positions": []})]
    path = importer.file("\n" + views(3))
    done = importer.run("--json", "--events", path, code=1)
    report = json.loads(done.stdout)["events"]
    assert report["rejected"] == [
        {"field": "action", "code": "unknown_action", "count": 1, "file": str(path), "line": 3}
    ]
    assert done.stderr == f"{path}, line 3: action unknown_action\n"
    again = importer.events(views(3))
    assert (again["already_sent"], again["sent"]) == (2, 1), "what was rejected is not remembered"


def test_a_body_that_is_refused_whole_costs_one_line(importer: Importer, api: Api) -> None:
    too_large: Answer = (413, {"code": "record_too_large"})
    api.refuse = lambda body: too_large if b'"i7"' in body else None
    report = importer.events(views(20), code=1)
    assert (report["sent"], report["accepted"]) == (20, 19)
    assert [(it["code"], it["line"]) for it in report["rejected"]] == [("record_too_large", 8)]


def test_strict_stops_at_the_first_bad_line(importer: Importer, api: Api) -> None:
    bad = importer.file(MONDAY + "{\n")
    done = importer.run("--strict", "--events", bad, "--events", importer.file(TUESDAY), code=1)
    assert done.stderr == f"{bad}, line 3: line malformed_json\n"
    assert "stopped at the first line that is refused" in done.stdout
    assert api.bodies == []
    api.answers = [(422, {"errors": [{"field": "events[0].action", "code": "unknown_action"}]})]
    report = importer.events(views(5000), "--strict", "--connections", 1, "--batch", 1, code=1)
    assert report["stopped"]
    assert (report["sent"], report["accepted"]) == (1, 0)


def test_a_file_that_is_cut_costs_its_rest(importer: Importer, api: Api) -> None:
    import gzip

    whole = gzip.compress(views(20_000).encode(), 1)
    cut, good = importer.file(whole[: len(whole) // 2]), importer.file(MONDAY)
    done = importer.run("--json", "--events", cut, "--events", good, code=1)
    report = json.loads(done.stdout)["events"]
    assert 2 < report["accepted"] < 20_002
    assert {line["user_id"] for line in api.lines} == {"u0", "ann", "bob"}
    assert [(it["file"], it["code"]) for it in report["faults"]] == [(str(cut), "not_readable")]


def test_a_file_out_of_order_is_named(importer: Importer) -> None:
    report = importer.events(TUESDAY)
    assert [(it["code"], it["count"]) for it in report["warnings"]] == [("out_of_order", 1)]
    assert "first: line 2" in report["warnings"][0]["text"]


def test_many_unknown_items_are_a_warning(importer: Importer, api: Api) -> None:
    for unknown, warned in ((1, []), (2, ["unknown_items"])):
        answer = {"accepted": 100, "rejected": [], "positions": [], "unknown_items": unknown}
        api.answers = [(202, answer)]
        report = importer.events(views(100), "--again", "--batch", 1000, "--connections", 1)
        assert [it["code"] for it in report["warnings"]] == warned


def test_each_persons_events_arrive_in_order(importer: Importer, api: Api) -> None:
    importer.events(views(3000, people=7), "--batch", 50)
    assert len(api.lines) == 3000
    for person in range(7):
        items = [int(it["item_id"][1:]) for it in api.lines if it["user_id"] == f"u{person}"]
        assert items == sorted(items)


def test_items_have_no_memory(importer: Importer, api: Api) -> None:
    items = importer.file('{"item_id":"mug","title":"Mug"}\n{"item_id":7}\n{"title":"Jug"}\n')
    for _ in range(2):
        done = importer.run("--items", items, code=1)
        assert f"{items}, line 3: item_id required" in done.stderr
    assert sorted(it["item_id"] for it in api.lines) == ["7", "7", "mug", "mug"]
    assert importer.memory() == []


def test_attributes_that_the_api_drops_are_a_warning_and_null_is_not_said(
    importer: Importer, api: Api
) -> None:
    dropped = [{"index": 0, "field": "attributes.a", "code": it} for it in ("out_of_range", "null")]
    api.answers = [(202, {"accepted": 1, "rejected": [], "positions": [], "dropped": dropped})]
    items = importer.file('{"item_id":"mug","attributes":{"a":1152921504606846977,"b":null}}\n')
    for more in ((), ("--dry-run",)):
        report = json.loads(importer.run("--items", items, "--json", *more).stdout)["items"]
        warned = [(it["code"], it["count"]) for it in report["warnings"]]
        assert warned == [("attributes_dropped", 1)]


def test_an_import_that_fails_says_what_it_did(importer: Importer, api: Api) -> None:
    api.refuse = lambda body: (401, {"code": "unauthorized"}) if b'"i60"' in body else None
    options = ("--batch", 50, "--connections", 1, "--json")
    done = importer.run("--events", importer.file(views(100)), *options, code=1)
    assert "answered 401 unauthorized" in done.stderr
    assert json.loads(done.stdout)["events"]["accepted"] == 50
    api.refuse = lambda body: None
    assert importer.events(views(100))["already_sent"] == 50


def test_one_import_of_a_source_runs_at_a_time(importer: Importer, api: Api) -> None:
    importer.events(MONDAY)
    with memory.opened(importer.folder / "data", "default", "log-1"):
        done = importer.run("--events", importer.file(TUESDAY), code=1)
    assert "another import of the source default runs: wait for its end" in done.stderr
    assert "--source" in done.stderr
    assert len(api.lines) == 2


def test_options_that_are_wrong_are_named(importer: Importer) -> None:
    path = importer.file(MONDAY)
    for options, words in (
        (("--map", "sku"), "--map takes FIELD=VALUE pairs, like --map item_id=sku"),
        (("--set", "action="), "--set takes FIELD=VALUE pairs"),
        (("--map", "colour=a"), "--map names no field colour: the fields are item_id, "),
        (("--set", "context=a", "--set", "hue=b"), "--set names no field hue"),
        (("--map", "item_id=a,item_id=b"), "--map names the field item_id twice"),
    ):
        assert words in importer.run("--events", path, *options, code=2).stderr
    done = importer.run("--events", importer.folder, code=2)
    assert "is a directory" in done.stderr
    done = importer.run(code=2)
    assert "name what to load with" in done.stderr
    done = importer.run("--movielens", importer.folder, "--map", "item_id=a", code=2)
    assert "--map, --set and --encoding are for files" in done.stderr


def test_a_kind_of_fault_in_every_line_is_not_shown_for_every_line(importer: Importer) -> None:
    lines = "".join(f'{{"item_id":"a","field{n}":1}}\n' for n in range(1500))
    done = importer.run("--items", importer.file(lines), code=1)
    assert len(done.stderr.splitlines()) == 21
    assert "line 21: more kinds are in the summary" in done.stderr
    assert "500 faulty: line other" in done.stdout


def test_columns_and_constants_are_mapped(importer: Importer, api: Api) -> None:
    rows = importer.file("customer,sku,when\nann,mug,2026-11-20T09:00:00Z\n")
    importer.run("--events", rows, "--map", "user_id=customer,item_id=sku", "--map",
                 "occurred_at=when", "--set", "action=view")  # fmt: skip
    (line,) = api.lines
    assert (line["user_id"], line["item_id"], line["action"]) == ("ann", "mug", "view")
    rows = importer.file('"a, b",c=d,occurred_at\nbob,jug,2026-11-20T09:00:00Z\n')
    importer.run("--events", rows, "--map", "user_id=a, b,item_id=c=d", "--set", "action=view")
    assert (api.lines[1]["user_id"], api.lines[1]["item_id"]) == ("bob", "jug")


def started(importer: Importer, path: Path, *options: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "infra.cli",
            "import",
            *importer.where(),
            "--events",
            path,
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        **more,
    )


def test_a_kill_between_answer_and_memory_sends_the_same_ids(importer: Importer, api: Api) -> None:
    path = importer.file(views(100))
    importing = started(importer, path, "--batch", "40", "--connections", "1")

    def kill_at_the_second(body: bytes) -> None:
        if len(api.bodies) == 1:
            api.bodies.append([json.loads(line) for line in body.splitlines()])
            os.kill(importing.pid, signal.SIGKILL)

    api.refuse = kill_at_the_second
    with importing:
        assert importing.wait(60) == -signal.SIGKILL
    api.refuse = lambda body: None
    first, second = ids_of(api.bodies[0]), ids_of(api.bodies[1])
    del api.bodies[:]
    report = json.loads(importer.run("--json", "--events", path, "--connections", 1).stdout)[
        "events"
    ]
    assert (report["already_sent"], report["sent"]) == (40, 60)
    assert ids(api)[:40] == second
    assert not {*first} & {*ids(api)}


def test_an_interrupted_import_remembers_what_was_accepted(importer: Importer, api: Api) -> None:
    path = importer.file(views(3000))
    importing = started(importer, path, "--batch", "10", "--connections", "1", "--json")

    def interrupt(body: bytes) -> None:
        if len(api.bodies) == 1:
            os.kill(importing.pid, signal.SIGINT)

    api.refuse = interrupt
    with importing:
        out, err = importing.communicate(timeout=60)
    assert importing.returncode == 1
    assert "Traceback" not in err
    report = json.loads(out)["events"]
    assert 20 <= report["accepted"] < 3000
    assert sum(it.stat().st_size for it in importer.memory()) == 8 * report["accepted"]


def ids_of(body: list[dict[str, Any]]) -> list[str]:
    return [line["event_id"] for line in body]


def test_a_disk_that_fills_stops_the_import_and_says_what_is_not_remembered(
    importer: Importer, api: Api
) -> None:
    path = importer.file(views(1000))

    def limit() -> None:  # a file may have 100 entries and a half
        resource.setrlimit(resource.RLIMIT_FSIZE, (804, 804))

    with started(importer, path, "--batch", "50", "--connections", "1", preexec_fn=limit) as done:
        out, err = done.communicate(timeout=60)
    assert done.returncode == 1
    (file,) = importer.memory()
    assert f"cannot be written to {file.parent}" in err
    assert "50 events were accepted and are not remembered" in err
    assert "make room there and import again" in err
    assert "150 of 150 accepted" in out
    assert len(api.lines) == 150
    report = importer.events(views(1000))
    assert (report["already_sent"], report["sent"]) == (100, 900)


def test_a_disk_that_is_full_is_told_before_anything_is_sent(importer: Importer, api: Api) -> None:
    importer.events(MONDAY)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    path = importer.file(TUESDAY)
    with started(importer, path, preexec_fn=limit) as done:
        _, err = done.communicate(timeout=60)
    assert done.returncode == 1
    assert "cannot hold the memory of this import" in err
    assert "make room there" in err
    with started(importer, path, "--dry-run", preexec_fn=limit) as done:
        _, err = done.communicate(timeout=60)
    assert "freshet: no folder can hold what this import counts" in err
    assert "TMPDIR" in err
    assert len(api.lines) == 2


def test_a_folder_that_cannot_be_made_is_a_sentence(importer: Importer) -> None:
    (importer.folder / "data").mkdir()
    (importer.folder / "data" / ".freshet-data").touch()
    (importer.folder / "data" / "imports").touch()
    done = importer.run("--events", importer.file(MONDAY), code=1)
    assert "cannot hold the memory of this import" in done.stderr
    assert "--data-dir" in done.stderr


def test_a_time_of_an_item_without_an_offset_is_read_as_in_a_table(
    importer: Importer, api: Api
) -> None:
    items = importer.file(
        '{"item_id":"mug","published_at":"2026-11-20T09:00:00"}\n'
        '{"item_id":"jug","published_at":1795165200,"expires_at":"9999-12-31"}\n'
        '{"item_id":"cup","published_at":"soon"}\n'
        '{"item_id":"pan","published_at":"1939-08-15"}\n'
    )
    done = importer.run("--items", items, code=1)
    assert "1 faulty: published_at not_a_time" in done.stdout
    at = {line["item_id"]: line["published_at"] for line in api.lines}
    nine = "2026-11-20T09:00:00.000Z"
    assert at == {"mug": nine, "jug": nine, "pan": "1939-08-15"}
