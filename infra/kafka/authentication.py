"""SASL on a connection to a broker: SaslHandshake, and SaslAuthenticate until both sides are content."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Generator
from typing import Any, Final, NamedTuple, Protocol

from kafka.errors import UnsupportedSaslMechanismError
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.api_message import ApiMessage
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from infra.kafka import security
from infra.kafka.security import KafkaSecurityError
from infra.settings import Settings

MIN_RENEWAL_SECONDS: Final = 1.1
"""Kafka refuses to authenticate a connection again within a second (KIP-368)."""
RENEWAL_SHARE: Final = (0.85, 0.95)
"""Of a session's lifetime: when it is renewed, drawn so that not all connections do it at once."""


class Asking(Protocol):
    """The part of a connection to a broker that SASL needs."""

    address: str

    def knows(self, request: type[ApiMessage]) -> bool: ...


class AskingLater(Asking, Protocol):
    """A connection on an event loop."""

    async def ask_now(self, request: ApiMessage) -> ApiMessage: ...


class Authenticated(NamedTuple):
    """The end of an exchange. `again_seconds`: when it must be done again; None: never."""

    again_seconds: float | None


class Exchange:
    """What is asked in turn, and what follows from each answer. It hashes in `advance`, and waits nowhere."""

    def __init__(self, connection: Asking, settings: Settings) -> None:
        self._steps = _steps(connection, settings)

    def advance(self, answer: Any = None) -> ApiMessage | Authenticated:
        """The next request, or the end. `answer`: to the request before; None at the start.

        Errors: `KafkaSecurityError` where the broker refuses, or is not the one that knows the password.
        """
        try:
            return self._steps.send(answer)
        except StopIteration as end:
            return Authenticated(end.value)


async def authenticate(connection: AskingLater, settings: Settings) -> float | None:
    """Answers in how many seconds it must be done again; None: never.

    Errors: OSError, EOFError; those of `Exchange.advance`.
    """
    exchange = Exchange(connection, settings)
    step = exchange.advance()
    while not isinstance(step, Authenticated):
        answer = await connection.ask_now(step)
        # SCRAM hashes thousands of times
        step = await asyncio.to_thread(exchange.advance, answer)
    return step.again_seconds


def _steps(connection: Asking, settings: Settings) -> Generator[ApiMessage, Any, float | None]:
    if not (connection.knows(SaslHandshakeRequest) and connection.knows(SaslAuthenticateRequest)):
        raise security.wants_no_sasl(connection.address)
    ours = settings.kafka_sasl_mechanism
    answer = yield SaslHandshakeRequest(mechanism=ours)
    if answer.error_code == UnsupportedSaslMechanismError.errno:
        raise security.other_mechanism(connection.address, ours, list(answer.mechanisms))
    if answer.error_code:  # 34: no listener of SASL
        raise security.wants_no_sasl(connection.address)
    lifetime_ms = yield from _tokens(connection, settings)
    if lifetime_ms <= 0:
        return None
    return max(MIN_RENEWAL_SECONDS, lifetime_ms / 1000 * random.uniform(*RENEWAL_SHARE))


def _tokens(connection: Asking, settings: Settings) -> Generator[ApiMessage, Any, int]:
    """Answers for how many ms the session holds; 0: for ever."""
    # the protocol is left out: kafka-python would warn of SASL_PLAINTEXT at each connection
    options = security.sasl_options(settings)
    mechanism = get_sasl_mechanism(settings.kafka_sasl_mechanism)(**options)
    lifetime_ms = 0
    while not mechanism.is_done():
        answer = yield SaslAuthenticateRequest(mechanism.auth_bytes())
        if answer.error_code:
            raise security.wrong_credentials(connection.address, settings)
        lifetime_ms = int(answer.session_lifetime_ms or 0)
        try:
            mechanism.receive(bytes(answer.auth_bytes))
        except (ValueError, KeyError):
            raise KafkaSecurityError(
                f"the broker at {connection.address} does not prove that it knows the password",
                remedy="is KAFKA_BOOTSTRAP right?",
            ) from None
    if not mechanism.is_authenticated():
        raise security.wrong_credentials(connection.address, settings)
    return lifetime_ms
