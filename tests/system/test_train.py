"""`freshet train` and `freshet release` against a whole system: learned, served, taken back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.apps.bulk_import.catalogue import send_catalogue
from infra.apps.bulk_import.system import Endpoint
from infra.datasets import generated
from infra.datasets.movielens import Dataset
from infra.local.services import wait_until
from infra.local.system import System
from tests.system.test_cli import freshet, read_json

pytestmark = [pytest.mark.check, pytest.mark.timeout(300)]
RATINGS = 6_000


def fill(system: System, ratings: int) -> Dataset:
    whole = generated.generated()
    some = Dataset(whole.items, whole.ratings[:ratings], whole.source)
    target = Endpoint(system.url, system.token)
    send_catalogue(target, some)
    return some


def status(system: System) -> dict[str, Any]:
    serving: dict[str, Any] = read_json(system, "status")["serving"] or {}
    return serving


def serves(system: System, release: str) -> None:
    wait_until(lambda: status(system).get("release") == release, 20, f"{release} does not serve")


def test_a_release_is_learnt_served_followed_and_taken_back(system: System) -> None:
    where = ("--data-dir", system.directory)
    empty = freshet("train", *where, code=1)
    assert "nothing that a person did" in empty.output
    assert "Traceback" not in empty.output
    some = fill(system, RATINGS)
    short = freshet("train", "--until", "9.9.9.9", *where, code=1)
    assert "too small" in short.output
    assert freshet("train", "--until", "soon", *where, code=2).output.count("\n") >= 1

    built_in = status(system).get("release")
    tried = read_json(system, "train", "--no-publish")
    assert tried["release"] == ""
    assert not list(system.settings.releases.glob("*"))
    trained = read_json(system, "train")
    first, released = trained["release"], trained["released"]
    assert released == any(it["outcome"] == "released" for it in trained["gate"].values())
    if not released:  # it is kept, and a person may promote it
        assert status(system).get("release") == built_in
        freshet("release", "activate", first, *where)
    serves(system, first)
    manifest = json.loads((system.settings.releases / first / "manifest.json").read_text())
    # of the log: a batch that was sent again is in it twice
    assert sum(manifest["data"]["offsets"]) == manifest["data"]["events"] >= len(some.ratings)
    assert manifest["metrics"] == {**manifest["metrics"], "gate": tried["gate"]}

    second = read_json(system, "train", "--no-activate")["release"]
    serves(system, first)
    listed = read_json(system, "release", "list")
    assert [(it["id"], it["current"], it["parent"]) for it in listed] == [
        (second, False, first),
        (first, True, ""),
    ]
    freshet("release", "promote", second, "--reason", "by hand", *where)
    serves(system, second)
    back = freshet("release", "promote", first, *where, code=2)
    assert f"`freshet release rollback --to {first}` returns to it" in back.output
    freshet("release", "rollback", *where)
    serves(system, first)
    assert read_json(system, "release", "show", second)["parent"] == first
    assert (
        "there is no release" in freshet("release", "show", "2020-01-01.1", *where, code=2).output
    )
