"""How the API says no: the problem it answers (RFC 9457), and the exception that carries it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import msgspec

from schemas.errors import FreshetError


class FieldError(msgspec.Struct, kw_only=True):
    """`field` in the caller's terms (``events[3].action``), `code` a stable word."""

    field: str
    code: str


class Problem(msgspec.Struct, kw_only=True):
    """Of the API all is there; what stands before it may say less, or nothing."""

    code: str = ""
    detail: str = ""
    errors: list[FieldError] = []


class ApiError(FreshetError):
    """The API did not do it. `status` 0: it did not answer, and `code` is the kind of failure."""

    def __init__(
        self, status: int, code: str, detail: str = "", errors: Sequence[FieldError] = ()
    ) -> None:
        self.status, self.code, self.detail, self.errors = status, code, detail, errors
        said = f"the API answered {self.problem}" if status else f"the API did not answer ({code})"
        super().__init__(f"{said}: {detail}" if detail else said)

    @classmethod
    def of(cls, status: int, body: bytes) -> Self:
        """From an answer; nothing of a body that is no problem is kept."""
        try:
            problem = msgspec.json.decode(body, type=Problem)
        except (msgspec.DecodeError, UnicodeDecodeError):
            problem = Problem()
        return cls(status, problem.code, problem.detail, problem.errors)

    @property
    def problem(self) -> str:
        """Status and code, for counting: without what differs from one to the next.

        >>> ApiError(503, "not_durable", "Retry with the same ids.").problem
        '503 not_durable'
        """
        return f"{self.status or ''} {self.code}".strip()
