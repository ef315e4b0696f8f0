"""The strangers of a partition: who lies in the ring, in its order, and what is kept of them."""

from __future__ import annotations

import contextlib

import msgspec

from flows.verify.person_records import plain_account
from flows.verify.report import Findings
from infra.store.redis_client import Client
from models.outcomes import open_slates, strangers
from models.outcomes.strangers import BUCKETS, Entry
from models.reference.strangers import ReferenceStrangers
from schemas.keys import Keyspace
from schemas.state import fences

Stored = dict[str, Entry] | ValueError
"""By person, oldest first; or why they cannot be read."""


def begun(client: Client, keyspace: Keyspace, partition: int) -> int:
    """The offset from which on there may be strangers: before it the state is an earlier version's. 0 where
    neither it nor the fence can be read, which the check of the fence reports. Errors: Redis's."""
    with client.pipeline(transaction=True) as pipe:
        pipe.get(keyspace.strangers(partition))
        pipe.get(keyspace.fence("people", partition))
        held, fence = pipe.execute(raise_on_error=False)
    with contextlib.suppress(ValueError, TypeError, msgspec.MsgspecError):  # TypeError: no string
        return int(held) if held is not None else fences.decode(fence).offset
    return 0


def read(client: Client, keyspace: Keyspace, partition: int) -> tuple[bytes | None, Stored]:
    """The fence, and the strangers as of it: some 3 MB for 20,000, in one transaction. Errors: Redis's."""
    names = [keyspace.strangers_bucket(partition, n) for n in range(BUCKETS)]
    with client.pipeline(transaction=True) as pipe:
        pipe.get(keyspace.fence("people", partition))
        pipe.execute_command("MGET", *names)
        fence, blobs = pipe.execute()
    try:
        entries = [it for blob in blobs for it in strangers.read_bucket(blob).items()]
    except ValueError as error:
        return fence, error
    return fence, dict(sorted(entries, key=lambda it: it[1].order))


def compare(findings: Findings, stored: Stored, expected: ReferenceStrangers, key: bytes) -> None:
    """Compares them with the log."""
    if isinstance(stored, ValueError):
        findings.wrong("strangers", "buckets", "do not decode", "entries", key)
        return
    findings.compare("strangers", "who", list(stored), list(expected), key)
    for name, entry in stored.items():
        if (account := expected.account(name)) is None:
            continue
        try:
            held = plain_account(open_slates.decode(entry.stored))
        except ValueError as error:
            held = f"does not decode ({type(error).__name__})"
        findings.compare("strangers", "slates", held, plain_account(account), key)
