"""`freshet up`: everything on one machine."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infra.cli.options import (
    every_option,
    folder_option,
    json_option,
    port_option,
    print_json,
    workers_option,
)
from schemas.errors import FreshetError

if TYPE_CHECKING:
    from infra.local.home import Up
    from infra.local.plan import Plan


@click.command("up")
@folder_option("Folder for the data of broker and Redis, keys, spools and logs.")
@port_option("--port", "Port of the API.  [default: 8080, or a free one]")
@port_option("--redis-port", "Port of Redis.  [default: a free one]")
@port_option("--broker-port", "Port of the broker.  [default: a free one]")
@workers_option("--workers", 2, "Number of serving workers.")
@workers_option("--flow-workers", 1, "Number of workers that share the partitions of `events`.")
@every_option(
    "--verify",
    "verify_seconds",
    help="Compare Redis with the log at this interval (freshet verify).  [default: never]",
)
@json_option
def up_command(
    data_dir: Path,
    port: int | None,
    redis_port: int | None,
    broker_port: int | None,
    workers: int,
    flow_workers: int,
    verify_seconds: float | None,
    as_json: bool,
) -> None:
    """Run broker, Redis, dataflows and API on this machine, until Ctrl-C.

    A process that ends is started again, after 0.1 s, then 0.2 s … up to 5 s. One that hangs (without a
    sign of life for FRESHET_HANG_SECONDS, 60) is killed first. Ctrl-C or SIGTERM stops everything in order
    and keeps the data. A second Ctrl-C kills.

    With KAFKA_BOOTSTRAP or REDIS_URL, those services are used instead of new ones.

    \b
    freshet up
    freshet up --data-dir /srv/freshet --port 8000 --workers 4
    REDIS_URL=redis://cache:6379/0 KAFKA_BOOTSTRAP=kafka:9092 freshet up
    """
    from infra.local import home
    from infra.local.plan import plan, unanswered_services
    from infra.local.services import reserved
    from infra.local.system import up
    from infra.settings import VARIABLES
    from models.kernels import loading  # noqa: F401  (it says on stderr where there is no kernel)

    output = _JsonLines() if as_json else _Lines()
    with home.claimed(data_dir) as directory:
        home.remove_stale_record(directory, output.change)
        verified = {VARIABLES["verify_seconds"]: str(verify_seconds)} if verify_seconds else {}
        planned = plan(
            directory,
            {**os.environ, **verified},
            port=port,
            redis_port=redis_port,
            broker_port=broker_port,
            workers=workers,
            flow_workers=flow_workers,
        )
        output.starting(planned)
        for line in unanswered_services(planned):
            output.change(line)
        with reserved(planned.settings.port, planned.settings.bind):
            failure = up(planned, output.change, output.ready)
    if failure:
        raise FreshetError(failure)
    output.change("stopped")


class _Lines:
    """Prints lines of text."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def starting(self, plan: Plan) -> None:
        click.echo(f"Freshet starts in {plan.settings.data_dir}")

    def change(self, line: str) -> None:
        click.echo(f"{time.strftime('%H:%M:%S')} {line}")

    def ready(self, up: Up) -> None:
        from infra.configuration import without_password

        own = {process.name for process in up.processes}
        click.echo(f"ready after {time.monotonic() - self.began:.1f} s")
        for name, value in (
            ("API", click.style(up.url, bold=True) + f"   (try {up.url}/docs)"),
            ("Kafka", up.kafka_bootstrap + ("" if "broker" in own else "   (yours)")),
            ("Redis", without_password(up.redis_url) + ("" if "redis" in own else "   (yours)")),
            ("data", up.data_dir),
            ("logs", f"{up.data_dir}/logs/*.log"),
        ):
            click.echo(f"  {name:6} {value}")
        self._try_it(up)
        click.echo("Ctrl-C stops it; `freshet status` shows processes and lag")

    @staticmethod
    def _try_it(up: Up) -> None:
        """Lines that work by copy: an event, and what it changed."""
        from infra import tokens
        from infra.settings import from_record

        header, settings = ' -H "Authorization: Bearer $FRESHET_TOKEN"', from_record(up.environment)
        if tokens.is_made_here(settings):
            file = shlex.quote(f"{up.data_dir}/{tokens.TOKEN_FILE}")
            click.echo(f"export FRESHET_TOKEN=$(cat {file})")
        elif settings.issuer:
            click.echo(f"with FRESHET_TOKEN, an access token of {settings.issuer}:")
        else:
            header = ""
            click.echo("FRESHET_AUTH=off: whoever reaches this machine's loopback has every scope")
        event = '{"user_id": "u1", "item_id": "i1", "action": "view"}'
        kind = "-H 'Content-Type: application/json'"
        click.echo(f"curl{header} {kind} -d '{event}' {up.url}/v1/events")
        click.echo(f"curl{header} '{up.url}/v1/recommendations?user_id=u1'")


class _JsonLines:
    """Prints a JSON object a line; `event` names its kind."""

    def starting(self, plan: Plan) -> None:
        print_json({"event": "starting", "data_dir": plan.settings.data_dir, "url": plan.url})

    def change(self, line: str) -> None:
        print_json({"event": "change", "text": line})

    def ready(self, up: Up) -> None:
        import msgspec

        from infra.configuration import without_password

        document = msgspec.to_builtins(up)
        del document["environment"]  # it holds the token
        document["redis_url"] = without_password(up.redis_url)
        print_json({"event": "ready", **document})
