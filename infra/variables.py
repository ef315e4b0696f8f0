"""Environment variables whose names begin with ours: which of them exist, and which are mistakes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

PREFIX: Final = "FRESHET_"
KAFKA_PREFIXES: Final = ("KAFKA_SECURITY_", "KAFKA_SASL_", "KAFKA_SSL_")
"""Of settings of Kafka's clients; other variables that begin with KAFKA_ belong to others."""
OTHER_VARIABLES: Final[Mapping[str, str]] = {
    "FRESHET_URL": "where clients find the API",
    "FRESHET_BEAT": "what a supervisor asks a process for: signs of life",
    "FRESHET_LOG": "the log file that a supervisor gives a process, and how large it may be",
    "FRESHET_KERNEL": "`off` for numpy in place of the compiled kernel, or another build of it",
    "FRESHET_STAND_BY": "where a process that takes over waits until it may start",
}
"""Variables of Freshet that are no field of `Settings`."""
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK: Final = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_[A-Z]+(_\w+)?)")
_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://")


def refusal_of_unknown(environment: Mapping[str, str], settings: Iterable[str]) -> str:
    """A sentence about the first unknown variable that begins with `PREFIX` or one of `KAFKA_PREFIXES`, with
    the nearest name.

    "" where there is no such variable. What Kubernetes sets for a service named `freshet` is ignored.

    >>> refusal_of_unknown({"FRESHET_TOKN": "s3cret"}, ["FRESHET_TOKEN", "FRESHET_PORT"])
    'FRESHET_TOKN is no setting, did you mean FRESHET_TOKEN? `freshet config` lists all of them'
    >>> refusal_of_unknown({"FRESHET_PORT_8080_TCP_PROTO": "tcp"}, ["FRESHET_TOKEN", "FRESHET_PORT"])
    ''
    >>> refusal_of_unknown({"KAFKA_SASL_PASSWD": "s3cret", "KAFKA_HEAP_OPTS": ""}, ["KAFKA_SASL_PASSWORD"])
    'KAFKA_SASL_PASSWD is no setting, did you mean KAFKA_SASL_PASSWORD? `freshet config` lists all of them'
    """
    accepted = {*settings, *OTHER_VARIABLES}
    for name in sorted(environment.keys() - accepted):
        if name.startswith((PREFIX, *KAFKA_PREFIXES)) and not is_service_link(
            name, environment[name]
        ):
            return (
                f"{name} is no setting{_nearest(name, accepted)} `freshet config` lists all of them"
            )
    return ""


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes has set a variable for a service (`enableServiceLinks`): for a service named
    `freshet`, FRESHET_PORT is ``tcp://10.0.0.1:8080``."""
    if name.endswith("_PORT") and _LINK_VALUE.match(value):
        return True
    return _SERVICE_LINK.fullmatch(name) is not None


def _nearest(name: str, accepted: set[str]) -> str:
    """A question about the nearest accepted name; names are compared without the prefix that all have."""
    if (whole := name.removesuffix("_FILE")) in accepted:  # a setting that no file can give
        return f", did you mean {whole}?"
    prefix = PREFIX if name.startswith(PREFIX) else "KAFKA_"
    suffixes = [it.removeprefix(prefix) for it in accepted if it.startswith(prefix)]
    found = get_close_matches(name.removeprefix(prefix), suffixes, n=1)
    return f", did you mean {prefix}{found[0]}?" if found else ":"
