"""What a scrape shows beside what was counted: read off the process as it stands then."""

from __future__ import annotations

from functools import partial

from infra.version import RELEASE
from serving.context import Serving
from serving.health import health


def refresh_before_scrapes(serving: Serving) -> None:
    """From now on every scrape, wherever it comes in, tells of `serving` too."""
    serving.metrics.process_metrics.before(partial(refresh, serving))


def refresh(serving: Serving) -> None:
    counted = serving.metrics
    counted.set("freshet_log_pending", serving.log.pending)
    serving.writes.set_gauges()
    serving.lag.set_gauges()
    counted.set("freshet_items", serving.catalogue.count)
    counted.set("freshet_tables_version", serving.tables.meta.version)
    counted.process_metrics.only("freshet_release_info", ranking_release(serving))
    for name, is_ready in health(serving).components.items():
        counted.set("freshet_ready", is_ready, part=name)


def ranking_release(serving: Serving) -> str:
    """The release that ranks for who is in no experiment; the version of this code where none does."""
    loaded = serving.releases.current
    return loaded.release.id if loaded else RELEASE
