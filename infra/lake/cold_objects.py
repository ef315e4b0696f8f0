"""Objects of the cold tier: Parquet of (person, prefix of the key, value), ascending, under
``cold/generation=G/partition=NN`` of the lake.

An object is written whole under a name of its own before any tombstone names it; an object that no tombstone
names is swept.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from infra.settings import Settings
from schemas.errors import FreshetError

Records = Mapping[bytes, bytes]
"""The records of a person: prefix of the key -> value."""
GRACE_SECONDS: Final = 3600.0
"""The age from which an object may be swept: before it, its tombstones may still be written."""


class ColdTorn(FreshetError):
    """An object that tombstones name is missing, or is not what was written."""

    remedy = "restore it, or make the partition again (freshet rebuild --partition)"


def folder(partition: int, generation: int) -> str:
    """The folder of a partition's objects, within the lake."""
    return f"cold/generation={generation}/partition={partition:02d}"


def put(
    settings: Settings, partition: int, generation: int, offset: int, people: Mapping[str, Records]
) -> str:
    """Writes the records of `people` as of `offset`; answers the object's name. Errors: `LakeError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from infra.lake import store

    rows = [
        (person.encode(), prefix, value)
        for person in sorted(people)
        for prefix, value in sorted(people[person].items())
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
    """Person -> records, of these people in an object. Errors: `LakeError`, `ColdTorn`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from infra.lake import store

    found: dict[str, dict[bytes, bytes]] = {person: {} for person in people}
    try:
        data = store.open_store(settings).get(name)
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        for person_bytes, prefix, value in zip(
            *(table.column(at).to_pylist() for at in range(3)), strict=True
        ):
            if (person := person_bytes.decode()) in found:
                found[person][prefix] = value
    except (FileNotFoundError, pa.ArrowException, OSError, ValueError) as error:
        raise ColdTorn(
            f"{name} of the lake cannot be read ({type(error).__name__}), and people who come back"
            " need it"
        ) from None
    if not all(found.values()):
        raise ColdTorn(f"{name} of the lake lacks people whose tombstones name it")
    return found


def orphans(
    settings: Settings, partition: int, generation: int, referenced: set[str], now: float
) -> Iterator[str]:
    """Names of objects that are old enough and not in `referenced`; `now` in Unix time, s.

    Errors: `LakeError`.
    """
    from infra.lake import store

    for it in store.open_store(settings).list(folder(partition, generation)):
        if it.name not in referenced and it.at < now - GRACE_SECONDS:
            yield it.name


def people(settings: Settings, name: str) -> list[str]:
    """The people in an object; [] where it was never written to its end. Errors: `LakeError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from infra.lake import store

    try:
        table = pq.read_table(
            pa.BufferReader(store.open_store(settings).get(name)), columns=["person"]
        )
        return [it.decode() for it in dict.fromkeys(table.column(0).to_pylist())]
    except (pa.ArrowException, OSError, ValueError, LookupError):
        return []


def delete(settings: Settings, name: str) -> None:
    """Deletes an object; it may be gone already. Errors: `LakeError`."""
    from infra.lake import store

    store.open_store(settings).delete(name)


def drop(settings: Settings, generation: int) -> None:
    """Deletes every object of a generation. Errors: `LakeError`."""
    from infra.lake import store

    lake = store.open_store(settings)
    for it in lake.list(f"cold/generation={generation}"):
        lake.delete(it.name)
