"""The policies of limits that the settings have."""

from __future__ import annotations

from typing import Final

from infra import rates
from infra.limit_settings import LimitSettings
from schemas.access.limits import (
    ADMINISTRATION,
    EVENTS,
    EVENTS_SUBJECT,
    IMPORTS,
    ITEMS,
    NEW_CATEGORIES,
    NEW_ITEMS,
    NEW_PEOPLE,
    READS,
    READS_SUBJECT,
    Policy,
)

QUOTA_LEASES: Final = 10
"""A process takes such a part of an hour's quota ahead of time."""


def policies(settings: LimitSettings) -> dict[str, Policy]:
    """By name, those that the settings have. Where nobody is asked for a token nobody is limited."""
    if settings.auth == "off":
        return {}
    made = {
        READS: rates.rate(settings.limit_reads),
        READS_SUBJECT: rates.rate(settings.limit_reads_subject),
        EVENTS: rates.rate(settings.limit_events),
        EVENTS_SUBJECT: rates.rate(settings.limit_events_subject),
        ITEMS: rates.rate(settings.limit_items),
        IMPORTS: rates.rate(settings.limit_import),
        ADMINISTRATION: rates.rate(settings.limit_admin),
    }
    found = {
        name: Policy(
            name, rate.per_second, rate.burst, max(1, min(rate.burst, int(rate.per_second)))
        )
        for name, rate in made.items()
        if rate
    }
    quotas = {
        NEW_PEOPLE: rates.hourly(settings.quota_people),
        NEW_ITEMS: rates.hourly(settings.quota_items),
        NEW_CATEGORIES: rates.hourly(settings.quota_categories),
    }
    return found | {
        name: Policy(name, rate.per_second, rate.burst, max(1, rate.burst // QUOTA_LEASES))
        for name, rate in quotas.items()
        if rate
    }
