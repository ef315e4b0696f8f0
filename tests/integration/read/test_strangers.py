"""An id that only reads leaves a bounded sum; what it was shown counts for its next read and its click."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import xxhash

from infra.apps.inspect.held import pseudonym_of
from infra.local import services
from models.aggregates.arms import arm_key
from models.outcomes import open_slates, strangers
from schemas.identity import partition_of
from schemas.keys import STRANGERS
from tests.flows.faults import wrong
from tests.integration.read import test_links
from tests.integration.read.test_links import Site, lagging

pytestmark = [pytest.mark.on_cluster, pytest.mark.check]
site = test_links.site


def read(site: Site, who: str, count: int) -> dict[str, Any]:
    """A read of an anonymous id who is a stranger; it is folded when this returns."""
    body: dict[str, Any] = site.shop.read(f"anonymous_id={who}&count={count}&explain=full")
    slate = xxhash.xxh3_64_intdigest(body["slate_id"].encode())
    # its record is sent a moment after the answer, with others
    services.wait_until(lambda: slate in open_slates_of(site, who), 20, "it is not folded")
    return body


def open_slates_of(site: Site, who: str) -> set[int]:
    """What the ring of strangers has of an anonymous id."""
    settings = site.shop.server.settings
    name = pseudonym_of(settings, who, anonymous=True)
    partition = partition_of(name.encode(), settings.partitions)
    bucket = site.shop.redis.get(
        settings.keyspace.strangers_bucket(partition, strangers.bucket_of(name))
    )
    stored = strangers.find(bucket, name) if bucket else None
    return {slate.id for slate in open_slates.decode(stored).slates}


def kinds(site: Site, who: str) -> set[bytes]:
    """The kinds of the keys of an anonymous id."""
    name = pseudonym_of(site.shop.server.settings, who, anonymous=True)
    keys: Iterator[bytes] = site.shop.redis.scan_iter(match=f"*:{name}")
    return {key.partition(b":")[0] for key in keys}


def fatigued(body: dict[str, Any]) -> set[str]:
    """The items that score less since they were shown before."""
    return {
        item["item_id"]
        for item in body["items"]
        if any(it["feature"] == "fatigue" for it in item["explain"]["contributions"])
    }


def test_what_a_stranger_was_shown_counts_for_the_next_read_and_for_their_click(site: Site) -> None:
    first = read(site, "passer", 5)
    assert not fatigued(first)
    shown = {item["item_id"] for item in first["items"]}
    second = read(site, "passer", 50)
    assert (
        shown & fatigued(second) == shown & {item["item_id"] for item in second["items"]} != set()
    )
    assert kinds(site, "passer") == set()
    held = list(site.shop.redis.scan_iter(match=f"{STRANGERS.decode()}:*:*"))
    assert 0 < len(held) <= 2 + 4  # of `nobody`, who read while the site began, and of this one

    item = second["items"][0]["item_id"]
    before = site.tables().arms.get(arm_key("home", item)).clicked
    site.act({"anonymous_id": "passer"}, item, "click", second["slate_id"])
    services.wait_until(lambda: not lagging(site), 20, "the flows do not catch up")
    assert site.clicks(item) == before + 1
    assert {b"u", b"o", b"im"} <= kinds(site, "passer")
    # the click is of the unit that the slates of before made
    [row] = [it for it in site.tables().moments.of("x", 1) if it["sums"][2]]
    assert (row["sums"][0] % 5, row["sums"][2]) == (0, 1)
    found = wrong(site.shop.server.settings)
    del found["tables"]  # the site's own, which no roll-up made
    assert found == dict.fromkeys(found, 0)
