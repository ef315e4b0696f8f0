"""A fold that stores something else has another version: stored state is what a version means.

tests/golden/folds.json has, by fold and version, a digest of all that a fixed log leaves. UPDATE_GOLDEN=1
adds those of new versions; it never changes one that is there.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from flows import catalogue, control
from flows.offline.fold import Offline
from flows.people import fold as people
from infra.log_reader import Batch
from infra.settings import Settings
from models.aggregates import tables
from models.aggregates.tables import Tables
from models.features import registry
from models.features.registry import ForeignRow
from models.outcomes import open_slates
from schemas import events
from schemas.events import Merge
from schemas.identity import partition_of
from schemas.keys import PLAIN
from schemas.state import facts
from schemas.state.facts import Delta
from schemas.state.fences import Fence
from schemas.version import OtherVersion, upgrade
from tests.support import fixed_log
from tests.support.fixed_log import START

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "folds.json"
EVENTS, PARTITIONS, BATCH = 900, 2, 60


def batch(partition: int, first: int, values: Sequence[bytes]) -> Batch:
    offsets = list(range(first, first + len(values)))
    timestamps = [START + 700_000 * (EVENTS + offset) for offset in offsets]
    return Batch(partition, first, first + len(values), offsets, timestamps, list(values))


def fold(logs: Sequence[Sequence[bytes]]) -> tuple[list[Offline], list[tuple[int, Delta]]]:
    """Each partition folded, and the entries of the delta logs."""
    made, entries = list[Offline](), list[tuple[int, Delta]]()
    for p, values in enumerate(logs):
        made.append(Offline(Settings(), p, Fence("t", PARTITIONS, 0, 0, people.VERSION)))
        for at in range(0, len(values), BATCH):
            entries.append((p, made[p].fold(batch(p, at, values[at : at + BATCH]))))
    return made, entries


@pytest.fixture(scope="module")
def folded() -> tuple[list[Offline], list[tuple[int, Delta]]]:
    """The fixed log, with what its outboxes sent behind it, as a relay would have."""
    logs: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
    for i in range(EVENTS):
        event = fixed_log.event(i)
        logs[partition_of(event.person.encode(), PARTITIONS)].append(events.encode(event))
    for made in fold(logs)[0]:
        for entry in made.outbox:
            value = entry.fields[b"v"]
            assert isinstance(events.decode_stored(value), Merge)
            logs[partition_of(entry.fields[b"k"], PARTITIONS)].append(value)
    return fold(logs)


def digest(pieces: Iterable[bytes]) -> str:
    made = hashlib.sha256()
    for piece in pieces:
        made.update(b"%d:" % len(piece) + piece)
    return made.hexdigest()


def same_as_before(fold: str, version: str, found: str, remedy: str) -> None:
    held = json.loads(GOLDEN.read_text())
    before = held.setdefault(fold, {}).get(version)
    if before is None and os.environ.get("UPDATE_GOLDEN"):
        held[fold][version] = before = found
        GOLDEN.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")
    assert before is not None, f"{fold} has the new version {version}: UPDATE_GOLDEN=1 adds it"
    assert found == before, (
        f"{fold}: what it stores changed, its version {version} did not: raise {remedy}, say in its"
        " UPGRADES how the state before becomes this one (or nothing: then it is folded again), and"
        " run this once with UPDATE_GOLDEN=1"
    )


def test_stored_people_have_the_bytes_of_their_version(
    folded: tuple[list[Offline], list[tuple[int, Delta]]],
) -> None:
    def stored() -> Iterator[bytes]:
        for made in folded[0]:
            assert made.received
            assert made.outbox
            for key, value in made.pairs():
                yield from (key, value)
            for source, number in sorted(made.received.items()):
                yield from (source, number)
            for entry in made.outbox:
                yield from (entry.key, entry.id, *entry.fields.values())

    same_as_before("people", str(people.VERSION), digest(stored()), "flows.people.fold.VERSION")


def test_stored_facts_have_the_bytes_of_their_version(
    folded: tuple[list[Offline], list[tuple[int, Delta]]],
) -> None:
    entries = [entry for _, entry in folded[1]]
    for section in ("actions", "arms", "moments"):
        assert any(len(getattr(entry, section).delta) for entry in entries), section
    same_as_before(
        "facts",
        f"{people.VERSION}.{facts.VERSION}",
        digest(map(facts.encode, entries)),
        "flows.people.fold.VERSION where they mean something else, schemas.state.facts.VERSION where they"
        " lie otherwise",
    )


def test_stored_tables_have_the_bytes_of_their_version(
    folded: tuple[list[Offline], list[tuple[int, Delta]]],
) -> None:
    made = Tables(PARTITIONS)
    for partition, entry in folded[1]:
        made.apply(partition, entry)
    with np.load(io.BytesIO(made.dump())) as held:
        pieces = [piece for name in sorted(held) for piece in (name.encode(), plain(held[name]))]
    # sums of other facts are other sums of the same form
    version = f"{people.VERSION}.{facts.VERSION}.{tables.VERSION}"
    same_as_before("tables", version, digest(pieces), "models.aggregates.tables.VERSION")


def plain(column: np.ndarray[Any, Any]) -> bytes:
    """The bytes of an array: integers as they are, floats to six digits, as processors differ in the last."""
    if column.dtype.names:
        return b"".join(name.encode() + plain(column[name]) for name in column.dtype.names)
    if column.dtype.kind == "f":
        return " ".join(f"{value:.6g}" for value in column.ravel().tolist()).encode()
    return str(column.dtype).encode() + column.tobytes()


def test_the_stored_catalogue_has_the_bytes_of_its_version(settings: Settings) -> None:
    worker = catalogue.Catalogue(settings)
    values = [msgspec.json.encode(change) for change in fixed_log.item_changes()]
    for at in range(0, len(values), 20):
        worker.commit([worker.apply(catalogue.decode(batch(0, at, values[at : at + 20]))[0])])
    found = stored(worker.redis, PLAIN.items(0), PLAIN.item_changes(0))
    worker.close()
    same_as_before("catalogue", str(catalogue.VERSION), found, "flows.catalogue.VERSION")


def test_stored_control_has_the_bytes_of_its_version(settings: Settings) -> None:
    worker = control.Control(settings)
    values = [msgspec.json.encode(change) for change in fixed_log.control_changes()]
    worker.commit([worker.apply(control.decode(batch(0, 0, values))[0])])
    found = stored(worker.redis, PLAIN.control_state(), PLAIN.control_changes())
    worker.close()
    same_as_before("control", str(control.VERSION), found, "flows.control.VERSION")


def stored(client: Any, state: bytes, changes: bytes) -> str:
    held, entries = client.hgetall(state), client.xrange(changes)
    assert held
    assert entries
    pieces = [piece for pair in sorted(held.items()) for piece in pair]
    pieces += [piece for id_, fields in entries for piece in (id_, *fields.values())]
    return digest(pieces)


def test_a_golden_digest_is_never_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folds.json"
    path.write_text('{"people": {"1": "a"}}')
    monkeypatch.setitem(globals(), "GOLDEN", path)
    monkeypatch.setenv("UPDATE_GOLDEN", "1")
    same_as_before("people", "1", "a", "VERSION")
    with pytest.raises(AssertionError, match="its version 1 did not: raise VERSION"):
        same_as_before("people", "1", "b", "VERSION")
    same_as_before("people", "2", "b", "VERSION")
    assert json.loads(path.read_text()) == {"people": {"1": "a", "2": "b"}}
    monkeypatch.delenv("UPDATE_GOLDEN")
    with pytest.raises(AssertionError, match="new version 3"):
        same_as_before("people", "3", "b", "VERSION")


# -- records of the version before -------------------------------------------------------------


def test_facts_of_another_version_are_refused_by_name(
    folded: tuple[list[Offline], list[tuple[int, Delta]]],
) -> None:
    value = facts.encode(folded[1][0][1])
    with pytest.raises(ValueError, match=r"is of version 3, this Freshet reads version 4"):
        facts.decode(b"\3\0" + value[2:])


def test_accounts_of_another_version_are_refused_by_name() -> None:
    encode = msgspec.msgpack.encode
    with pytest.raises(ValueError, match="version 2, this Freshet reads version 3"):
        open_slates.decode(encode((2, 9, [], [], [], 0, None)))
    with pytest.raises(ValueError, match="cannot be read"):
        open_slates.decode(encode({"version": 1}))


def test_a_partition_of_the_version_before_is_read_as_it_lies() -> None:
    state = {PLAIN.impressions(1, "0" * 32): b"\2\0", b"f:{1}:people": b"x" * 16}
    assert people.UPGRADES[people.VERSION - 1](state) == state


def test_rows_and_tables_of_other_versions_are_refused_by_name() -> None:
    row = (registry.VERSION + 1).to_bytes(2, "little") + bytes(100)
    for read in (registry.read_row, lambda blob: registry.read_rows([blob])):
        with pytest.raises(ForeignRow, match=f"row is of version {registry.VERSION + 1}, this"):
            read(row)
    file = io.BytesIO()
    np.savez(file, version=np.array([tables.VERSION - 1]))
    with pytest.raises(OtherVersion, match=f"tables is of version {tables.VERSION - 1}, this"):
        Tables.load(file.getvalue())


def test_state_of_one_version_back_is_read_and_no_older() -> None:
    upgrades = {1: str.upper, 2: str.title}
    assert upgrade("a word", 3, 3, upgrades, "as it is") == "as it is"
    assert upgrade("a word", 2, 3, upgrades, "as it is") == "As It Is"
    for version in (0, 1, 4):
        with pytest.raises(OtherVersion, match=f"of version {version}, .* version 2 and 3"):
            upgrade("a word", version, 3, upgrades, "as it is")
