"""Finding the running system: in its folder, or by the variables of the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from infra.local.home import Up
    from infra.settings import Settings

DEFAULT_DIR: Final = Path(".freshet")


class NothingRuns(ConfigurationError):
    """No system runs; the text names the folder that was searched."""

    remedy = (
        "start it with `freshet up`, or name a running one with --data-dir, or with KAFKA_BOOTSTRAP"
        " and REDIS_URL"
    )


class RunningSystem(NamedTuple):
    """A running system. `up` is None where the environment alone names the system."""

    settings: Settings
    url: str
    up: Up | None

    @property
    def token(self) -> str:
        """The token to send to it; "" where it asks for none."""
        from infra import tokens

        # who names a system names its token, too: the one of a folder is of the system in it
        named = self.settings.token if self.up is None and self.settings.auth == "on" else ""
        return named or tokens.held(self.settings)


def find(data_dir: Path | None, environment: Mapping[str, str] = os.environ) -> RunningSystem:
    """The system of `data_dir`, else of .freshet, else the one that the environment names.

    Errors: `NothingRuns`, `BadSetting`.
    """
    from infra.local import home
    from infra.settings import from_environment, from_record, refuse_unknown

    refuse_unknown(environment)
    directory = folder(data_dir, environment)
    if up := home.read(directory):
        settings = _with_sent_token(from_record(up.environment), environment)
        return RunningSystem(settings, up.url, up)
    named = {"KAFKA_BOOTSTRAP", "REDIS_URL", "REDIS_URL_FILE", "FRESHET_URL"} & environment.keys()
    if data_dir or not named:
        raise NothingRuns(f"nothing runs in {directory}")
    settings = from_environment(environment)
    url = environment.get("FRESHET_URL", f"http://{settings.host or '127.0.0.1'}:{settings.port}")
    return RunningSystem(settings, url.rstrip("/"), None)


def _with_sent_token(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """With the JWT that `environment` gives to send, where the system has no token that everybody shares."""
    import msgspec

    from infra.settings import FILES, VARIABLES, from_record

    names = (VARIABLES["token"], FILES["token"])
    ours = from_record({name: environment[name] for name in names if name in environment})
    if settings.shared_token or ours.shared_token or not ours.token:
        return settings
    return msgspec.structs.replace(settings, token=ours.token)


def folder(data_dir: Path | None, environment: Mapping[str, str] = os.environ) -> Path:
    """The data folder: `data_dir`, else FRESHET_DATA_DIR, else .freshet."""
    return data_dir or Path(environment.get("FRESHET_DATA_DIR", DEFAULT_DIR))


def own_settings(data_dir: Path | None) -> Settings | None:
    """The settings of an environment that `freshet up` made for this process, with the process's own metrics
    port. None in any other environment, and where `data_dir` is given. Errors: `BadSetting`."""
    from infra.settings import from_environment

    return from_environment() if data_dir is None and "KAFKA_BOOTSTRAP" in os.environ else None


def settings_of(data_dir: Path | None) -> Settings:
    """The settings of the running system, else of the environment: a lake can be read without a system.

    Errors: `BadSetting`.
    """
    import msgspec

    from infra.settings import from_environment

    try:
        return find(data_dir).settings
    except NothingRuns:
        settings = from_environment()
        return msgspec.structs.replace(settings, data_dir=data_dir or settings.data_dir)
