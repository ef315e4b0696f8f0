"""The settings of rate limits and quotas, and what is wrong with them, in one sentence."""

from __future__ import annotations

from typing import Final

from infra import rates
from infra.access_settings import AccessSettings

RATES: Final = (
    "limit_reads",
    "limit_reads_subject",
    "limit_events",
    "limit_events_subject",
    "limit_items",
    "limit_import",
    "limit_admin",
)
QUOTAS: Final = ("quota_people", "quota_items", "quota_categories")


class LimitSettings(AccessSettings, frozen=True, kw_only=True):
    """Field ``x`` comes from the variable ``FRESHET_X``. A part of `infra.settings.Settings`. Nobody is
    limited where nobody is asked for a token."""

    limit_reads: str = "20000/40000"
    """Most reads of one client (claim client_id) a second, and at once: rate/burst; off: no bound."""
    limit_reads_subject: str = "100/500"
    """Likewise of one subject, of tokens that read for their own subject alone."""
    limit_events: str = "50000/100000"
    """Most events of one client a second, and at once."""
    limit_events_subject: str = "100/1000"
    """Likewise of one subject, of tokens that send for their own subject alone."""
    limit_items: str = "off"
    """Most changes of items of one client a second, and at once."""
    limit_import: str = "off"
    """Most events of history (mode=import) of one client a second, and at once."""
    limit_admin: str = "20/100"
    """Most acts of administration of one client a second, and at once; while Redis is away there are none."""
    quota_people: str = "off"
    """Most ids of people that nothing is known of, an hour and client; off: no bound."""
    quota_items: str = "off"
    """Most new items an hour and client."""
    quota_categories: str = "off"
    """Most new categories of items an hour and client."""


def refusal(settings: LimitSettings) -> str:
    """The first thing wrong with the settings of limits; "" where nothing is."""
    for name in RATES:
        try:
            rates.rate(getattr(settings, name))
        except ValueError:
            return (
                f"FRESHET_{name.upper()} takes rate/burst, both above 0, such as 100/500 (a second, and at"
                " once), or off for no bound"
            )
    for name in QUOTAS:
        try:
            rates.hourly(getattr(settings, name))
        except ValueError:
            return (
                f"FRESHET_{name.upper()} takes a number above 0 (an hour and client), or off for no"
                " bound"
            )
    return ""
