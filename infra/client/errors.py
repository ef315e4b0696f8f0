"""Refusals of the API: the problem that it answers (RFC 9457), and the exception that carries it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import msgspec

from schemas.errors import FreshetError


class FieldError(msgspec.Struct, kw_only=True):
    """An error of a field. `field`: as the caller names it (``events[3].action``); `code`: a stable word."""

    field: str
    code: str


class Problem(msgspec.Struct, kw_only=True):
    """A problem. The API fills every field; a proxy before the API may fill fewer, or none."""

    code: str = ""
    detail: str = ""
    errors: list[FieldError] = []


class ApiError(FreshetError):
    """A request failed. `status` 0: the API did not answer, and `code` is the kind of failure."""

    def __init__(
        self, status: int, code: str, detail: str = "", errors: Sequence[FieldError] = ()
    ) -> None:
        self.status, self.code, self.detail, self.errors = status, code, detail, errors
        text = f"the API answered {self.problem}" if status else f"the API did not answer ({code})"
        super().__init__(f"{text}: {detail}" if detail else text)

    @classmethod
    def from_response(cls, status: int, body: bytes) -> Self:
        """The error of an answer; of a body that is no problem nothing is kept."""
        try:
            problem = msgspec.json.decode(body, type=Problem)
        except (msgspec.DecodeError, UnicodeDecodeError):
            problem = Problem()
        return cls(status, problem.code, problem.detail, problem.errors)

    @property
    def problem(self) -> str:
        """Status and code, for counting: the detail, which differs from answer to answer, is not in it.

        >>> ApiError(503, "not_durable", "Retry with the same ids.").problem
        '503 not_durable'
        """
        return f"{self.status or ''} {self.code}".strip()
