"""Releases in a bucket, over HTTP: one machine serves what another one trained, and nobody what was cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow import fs

from infra.kafka import kafka_client
from infra.local import services
from infra.releases.bucket import in_bucket, upload
from infra.releases.errors import ReleaseUnavailable
from infra.releases.fetch import fetch
from infra.settings import Settings
from infra.store import redis_client
from models.release.artefact import load
from schemas.control import Released
from schemas.releases import VECTORS
from tests.integration.read.test_swap import FIRST, SECOND, make_current, release, serves
from tests.support.http import serving
from tests.support.releases import ONE, TWO, saved
from tests.support.shops import Shop, fill

pytestmark = pytest.mark.check


def halve(url: str, name: str) -> None:
    """Cuts the object `name` in two and keeps the first half."""
    store, root = fs.FileSystem.from_uri(url)
    with store.open_input_file(f"{root}/{name}") as file:
        data = file.read()
    with store.open_output_stream(f"{root}/{name}") as file:
        file.write(data[: len(data) // 2])


def test_a_release_goes_to_a_bucket_and_comes_back(tmp_path: Path, bucket: str) -> None:
    url = bucket.format("goes")
    here, there = (Settings(data_dir=tmp_path / name, release_url=url) for name in "ab")
    assert in_bucket(there) == {}
    shas = {name: saved(here.releases, name) for name in (ONE, TWO)}
    for name in shas:
        upload(here, name)
    assert in_bucket(there).keys() == {ONE, TWO}
    assert load(fetch(there, ONE, shas[ONE]), shas[ONE]).id == ONE
    halve(url, f"{TWO}/{VECTORS}")
    with pytest.raises(ReleaseUnavailable, match=f"^{TWO}: {VECTORS} is cut short in the bucket"):
        fetch(there, TWO, shas[TWO])
    assert [it.name for it in there.releases.glob("2*")] == [ONE]


def test_a_missing_bucket_is_a_sentence(tmp_path: Path, bucket: str) -> None:
    url = bucket.format("x").replace("s3://lake/", "s3://another/")
    settings = Settings(data_dir=tmp_path, release_url=url)
    saved(settings.releases)
    with pytest.raises(ReleaseUnavailable, match="the store of the releases takes nothing"):
        upload(settings, ONE)
    with pytest.raises(ReleaseUnavailable):
        fetch(settings, TWO)


def test_serving_fetches_what_serves_and_refuses_what_was_cut(
    redis_url: str, broker: str, bucket: str, tmp_path: Path
) -> None:
    url = bucket.format("serving")
    trains = Settings(data_dir=tmp_path / "trains", release_url=url)
    settings = Settings(
        kafka_bootstrap=broker,
        redis_url=redis_url,
        data_dir=tmp_path / "serves",
        port=0,
        release_url=url,
    )
    kafka_client.ensure_topics(settings)
    with redis_client.connect(settings) as client, serving(settings, tmp_path / "log") as server:
        shop = Shop(server, client)
        fill(shop)
        for name, weight in ((FIRST, 1.0), (SECOND, 1000.0)):
            sha = release(trains.releases, name, weight)
            upload(trains, name)
            shop.control(f"release:{name}", Released(manifest_sha256=sha))
        make_current(shop, FIRST, 1)
        serves(shop, FIRST)
        assert (settings.releases / FIRST / VECTORS).is_file()
        whole = (trains.releases / SECOND / VECTORS).read_bytes()
        halve(url, f"{SECOND}/{VECTORS}")
        make_current(shop, SECOND, 2)
        refused = 'freshet_release_refused_total{why="cut_short"} 1'
        services.wait_until(
            lambda: refused in shop.get("/metrics").body.decode(), 20, "it is not refused"
        )
        assert f"{VECTORS} is cut short in the bucket" in server.log.read_text()
        assert shop.read("user_id=u1")["served_by"]["release"] == FIRST
        store, root = fs.FileSystem.from_uri(url)
        with store.open_output_stream(f"{root}/{SECOND}/{VECTORS}") as file:
            file.write(whole)
        serves(shop, SECOND)
