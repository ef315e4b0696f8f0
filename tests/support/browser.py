"""Chromium without a window, over its DevTools protocol in a pipe: it opens pages and runs scripts there."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.waits import until

COMMANDS: Final = ("chromium", "chromium-browser", "google-chrome")
CACHES: Final = "ms-playwright/chromium*/chrome-linux*/chrome"
_ARGUMENTS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-proxy-server",
    "--remote-debugging-pipe",
)


def chromium() -> str:
    """The path of a Chromium: that of the variable CHROMIUM, the system's, or that of playwright. Without
    any, the test is skipped."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, COMMANDS), *sorted(cache.glob(CACHES))]
    for path in filter(None, found):
        return str(path)
    pytest.skip("no Chromium: apt-get install chromium, or name one in CHROMIUM")


class Browser:
    """A running Chromium. `hosts`: names that lead to this machine."""

    def __init__(self, profile: Path, *hosts: str) -> None:
        rules = ", ".join(f"MAP {host} 127.0.0.1" for host in hosts)
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        self._out, self._in = os.fdopen(ours_out, "wb", buffering=0), os.fdopen(ours_in, "rb")
        # Chromium reads 3 and writes 4, which may be ends of these very pipes
        descriptors = [fcntl.fcntl(it, fcntl.F_DUPFD, 10) for it in (theirs_in, theirs_out)]

        def move() -> None:
            for end, number in zip(descriptors, (3, 4), strict=True):
                os.dup2(end, number)

        self.process = subprocess.Popen(
            [
                chromium(),
                *_ARGUMENTS,
                f"--user-data-dir={profile}",
                f"--host-resolver-rules={rules}",
            ],
            pass_fds=(3, 4),
            preexec_fn=move,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (*descriptors, theirs_in, theirs_out):
            os.close(end)
        self._numbers = count(1)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._out.close()
        self._in.close()

    def call(self, method: str, session: str = "", **parameters: Any) -> Any:
        """The result of a command. Errors: RuntimeError."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        message |= {"sessionId": session} if session else {}
        self._out.write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:  # events come between
            pass
        if "error" in answer:
            raise RuntimeError(answer["error"]["message"])
        return answer["result"]

    def open(self, url: str) -> Page:
        """The page of `url`, once it is loaded."""
        target = self.call("Target.createTarget", url=url)["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"])
        loaded = f"location.href.startsWith({json.dumps(url)}) && document.readyState == 'complete'"
        until(lambda: bool(page.run(loaded)))
        return page

    def _next(self) -> Any:
        found = bytearray()
        while (byte := self._in.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("Chromium has ended")
            found += byte
        return json.loads(found)


class Page:
    """An open page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript, awaited. Errors: RuntimeError where it throws."""
        found = self._browser.call(
            "Runtime.evaluate",
            self._session,
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
        )
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", ""))
        return found["result"].get("value")

    def fetch(self, url: str, **options: Any) -> int:
        """The status of the answer to a request of the page; 0 where the browser does not let it read one."""
        asked = f"fetch({json.dumps(url)}, {json.dumps(options)})"
        return int(self.run(f"{asked}.then(answer => answer.status, () => 0)"))


@contextmanager
def browsing(profile: Path, *hosts: str) -> Iterator[Browser]:
    browser = Browser(profile, *hosts)
    try:
        yield browser
    finally:
        browser.close()
