"""Errors that a person is shown: a sentence, what to do about it, and the exit status of the command.

Any other exception is a fault of the program, or is caught by other code: its traceback says more.
"""

from __future__ import annotations

from typing import ClassVar


class FreshetError(Exception):
    """Shown as one line, without a traceback. The text names what is wrong; never a secret, never a body.

    `remedy` says what to do, as a clause that follows a colon. A class sets it where it is always the same,
    else the raise does. It is "" where the sentence says it already, or nothing can be done.

    >>> str(FreshetError("nothing runs in .freshet", remedy="start it with `freshet up`"))
    'nothing runs in .freshet: start it with `freshet up`'
    """

    exit_code: ClassVar[int] = 1
    """1: it failed. 2: it was called or set up wrongly."""
    remedy: str = ""

    def __init__(self, sentence: str, *, remedy: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        if remedy:
            self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.sentence}: {self.remedy}" if self.remedy else self.sentence


class ConfigurationError(FreshetError):
    """Freshet was called or set up wrongly: another argument, setting, folder or service cures it."""

    exit_code = 2
