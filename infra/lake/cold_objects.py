"""The objects of the cold tier: Parquet of (person, prefix of the key, value), ascending, under
``cold/generation=G/partition=NN`` of the lake.

An object is written whole under a name of its own before any tombstone names it; one that none names is
swept.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from infra.settings import Settings
from schemas.errors import FreshetError

Records = Mapping[bytes, bytes]
"""Of a person: prefix of the key -> value."""
GRACE_SECONDS: Final = 3600.0
"""So old an object is before it is swept: its tombstones may be on their way."""


class ColdTorn(FreshetError):
    """An object that tombstones name is not there, or not what was written."""

    remedy = "restore it, or make the partition again (freshet rebuild --partition)"


def folder(partition: int, generation: int) -> str:
    return f"cold/generation={generation}/partition={partition:02d}"


def put(
    settings: Settings, partition: int, generation: int, offset: int, people: Mapping[str, Records]
) -> str:
    """Writes the records of people as of `offset`; answers the object's name. Errors: `LakeError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from infra.lake import store

    rows = [
        (who.encode(), prefix, value)
        for who in sorted(people)
        for prefix, value in sorted(people[who].items())
    ]
    columns = list(zip(*rows, strict=True))
    table = pa.table(
        {
            name: pa.array(column, pa.binary())
            for name, column in zip(("person", "prefix", "value"), columns, strict=True)
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    name = f"{folder(partition, generation)}/{offset:020d}-{secrets.token_hex(8)}.parquet"
    store.open_store(settings).put(name, sink.getvalue())
    return name


def get(settings: Settings, name: str, people: Iterable[str]) -> dict[str, dict[bytes, bytes]]:
    """The records of these people out of an object. Errors: `LakeError`, `ColdTorn`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from infra.lake import store

    found: dict[str, dict[bytes, bytes]] = {who: {} for who in people}
    try:
        data = store.open_store(settings).get(name)
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        for who, prefix, value in zip(
            *(table.column(at).to_pylist() for at in range(3)), strict=True
        ):
            if (person := who.decode()) in found:
                found[person][prefix] = value
    except (FileNotFoundError, pa.ArrowException, OSError, ValueError) as error:
        raise ColdTorn(
            f"{name} of the lake cannot be read ({type(error).__name__}), and people that come back"
            " need it"
        ) from None
    if not all(found.values()):
        raise ColdTorn(f"{name} of the lake lacks people whose tombstones name it")
    return found


def orphans(
    settings: Settings, partition: int, generation: int, named: set[str], now: float
) -> Iterator[str]:
    """Objects old enough that are not in `named`; `now` in Unix time, s. Errors: `LakeError`."""
    from infra.lake import store

    for it in store.open_store(settings).list(folder(partition, generation)):
        if it.name not in named and it.at < now - GRACE_SECONDS:
            yield it.name


def people(settings: Settings, name: str) -> list[str]:
    """Whom an object is of; nobody where it was never written to its end. Errors: `LakeError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from infra.lake import store

    try:
        held = pq.read_table(
            pa.BufferReader(store.open_store(settings).get(name)), columns=["person"]
        )
        return [who.decode() for who in dict.fromkeys(held.column(0).to_pylist())]
    except (pa.ArrowException, OSError, ValueError, LookupError):
        return []


def delete(settings: Settings, name: str) -> None:
    """Errors: `LakeError`."""
    from infra.lake import store

    store.open_store(settings).delete(name)


def drop(settings: Settings, generation: int) -> None:
    """Deletes every object of a generation. Errors: `LakeError`."""
    from infra.lake import store

    lake = store.open_store(settings)
    for it in lake.list(f"cold/generation={generation}"):
        lake.delete(it.name)
