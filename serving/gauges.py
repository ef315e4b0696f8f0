"""What a scrape shows beside what was counted: read off the process as it stands then."""

from __future__ import annotations

from functools import partial

from infra.version import RELEASE
from serving.context import Serving
from serving.health import health


def prepare(serving: Serving) -> None:
    """From now on every scrape, wherever it comes in, tells of `serving` too."""
    serving.metrics.telemetry.before(partial(refresh, serving))


def refresh(serving: Serving) -> None:
    counted = serving.metrics
    counted.set("freshet_log_pending", serving.log.pending)
    serving.writes.tell()
    serving.lag.tell()
    counted.set("freshet_items", serving.catalogue.count)
    counted.set("freshet_tables_version", serving.tables.meta.version)
    counted.telemetry.only("freshet_release_info", serves(serving))
    for name, is_ready in health(serving).parts.items():
        counted.set("freshet_ready", is_ready, part=name)


def serves(serving: Serving) -> str:
    """The release that ranks for who is in no experiment; the version of this code where none does."""
    loaded = serving.releases.current
    return loaded.release.id if loaded else RELEASE
