"""What a connection may take of a serving process, and how it is refused."""

from __future__ import annotations

from typing import Final, NamedTuple

from serving.http.errors import Problem
from serving.http.parameters import too_long

MAX_LINE_BYTES: Final = 16 * 1024
"""Of a request line, a header, the size line of a chunk; without its end."""
MAX_HEADERS_BYTES: Final = 32 * 1024
"""Of all headers of a request, or of all trailers of a body."""
MAX_EMPTY_BYTES: Final = 1024
"""Of empty lines before a request (RFC 9112, 2.2)."""
MAX_HEADERS: Final = 100
"""Lines of headers, or of trailers."""
MAX_LENGTH_DIGITS: Final = 12
"""Of Content-Length, leading zeros included."""
MAX_DISCARDED_BYTES: Final = 16 << 20
"""What is read after a refusal: a connection that is closed before would lose the answer."""
RETRY_SECONDS: Final = 1


class ConnectionLimits(NamedTuple):
    """Of a serving process and its connections."""

    head_seconds: float = 10.0
    """From the first byte of a head to its last; from its start for a connection that sends nothing."""
    keep_alive_seconds: float = 5.0
    """Between an answer and the next request."""
    grace_seconds: float = 5.0
    """Of a body, and of an answer that is not read, before `bytes_per_second` holds."""
    bytes_per_second: float = 20_000
    """Least rate of a body's content and of the reading of an answer."""
    discard_seconds: float = 5.0
    """For how long a refused connection is read."""
    stop_seconds: float = 1.0
    """How long a process that stops waits for the rest of a body, and then for its client to read why."""
    sweep_seconds: float = 1.0
    """How often the connections are looked at: a time above holds to within this."""
    connections: int = 4096
    connections_per_address: int = 1024
    """0: as many as `connections`."""
    body_bytes: int = 128 << 20
    """Of all bodies together of which a part is still to come, with all requests that wait behind another.
    Beside it each connection may have a head that is incomplete, and a whole body that is worked on."""


def malformed_request(detail: str = "This is no request of HTTP/1.1.") -> Problem:
    return Problem(400, "malformed", detail, [("request", "malformed")])


def malformed_length() -> Problem:
    detail = f"Content-Length must be a number of at most {MAX_LENGTH_DIGITS} digits."
    return Problem(400, "malformed", detail, [("Content-Length", "malformed")])


def malformed_host() -> Problem:
    """RFC 9112, 3.2."""
    detail = "A request names its host once, as name or name:port."
    return Problem(400, "malformed", detail, [("Host", "malformed")])


def misdirected() -> Problem:
    """RFC 9110, 15.5.20."""
    detail = (
        "This server does not answer to this host: FRESHET_HOSTS lists those that it answers to."
    )
    return Problem(421, "misdirected_request", detail, [("Host", "unknown_value")])


def unknown_transfer_coding() -> Problem:
    """RFC 9112, 6.1."""
    return Problem(
        501,
        "not_implemented",
        "Transfer-Encoding takes chunked.",
        [("Transfer-Encoding", "unsupported")],
    )


def line_too_long(instead: str) -> Problem:
    """`instead`: what to do, in a sentence."""
    return too_long(f"A request line takes at most {MAX_LINE_BYTES} bytes.", instead)


def headers_too_large() -> Problem:
    return Problem(
        431,
        "request_header_fields_too_large",
        f"A request takes at most {MAX_HEADERS} headers of {MAX_LINE_BYTES} bytes each and of"
        f" {MAX_HEADERS_BYTES} together.",
        [("headers", "too_large")],
    )


def too_slow(what: str) -> Problem:
    """`what` of the request came too slowly: ``head`` or ``body``."""
    return Problem(
        408, "request_timeout", f"The {what} of the request took too long.", [(what, "too_slow")]
    )


def too_many_connections(of_address: bool) -> Problem:
    """429 where one address has too many, 503 where the process has."""
    if of_address:
        return _later(429, "too_many_requests", "This address has too many connections.")
    return _later(503, "service_unavailable", "This server has too many connections.")


def too_many_bodies() -> Problem:
    return _later(503, "service_unavailable", "This server receives too many bodies at a time.")


def stopping() -> Problem:
    return _later(503, "service_unavailable", "This server stops, and has not got the whole body.")


def _later(status: int, code: str, detail: str) -> Problem:
    return Problem(status, code, detail, headers={"Retry-After": str(RETRY_SECONDS)})
