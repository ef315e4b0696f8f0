"""uv with pip's configuration: `python infra/lock/uv_like_pip.py pip sync …` is `uv pip sync …`.

uv does not read pip's configuration. So this passes what `pip config list` prints to uv, in the variables
that uv reads; a variable of uv's that is set already stays. Standard library only: it runs before anything
but pip and uv is installed.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

VARIABLES: Final = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}
"""Option of pip -> variable of uv. Lists are separated by white space in both."""
SECTIONS: Final = ("global", "install", ":env:")
"""Sections of pip's configuration; a later one overrides an earlier one."""
FALSE: Final = {"", "0", "false", "no", "off", "n", "f"}


def options(listed: str) -> dict[str, str]:
    """Option -> value, from the lines ``section.option='value'`` that `pip config list` prints."""
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if section in found:
            found[section][option] = " ".join(str(ast.literal_eval(value)).split())
    return {option: value for section in SECTIONS for option, value in found[section].items()}


def as_uv(pip: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Variables and arguments for uv that have the effect of these options of pip."""
    # as pip, the best version of all indexes; uv's default is the first index that has the package
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    variables |= {VARIABLES[it]: value for it, value in pip.items() if it in VARIABLES and value}
    # a missing folder is a warning to pip, an error to uv
    links = [it for it in pip.get("find-links", "").split() if "://" in it or Path(it).exists()]
    if links:
        variables["UV_FIND_LINKS"] = ",".join(links)
    return variables, [] if pip.get("no-index", "").lower() in FALSE else ["--no-index"]


def main(arguments: list[str]) -> None:
    """Replaces this process by the uv beside this Python. Errors: exit 1 and a line where uv does not run."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    variables, more = as_uv(options(listed))
    uv = Path(sys.executable).with_name("uv")
    try:
        os.execve(uv, [str(uv), *arguments, *more], variables | dict(os.environ))
    except OSError as error:
        sys.exit(f"uv does not run: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
