"""What is off the chain goes, once nobody can be reading it any more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from infra.lake.manifest import Span
from infra.lake.reader import Lake
from infra.lake.store import PARTIAL_SUFFIX, Object

GRACE_SECONDS: Final = 3600.0
"""A reader that took the chain so long ago has read it, or takes it again."""
_NAME: Final = re.compile(r"data/[a-z-]+/day=[\d-]+/partition=(\d+)/(\d{20})-(\d{20})-\w+\.parquet")


class Swept(NamedTuple):
    entries: int
    objects: int
    bytes: int


def sweep(lake: Lake, topic: str, now: float, grace: float = GRACE_SECONDS) -> Swept:
    """Deletes what was off the chain of a partition of `topic` `grace` s before `now` (Unix time, s).

    Kept is whatever reaches into the chain's last entry or beyond it: a fence may name it whose entry is
    not written yet, or a writer that lost its store's last second go on from there. Errors: `LakeError`.
    """
    entries, named, chains = 0, set(), {}
    for partition in lake.partitions(topic):
        manifest = lake.manifest(topic, partition)
        chain = chains[partition] = manifest.chain()
        kept = []
        for span in set(manifest.spans()) - set(chain):
            if _over(span, chain, now - grace):
                manifest.delete(span)
                entries += 1
            else:
                kept.append(span)
        named |= {entry.name for entry in manifest.entries([*chain, *kept])}
    gone = list(_orphans(lake, topic, named, chains, now - grace))
    for it in gone:
        lake.store.delete(it.name)
    return Swept(entries, len(gone), sum(it.bytes for it in gone))


def _over(span: Span, chain: Sequence[Span], before: float) -> bool:
    """Off the chain since before then: since what stands there now was written."""
    if not chain or span.end > chain[-1].start:
        return False
    over = [it.at for it in chain if it.start < span.end and span.start < it.end]
    return max([span.at, *over]) < before


def _orphans(
    lake: Lake, topic: str, named: set[str], chains: dict[int, list[Span]], before: float
) -> Iterator[Object]:
    for folder in (f"data/{topic}", f"manifest/{topic}"):
        for it in lake.store.list(folder):
            found = _NAME.fullmatch(it.name)
            if it.name.endswith(PARTIAL_SUFFIX):
                if it.at < before:
                    yield it
            elif found and it.name not in named:
                span = Span(int(found[2]), int(found[3]), it.at)
                if _over(span, chains.get(int(found[1]), []), before):
                    yield it
