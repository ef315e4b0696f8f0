"""`freshet config`: every setting, its value, and where the value comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infra.cli.options import json_option, print_json, system_option
from infra.local.find import NothingRuns, folder
from infra.terminal.text import console, table

if TYPE_CHECKING:
    from infra.configuration import Setting


@click.command("config")
@system_option
@json_option
def config_command(data_dir: Path | None, as_json: bool) -> None:
    """Show every setting: its value, and where the value comes from. Secrets are starred.

    The settings are those of the running system; where none runs, those of this environment. A FRESHET_*
    variable that is no setting is named below the table, with exit status 2.

    \b
    freshet config
    freshet config --json | jq '.settings[] | select(.source != "default")'
    """
    from infra import configuration
    from infra.local import home
    from infra.settings import refuse_unknown

    where = folder(data_dir)
    up = home.read(where)
    if up is None and data_dir:
        raise NothingRuns(
            f"nothing runs in {where}", remedy="omit --data-dir to see this environment's settings"
        )
    settings = (
        configuration.system_settings(up.environment)
        if up
        else configuration.environment_settings()
    )
    if as_json:
        system = up.data_dir if up else None
        print_json({"system": system, "settings": [it._asdict() for it in settings]})
    else:
        _show(settings, f"The system in {up.data_dir}" if up else "This environment")
    refuse_unknown(os.environ)


def _show(settings: list[Setting], title: str) -> None:
    columns = ("variable", "value", "from", "what it is")
    rows = ((it.variable, it.value, it.source, it.description) for it in settings)
    console().print(table(title, columns, rows))
