"""The steps of `people` that need no store: decoding a batch, and building a fold from settings."""

from __future__ import annotations

from flows.kit.dead_letters import split
from flows.people.batch import Decoded
from flows.people.fold import PeopleFold
from flows.people.rows import Fetch
from infra.log_reader import Batch
from infra.settings import Settings
from models.outcomes.touched import Reach
from schemas import events
from schemas.dead_letters import DeadLetter
from schemas.keys import Keyspace
from schemas.state.fences import Fence
from schemas.times import DAY_MS
from schemas.topics import EVENTS


def decode(batch: Batch) -> tuple[Decoded, list[DeadLetter]]:
    """The events of a batch, and a dead letter for each record that does not decode."""
    records, letters = split(EVENTS.name, batch, events.decode_all)
    found = Decoded(batch.partition, batch.first, batch.next, records, batch.timestamps)
    if batch.indexes:
        bad = {(it.offset, it.index) for it in letters}
        good = [at for at in zip(batch.offsets, batch.indexes, strict=True) if at not in bad]
        found.indexes = {
            id(event): index
            for (_, index), (_, _, event) in zip(good, records, strict=True)
            if index
        }
    return found, letters


def new_fold(
    settings: Settings, partition: int, fence: Fence, fetch: Fetch, keyspace: Keyspace
) -> PeopleFold:
    return PeopleFold(
        partition,
        fence,
        fetch,
        settings.dedupe_ms,
        settings.row_cache,
        keyspace,
        reach(settings),
        settings.max_seen,
    )


def reach(settings: Settings) -> Reach:
    """The slots that a purchase without a slate may convert."""
    return Reach(settings.touched_slots, int(settings.attribution_days * DAY_MS))
