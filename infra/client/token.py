"""The token that a program sends where nobody gives it one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def is_local(url: str) -> bool:
    """Whether `url` is of this machine's loopback.

    >>> is_local("http://[::1]:8080"), is_local("http://localhost.example"), is_local("a b")
    (True, False, False)
    """
    try:
        return urlsplit(url).hostname in _LOOPBACK
    except ValueError:
        return False


def found(url: str, environment: Mapping[str, str] = os.environ) -> str:
    """FRESHET_TOKEN, or what the file of FRESHET_TOKEN_FILE holds; else, where `url` is of this machine, the
    token that `freshet up` writes into the data folder (FRESHET_DATA_DIR, or .freshet). "" without any.

    Errors: OSError where the file of FRESHET_TOKEN_FILE cannot be read.
    """
    if token := environment.get("FRESHET_TOKEN", "").strip():
        return token
    if file := environment.get("FRESHET_TOKEN_FILE", ""):
        return Path(file).read_text().strip()
    # of the system of that folder: no other machine may see it
    if not is_local(url):
        return ""
    try:
        return Path(environment.get("FRESHET_DATA_DIR", ".freshet"), "token").read_text().strip()
    except OSError:
        return ""
