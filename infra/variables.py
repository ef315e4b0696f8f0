"""The names of environment variables that begin like ours: which are known, and which only look like it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

PREFIX: Final = "FRESHET_"
OTHER_VARIABLES: Final[Mapping[str, str]] = {
    "FRESHET_URL": "where clients find the API",
    "FRESHET_BEAT": "what a supervisor asks a process for: signs of life",
    "FRESHET_STAND_BY": "where a process that takes over waits until it may start",
}
"""Variables of ours that are no field of `Settings`."""
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK: Final = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_[A-Z]+(_\w+)?)")
_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://")


def refusal_of_unknown(environment: Mapping[str, str], settings: Iterable[str]) -> str:
    """A sentence about the first variable that begins like ours and is none, with the nearest name; "" where
    there is no such variable. What Kubernetes sets for a service of our name is passed over.

    >>> refusal_of_unknown({"FRESHET_TOKN": "s3cret"}, ["FRESHET_TOKEN", "FRESHET_PORT"])
    'FRESHET_TOKN is no setting, did you mean FRESHET_TOKEN? `freshet config` lists all of them'
    >>> refusal_of_unknown({"FRESHET_PORT_8080_TCP_PROTO": "tcp"}, ["FRESHET_TOKEN", "FRESHET_PORT"])
    ''
    """
    known = {*settings, *OTHER_VARIABLES}
    for name in sorted(environment.keys() - known):
        if name.startswith(PREFIX) and not is_service_link(name, environment[name]):
            return f"{name} is no setting{_nearest(name, known)} `freshet config` lists all of them"
    return ""


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes has set it for a service (`enableServiceLinks`): of one named `freshet`,
    FRESHET_PORT is ``tcp://10.0.0.1:8080``."""
    if name.endswith("_PORT") and _LINK_VALUE.match(value):
        return True
    return _SERVICE_LINK.fullmatch(name) is not None


def _nearest(name: str, known: set[str]) -> str:
    """Compared without the prefix, which every name has: with it all of them are near."""
    if (whole := name.removesuffix("_FILE")) in known:  # a setting that is taken from no file
        return f", did you mean {whole}?"
    ends = [it.removeprefix(PREFIX) for it in known if it.startswith(PREFIX)]
    found = get_close_matches(name.removeprefix(PREFIX), ends, n=1)
    return f", did you mean {PREFIX}{found[0]}?" if found else ":"
