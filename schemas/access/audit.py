"""`audit`: who administered what, and who read other people's data, when and why.

An act of administration has two records of one key: `requested` before anything is changed (where neither
log nor spool takes it, nothing is changed), and `answered` with its status before the answer is sent. A read
has the second alone. An act without an outcome was cut short: `control` says what is in force. A record may
come twice, as any that went through a spool; key and stage name it.

Recorded are changes of placements, experiments and releases, over HTTP and by the command line; dead letters
sent once more, partitions resumed, tokens made; and of reads those with `explain=full` of a person who is not
the token's own. Recommendations that a shop's server reads for its people are not recorded one by one: each
is a record of `slates` already. Writes of items are no administration: `items` has them.

Stages are those of Kubernetes (https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/), the two
kinds those of Google Cloud's audit logs, admin activity and data access.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from schemas.alphabet import Millis
from schemas.headers import Schema

SCHEMA: Final = Schema("audit", 1)
Stage = Literal["requested", "answered"]
AuditKind = Literal["administration", "access"]
PERSON: Final = "person"
MAX_REASON: Final = 1000
"""Characters of a reason."""
COMMAND: Final = "COMMAND"
"""In place of a request's method, for an act of the command line."""


class AuditRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One stage of an act of `client`."""

    audit_id: str
    """Names the act: the key of both its records."""
    stage: Stage
    kind: AuditKind
    occurred_at: Millis
    client: str
    """The `client_id` of the token."""
    person: str = ""
    """The pseudonym of the token's subject, "" where it is of no person. Who that is, says the issuer, by
    `token_id`."""
    token_id: str = ""
    """The `jti` of the token, "" where it has none."""
    account: str = ""
    """Of the operating system, for an act of the command line."""
    method: str
    route: str
    """The path as registered, ``/v1/placements/{placement}``, or the command."""
    targets: tuple[str, ...]
    """``kind:id`` of each thing that is changed or read; a person's id is the pseudonym."""
    reason: str = ""
    """That of the change, or what the header X-Request-Reason says."""
    status: int = 0
    """Of the answer; 0 while there is none. That a change was taken (202) is not yet that it won: `control`
    compares versions."""
    position: str = ""
    """``topic:partition:offset`` of the record that the act wrote, where the log has it."""
    request_id: str = ""


DECODER: Final = msgspec.json.Decoder(AuditRecord)


def decode(value: bytes) -> AuditRecord:
    """Errors: `msgspec.MsgspecError`."""
    return DECODER.decode(value)


def encode(record: AuditRecord) -> bytes:
    return msgspec.json.encode(record)


def answered(
    requested: AuditRecord, occurred_at: Millis, status: int, position: str = ""
) -> AuditRecord:
    """The second record of an act.

    >>> first = AuditRecord(audit_id="a", stage="requested", kind="administration", occurred_at=1,
    ...                     client="home", method="PUT", route="/v1/placements/{placement}",
    ...                     targets=("placement:home",))
    >>> answered(first, 3, 202).stage, answered(first, 3, 202).occurred_at, first.status
    ('answered', 3, 0)
    """
    return msgspec.structs.replace(
        requested, stage="answered", occurred_at=occurred_at, status=status, position=position
    )
