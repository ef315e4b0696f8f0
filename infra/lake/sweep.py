"""Deleting what is off the chain, once no reader can be using it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from infra.lake.manifest import Span
from infra.lake.reader import Lake
from infra.objects import PARTIAL_SUFFIX, Object

GRACE_SECONDS: Final = 3600.0
"""A reader that listed the chain so long ago has read it, or lists it again."""
_NAME: Final = re.compile(r"data/[a-z-]+/day=[\d-]+/partition=(\d+)/(\d{20})-(\d{20})-\w+\.parquet")


class Swept(NamedTuple):
    """How many entries and objects were deleted, and the objects' bytes."""

    entries: int
    objects: int
    bytes: int


def sweep(lake: Lake, topic: str, now: float, grace: float = GRACE_SECONDS) -> Swept:
    """Deletes what was off the chain of a partition of `topic` `grace` s before `now` (Unix time, s).

    Objects that reach into the chain's last entry or beyond it are kept: a fence may name an object whose
    entry is not written yet, and a writer may have lost the last second of its store. Errors: `LakeError`.
    """
    entries, referenced, chains = 0, set(), {}
    for partition in lake.partitions(topic):
        manifest = lake.manifest(topic, partition)
        chain = chains[partition] = manifest.chain()
        kept = []
        for span in set(manifest.spans()) - set(chain):
            if _replaced(span, chain, now - grace):
                manifest.delete(span)
                entries += 1
            else:
                kept.append(span)
        referenced |= {entry.name for entry in manifest.entries([*chain, *kept])}
    orphans = list(_orphans(lake, topic, referenced, chains, now - grace))
    for it in orphans:
        lake.store.delete(it.name)
    return Swept(entries, len(orphans), sum(it.bytes for it in orphans))


def _replaced(span: Span, chain: Sequence[Span], before: float) -> bool:
    """Whether a span was off the chain `before` then: since the entries that replaced it were written."""
    if not chain or span.end > chain[-1].start:
        return False
    successors = [it.at for it in chain if it.start < span.end and span.start < it.end]
    return max([span.at, *successors]) < before


def _orphans(
    lake: Lake, topic: str, referenced: set[str], chains: dict[int, list[Span]], before: float
) -> Iterator[Object]:
    for folder in (f"data/{topic}", f"manifest/{topic}"):
        for it in lake.store.list(folder):
            found = _NAME.fullmatch(it.name)
            if it.name.endswith(PARTIAL_SUFFIX):
                if it.at < before:
                    yield it
            elif found and it.name not in referenced:
                span = Span(int(found[2]), int(found[3]), it.at)
                if _replaced(span, chains.get(int(found[1]), []), before):
                    yield it
