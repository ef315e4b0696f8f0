"""Errors as a terminal shows them: one line, and the exit status that the error deserves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from schemas.errors import FreshetError


def explained(error: BaseException) -> FreshetError | None:
    """The error that a person is shown instead of a traceback; None where the traceback says more.

    Redis's and Kafka's errors name neither the service nor its setting; these do.
    """
    if isinstance(error, FreshetError):
        return error
    kind = type(error)
    origin = kind.__module__.partition(".")[0]
    if origin == "redis" and (kind.__name__ == "OutOfMemoryError" or "OOM" in str(error)):
        return FreshetError(
            "Redis is full (maxmemory)", remedy="give it more memory, and all goes on"
        )
    if origin == "redis":
        return _unanswered("Redis", "REDIS_URL", kind)
    if origin == "kafka" and "Authorization" in kind.__name__:
        return FreshetError(
            f"Kafka does not let this user do that ({kind.__name__})",
            remedy="give KAFKA_SASL_USERNAME the rights that docs/kafka.md lists",
        )
    if origin == "kafka":
        return _unanswered("Kafka", "KAFKA_BOOTSTRAP", kind)
    return None


def _unanswered(service: str, variable: str, kind: type[BaseException]) -> FreshetError:
    return FreshetError(
        f"{service} does not answer as it should ({kind.__name__})",
        remedy=f"is it up, and {variable} right?",
    )


@contextmanager
def in_one_line() -> Iterator[None]:
    """Ends the process with one line on stderr at an error for people; other errors pass through."""
    try:
        yield
    except Exception as error:
        if (shown := explained(error)) is None:
            raise
        print(f"freshet: {shown}", file=sys.stderr)
        raise SystemExit(shown.exit_code) from error
