"""Every package has a licence, the bill of materials has every package, images have digests."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from infra.local.services import free_port
from infra.supply_chain import images
from infra.supply_chain.advisories import OSV, report
from infra.supply_chain.bom import bom
from infra.supply_chain.licences import COPYLEFT, DOCUMENT, document, said
from infra.supply_chain.locks import EVERY, ROOT, SHIPPED, Package, packages, stated

LICENCES = stated()["licences"]
FOUND = packages(*SHIPPED)
PYJWT = Package("pyjwt", "1.0", "", ("0" * 64,), "serve")
ONES = [PYJWT, PYJWT._replace(name="redis")]


def test_every_package_that_runs_has_a_licence_and_no_other_has() -> None:
    """Where it fails for a new package: read its licence, add it to packages.toml, `make licences`."""
    assert {it.name for it in FOUND} - LICENCES.keys() == set(), "without a licence"
    assert LICENCES.keys() - {it.name for it in FOUND} == set(), "not locked any more"
    assert {it.name for it in FOUND} < {it.name for it in packages(*EVERY)}


def test_a_licence_is_what_the_package_says() -> None:
    says = {name: expression for name in LICENCES if (expression := said(name))}
    assert len(says) > 30
    assert {name: LICENCES[name] for name in says} == says


def test_a_copyleft_licence_says_what_it_asks_for() -> None:
    asks = {name for name, licence in LICENCES.items() if COPYLEFT.search(licence)}
    assert asks == stated()["duties"].keys() >= {"crc32c"}


def test_the_document_is_that_of_the_locks() -> None:
    assert DOCUMENT.read_text() == document(), "make licences"
    assert "| crc32c | LGPL-2.1-or-later |" in document()


def test_the_bill_of_materials_has_every_package_by_hash_and_licence() -> None:
    """CycloneDX's own validator (cyclonedx-python-lib 11.12, strict, 1.6) takes it: it has 28 packages of its
    own, so it is no dependency of the tests."""
    made = bom()
    assert made == bom(), "the same locks give the same document"
    assert (made["bomFormat"], made["specVersion"], made["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made["serialNumber"])
    components = {it["bom-ref"]: it for it in made["components"]}
    assert len(components) == len(made["components"]) == len(FOUND) > 60
    for package in FOUND:
        it = components[package.purl]
        assert (it["type"], it["name"], it["version"]) == ("library", package.name, package.version)
        assert it["licenses"] == [{"expression": LICENCES[package.name]}]
        assert {each["alg"] for each in it["hashes"]} == {"SHA-256"}
        assert all(re.fullmatch(r"[0-9a-f]{64}", each["content"]) for each in it["hashes"])
        lock = (ROOT / "infra" / "lock" / "train.txt").read_text()
        assert all(f"sha256:{each['content']}" in lock for each in it["hashes"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    subject = made["metadata"]["component"]
    assert (subject["name"], subject["version"]) == (project["name"], project["version"])
    (edges,) = made["dependencies"]
    assert edges["ref"] == subject["bom-ref"]
    names = {components[it]["name"] for it in edges["dependsOn"]}
    assert {"fastapi", "crc32c", "lightgbm", "redis"} <= names
    assert "://" not in json.dumps([made["components"], made["dependencies"]]), "no registry"


def test_what_is_installed_here_is_what_is_locked() -> None:
    installed = {it.name: it for it in FOUND if not it.marker}
    for name, it in installed.items():
        try:
            assert version(name) == it.version
        except PackageNotFoundError:
            pytest.fail(f"{name} is locked without a marker and not installed")


Say = Callable[[list[dict[str, Any]]], Any]


@contextmanager
def database(say: Say) -> Iterator[str]:
    """The URL of a server that answers queries as `say` does."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            content = json.dumps(say(json.loads(body)["queries"])).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/querybatch"
        finally:
            server.shutdown()
            thread.join()


def paged(queries: list[dict[str, Any]]) -> Any:
    """One advisory for redis at once, one for pyjwt on its second page."""
    first = {"next_page_token": "t"}
    second = {"vulns": [{"id": "GHSA-1", "modified": ""}]}
    if len(queries) == 1:
        assert queries == [{"package": {"purl": "pkg:pypi/pyjwt@1.0"}, "page_token": "t"}]
        return {"results": [second]}
    return {"results": [first, {"vulns": [{"id": "PYSEC-2", "modified": ""}]}]}


@pytest.mark.parametrize(
    ("say", "status", "wanted"),
    [
        (
            lambda queries: {"results": [{} for _ in queries]},
            0,
            ["no advisory concerns 2 packages"],
        ),
        (paged, 1, ["GHSA-1: pkg:pypi/pyjwt@1.0", "PYSEC-2: pkg:pypi/redis@1.0"]),
        (lambda queries: {"results": []}, 2, ["not checked: "]),
        (lambda queries: {"error": "busy"}, 2, ["not checked: "]),
        (lambda queries: [], 2, ["not checked: "]),
        (
            lambda queries: {"results": [{"next_page_token": "t"}] * len(queries)},
            2,
            ["not checked"],
        ),
    ],
)
def test_advisories_are_named_and_no_answer_is_no_clean_bill(
    say: Say, status: int, wanted: list[str]
) -> None:
    with database(say) as url:
        got, lines = report(ONES, url)
    assert got == status
    assert len(lines) == len(wanted)
    assert all(line.startswith(start) for line, start in zip(lines, wanted, strict=True))


def test_a_database_that_is_away_is_no_clean_bill() -> None:
    status, (line,) = report(ONES, f"http://127.0.0.1:{free_port()}/")
    assert (status, line.partition(":")[0]) == (2, "not checked")


@pytest.mark.check
def test_no_locked_package_has_a_known_vulnerability() -> None:
    status, lines = report(packages(*EVERY), OSV)
    if status == 2:
        pytest.skip(f"no advisory database is reachable here, nothing is said: {lines[0]}")
    assert status == 0, "\n".join(lines)


UNPINNED = {
    "python:3.12-slim-trixie",
    "apache/kafka:4.4.0",
    "redis:7.2-alpine",
    "prom/prometheus:v3.5.0",
    "grafana/grafana:12.1.0",
}
"""A gap: their registry could not be asked for their digests where this was written. `make pin`, where it can
be, writes the digests; then this set is empty."""


@pytest.mark.parametrize("image", images.images(), ids=lambda it: it.tag)
def test_an_image_is_named_by_its_digest(image: images.Image) -> None:
    if image.tag in UNPINNED:
        assert not image.digest, "it is pinned: take it out of UNPINNED"
        pytest.xfail(f"{image.tag} in {image.place} is not pinned by digest: `make pin`")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", image.digest)


def test_images_are_found_in_every_file_that_names_one() -> None:
    assert {it.tag for it in images.images()} >= UNPINNED
    named = [
        str(path.relative_to(ROOT))
        for path in (*ROOT.glob("infra/deploy/**/*"), *ROOT.glob("*.yml"))
        if path.is_file() and re.search(r"^(FROM |\s+image:)", path.read_text(), re.MULTILINE)
    ]
    assert sorted(named) == sorted(images.PLACES)


@pytest.mark.parametrize("answers", ["sha256:" + "a" * 64, "error"])
def test_images_are_pinned_by_what_docker_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\n[ "$4" = --format ] && echo {answers}\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(docker.parent), prepend=":")
    for place in images.PLACES:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / place, tmp_path / place)
    before = images.images(tmp_path)
    if answers == "error":
        with pytest.raises(ValueError, match="no digest"):
            images.pin(tmp_path)
        assert images.images(tmp_path) == before
        return
    assert images.pin(tmp_path) == [it._replace(digest=answers) for it in before]
    assert images.pin(tmp_path) == []
    assert [it.digest for it in images.images(tmp_path)] == [answers] * len(before)
    text = (tmp_path / "infra/deploy/Dockerfile").read_text()
    assert text.count("FROM packages") == 2
    assert f"FROM python:3.12-slim-trixie@{answers} AS packages" in text
