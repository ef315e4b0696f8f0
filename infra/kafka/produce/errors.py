"""The reasons why a record is not in the log."""

from __future__ import annotations


class NotDurable(Exception):
    """The broker has not acknowledged every record. It may have some: a retry needs the same ids."""


class RecordRefused(NotDurable):
    """The broker refuses one of the records, and will refuse it again."""


class TimeRefused(NotDurable):
    """The broker refuses the timestamp of a record: the clock of this process is too far from its own. It
    takes the record once the clock is right."""
