"""`freshet token`: an access token, alone on stdout."""

from __future__ import annotations

from pathlib import Path

import click

from infra.cli.options import system_option

DEFAULT_MINUTES = 60.0
MAX_BROWSER_MINUTES = 60.0


@click.command("token")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="A scope (repeatable).")
@click.option("--subject", default="", metavar="ID", help="The user id that it acts for.")
@click.option(
    "--minutes",
    type=click.FloatRange(0, 60 * 24 * 366, min_open=True),
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
    minutes: float,
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

    if unknown := sorted(set(scopes) - SCOPES.keys()):
        raise click.UsageError(
            f"{', '.join(unknown)} is no scope: --scope takes {', '.join(SCOPES)}"
        )
    if browser != bool(anonymous_id and origin) or ((anonymous_id or origin) and not browser):
        raise click.UsageError("--browser, --anonymous-id and --origin go together")
    if browser and (not is_origin(origin) or minutes > MAX_BROWSER_MINUTES or subject):
        raise click.UsageError(
            "--browser takes an --origin such as https://shop.example, at most"
            f" {MAX_BROWSER_MINUTES:g} --minutes and no --subject"
        )
    if browser and not BROWSER.issuperset(scopes):
        raise click.UsageError(f"--browser takes the scopes {', '.join(sorted(BROWSER))}")
    where = folder(data_dir)
    up = home.read(where)
    settings = from_record(up.environment) if up else from_environment()
    settings = msgspec.structs.replace(settings, data_dir=Path(up.data_dir) if up else where)
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
