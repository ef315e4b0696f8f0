"""Why a record is not in the log."""

from __future__ import annotations


class NotDurable(Exception):
    """The broker has not acknowledged every record. Some may be there: a retry needs the same ids."""


class Refused(NotDurable):
    """The broker does not take one of the records, and will not."""
