"""The settings of access: who may ask, from where, with which tokens; and what is wrong with them, in one
sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from infra.hosts import LOOPBACK, Hosts, is_secure_url
from infra.kafka_settings import KafkaSettings
from schemas.access.origins import is_origin

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
"""Those that can be configured: each is of one type of key (RFC 8725, 3.1)."""
_JWT: Final = "eyJ"
"""What every JSON object begins with in base64."""
_URL: Final = re.compile(r"https?://[^/?#@\s]+(/[^?#\s]*)?")


class AccessSettings(KafkaSettings, frozen=True, kw_only=True):
    """Field ``x`` comes from the variable ``FRESHET_X``. A part of `infra.settings.Settings`, after that of
    Kafka, since a struct has one base."""

    host: str = ""
    """Address to serve on; "" is loopback, or every address once a token or an issuer is set."""
    auth: str = "on"
    """on: every request needs an access token; off: nobody is asked for one, and the API is served on
    loopback alone."""
    hosts: str = ""
    """Hosts that serving answers to, comma-separated: shop.example for every port, shop.example:8443 for one;
    another Host is answered 421. "" is any, as a token guards; with FRESHET_AUTH=off this machine's alone."""
    token: str = ""
    """One bearer token with every scope, for a small installation: 16 characters of ASCII or more. A JWT
    (freshet token) is one to send: commands take it from here."""
    issuer: str = ""
    """The authorization server whose access tokens are taken (their claim iss); "": this installation makes
    its own (freshet token)."""
    jwks: str = ""
    """The issuer's public keys, a JWK Set: an https URL, or a path."""
    audience: str = "freshet"
    """Claim aud of the tokens that are for this API."""
    algorithms: str = "RS256,ES256,EdDSA"
    """Algorithms of the issuer's tokens, of RS256, ES256 and EdDSA."""
    issuer_key: str = ""
    """Private key (Ed25519, PEM) of the tokens that this installation makes; "" makes one in `data_dir`.
    Machines that serve together share it."""
    origins: str = ""
    """Origins of pages that may ask with a browser's token, comma-separated: https://shop.example."""
    public_url: str = ""
    """Where clients find this API, such as https://api.example.com; "": as their Host header says."""

    @property
    def page_origins(self) -> tuple[str, ...]:
        """Those of `origins`."""
        return tuple(filter(None, self.origins.split(",")))

    @property
    def shared_token(self) -> str:
        """The one token of a small installation, "" for none: a JWT in FRESHET_TOKEN is one to send alone."""
        return "" if self.token.startswith(_JWT) else self.token

    @property
    def answers_to(self) -> Hosts:
        """The hosts that serving answers to. Errors: ValueError."""
        return Hosts(self.hosts or (LOOPBACK if self.auth == "off" else ""))

    @property
    def bind(self) -> str:
        """The address that serving binds to."""
        return self.host or ("0.0.0.0" if self.shared_token or self.issuer else "127.0.0.1")


def refusal(settings: AccessSettings) -> str:
    """The first thing wrong with the settings of access; "" where nothing is."""
    return next(_refusals(settings), "")


def _refusals(settings: AccessSettings) -> Iterator[str]:
    if settings.auth not in ("on", "off"):
        yield "FRESHET_AUTH must be on or off"
    if settings.auth == "off":
        if settings.host not in ("", "127.0.0.1", "::1", "localhost"):
            yield "FRESHET_AUTH=off serves this machine alone: leave FRESHET_HOST out, or FRESHET_AUTH"
        if settings.shared_token or settings.issuer:
            yield (
                "FRESHET_AUTH=off asks for no token: leave FRESHET_TOKEN and FRESHET_ISSUER out, or it"
            )
    if settings.token and not re.fullmatch("[!-~]{16,8192}", settings.token):
        yield (
            "FRESHET_TOKEN takes 16 characters or more of ASCII without spaces, such as openssl rand -hex 32"
            " prints"
        )
    yield from _refusals_of_issuer(settings)
    if not all(map(is_origin, settings.page_origins)):
        yield (
            "FRESHET_ORIGINS takes origins as a browser writes them, with commas between them:"
            " https://shop.example,http://localhost:3000"
        )
    if settings.public_url and not _URL.fullmatch(settings.public_url):
        yield "FRESHET_PUBLIC_URL takes a URL such as https://api.example.com"
    try:
        _ = settings.answers_to
    except ValueError:
        yield "FRESHET_HOSTS takes hosts with commas between them, such as shop.example,shop.example:8443"


def _refusals_of_issuer(settings: AccessSettings) -> Iterator[str]:
    if bool(settings.issuer) != bool(settings.jwks):
        yield (
            "FRESHET_ISSUER and FRESHET_JWKS go together: who makes the tokens, and where its keys are"
        )
    # RFC 8414, section 2; also, the name of the issuer at home is no URL
    if settings.issuer and not (_URL.fullmatch(settings.issuer) and is_secure_url(settings.issuer)):
        yield (
            "FRESHET_ISSUER takes the https URL that the tokens name as iss (http on this machine alone),"
            " without a query"
        )
    if "://" in settings.jwks and not is_secure_url(settings.jwks):
        yield "FRESHET_JWKS takes https, or http on this machine: keys decide who gets in"
    if not settings.audience:
        yield "FRESHET_AUDIENCE must be the claim aud of the tokens for this API"
    if not set(settings.algorithms.split(",")) <= set(ALGORITHMS):
        yield "FRESHET_ALGORITHMS takes RS256, ES256 and EdDSA, with commas between them"
