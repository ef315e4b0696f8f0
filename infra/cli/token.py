"""`freshet token`: an access token, alone on stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from infra.cli.options import system_option

if TYPE_CHECKING:
    from infra.settings import Settings

DEFAULT_MINUTES = 60
MAX_BROWSER_MINUTES = 60


@click.command("token")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="A scope (repeatable).")
@click.option("--subject", default="", metavar="ID", help="The user id that it acts for.")
@click.option(
    "--minutes",
    type=click.IntRange(1, 60 * 24 * 366),
    default=DEFAULT_MINUTES,
    show_default=True,
    help="How long it is valid.",
)
@click.option(
    "--browser", is_flag=True, help="For a page: of one anonymous id, bound to an origin."
)
@click.option("--anonymous-id", default="", metavar="ID", help="With --browser: the visitor's id.")
@click.option("--origin", default="", metavar="URL", help="With --browser: the page's origin.")
@system_option
def token_command(
    scopes: tuple[str, ...],
    subject: str,
    minutes: int,
    browser: bool,
    anonymous_id: str,
    origin: str,
    data_dir: Path | None,
) -> None:
    """Make an access token for this installation, and print it.

    Without --scope it has every scope; with --subject alone, rec:read and events:write of that user. It is
    signed with the key in the data folder, or with FRESHET_ISSUER_KEY.

    \b
    export FRESHET_TOKEN=$(freshet token)
    freshet token --scope rec:read --subject u1 --minutes 5
    freshet token --browser --anonymous-id a1 --origin https://shop.example
    """
    import msgspec

    from infra import tokens
    from infra.local import home
    from infra.local.find import folder
    from infra.settings import from_environment, from_record
    from schemas.access.origins import is_origin
    from schemas.access.scopes import BROWSER, SCOPES
    from schemas.errors import ConfigurationError

    if unknown := sorted(set(scopes) - SCOPES.keys()):
        raise click.UsageError(
            f"{', '.join(unknown)} is no scope: --scope takes {', '.join(SCOPES)}"
        )
    if browser != bool(anonymous_id and origin) or ((anonymous_id or origin) and not browser):
        raise click.UsageError("--browser, --anonymous-id and --origin go together")
    if browser and (not is_origin(origin) or minutes > MAX_BROWSER_MINUTES or subject):
        raise click.UsageError(
            "--browser takes an --origin such as https://shop.example, at most"
            f" {MAX_BROWSER_MINUTES} --minutes and no --subject"
        )
    if browser and not BROWSER.issuperset(scopes):
        raise click.UsageError(f"--browser takes the scopes {', '.join(sorted(BROWSER))}")
    where = folder(data_dir)
    up = home.read(where)
    settings = from_record(up.environment) if up else from_environment()
    settings = msgspec.structs.replace(settings, data_dir=Path(up.data_dir) if up else where)
    if settings.issuer and not browser:
        raise click.UsageError(f"{settings.issuer} makes the tokens here; --browser those of pages")
    if not tokens.has_key(settings):
        raise ConfigurationError(
            f"{settings.data_dir} holds no key of tokens",
            remedy="name the folder of a system that was up with --data-dir, or set FRESHET_ISSUER_KEY",
        )
    subject = _person("--subject", subject, settings)
    anonymous_id = _person("--anonymous-id", anonymous_id, settings)
    chosen = scopes or (BROWSER if browser or subject else SCOPES)
    click.echo(
        tokens.make_token(
            settings,
            chosen,
            minutes=minutes,
            subject=subject,
            anonymous_id=anonymous_id,
            origin=origin,
        )
    )


def _person(option: str, name: str, settings: Settings) -> str:
    """The id as requests that name this person have it. Errors: `click.UsageError`."""
    from schemas.identity import NOT_PEOPLE, check_person_id
    from schemas.reject import Rejected

    try:
        return name and check_person_id(name, option, NOT_PEOPLE | settings.refused_ids)
    except Rejected as error:
        raise click.UsageError(f"{option} takes the id of a person ({error.code})") from None
