"""Every setting as people may see it: its value, the value's source, its meaning. Secrets are starred."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from infra.access_settings import AccessSettings
from infra.kafka_settings import KafkaSettings
from infra.limit_settings import LimitSettings
from infra.settings import (
    FILES,
    SECRETS,
    VARIABLES,
    Settings,
    from_record,
    is_given,
)

HIDDEN: Final = "***"
UNITS: Final = ("seconds", "hours", "days", "bytes")
Value = str | int | float


class Setting(NamedTuple):
    """A setting to show. `value` and `default` hold no secret. `source`: "default", "environment", "file" or
    "running system". `unit`: "" where it has none."""

    name: str
    variable: str
    value: Value
    source: str
    unit: str
    default: Value
    description: str


def environment_settings(environment: Mapping[str, str] = os.environ) -> list[Setting]:
    """The settings of a process that starts in this environment.

    Errors: `BadSetting`, but not for an unknown variable.
    """

    def source(name: str) -> str:
        if not is_given(name, environment):
            return "default"
        return "file" if environment.get(FILES.get(name, "")) else "environment"

    return _settings(from_record(environment), source)


def system_settings(environment: Mapping[str, str]) -> list[Setting]:
    """The settings of a running system whose `up.json` holds this environment. Errors: `BadSetting`."""
    settings, default = from_record(environment), Settings()

    def source(name: str) -> str:
        same = getattr(settings, name) == getattr(default, name)
        return "default" if same else "running system"

    return _settings(settings, source)


def without_password(url: str) -> str:
    """`url` with its password starred.

    >>> without_password("redis://me:secret@cache:6379/0")
    'redis://me:***@cache:6379/0'
    >>> without_password("redis://cache:6379/0?password=secret&protocol=3")
    'redis://cache:6379/0?password=***&protocol=3'
    """
    url = re.sub(r"(?i)([?&][^=&]*(?:password|secret)[^=&]*=)[^&]*", rf"\1{HIDDEN}", url)
    # not by urlsplit: it would show a password that is not quoted as it should be
    return re.sub(r"^([\w+.-]+://[^:/@]*:).*@", rf"\1{HIDDEN}@", url)


def descriptions() -> dict[str, str]:
    """Field -> the text under it in the class `Settings` or its base, which is its only place."""
    import ast
    import inspect

    found = {}
    for source in map(inspect.getsource, (KafkaSettings, AccessSettings, LimitSettings, Settings)):
        (body,) = ast.parse(source).body
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(words))):
                    found[name] = inspect.cleandoc(words).replace("``", "").replace("\n", " ")
    return found


def _settings(settings: Settings, source: Any) -> list[Setting]:
    default, described = Settings(), descriptions()
    return [
        Setting(
            name,
            variable,
            _shown(name, getattr(settings, name)),
            source(name),
            next((unit for unit in UNITS if name.endswith(unit)), ""),
            _shown(name, getattr(default, name)),
            described.get(name, ""),
        )
        for name, variable in VARIABLES.items()
    ]


def _shown(name: str, value: Any) -> Value:
    if name in SECRETS:
        return HIDDEN if value else ""
    if name.endswith("_url"):
        return without_password(value)
    return value if isinstance(value, int | float) else str(value)
