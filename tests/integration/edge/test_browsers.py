"""Pages in a real browser: of the right origin, of another one, of a name that was made to point here, and
`/docs`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from infra import tokens
from infra.local.services import free_port
from schemas.access.scopes import BROWSER
from tests.support.browser import Browser, browsing
from tests.support.http import Server, end_offset, serving
from tests.support.waits import until

pytestmark = pytest.mark.check
REBOUND = "rebound.example"
VIEW = {"anonymous_id": "a1", "item_id": "i1", "action": "view"}
READ = "/v1/recommendations?anonymous_id=a1"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile"), REBOUND) as found:
        yield found


@pytest.fixture(scope="module")
def origin() -> str:
    return f"http://localhost:{free_port()}"


@pytest.fixture(scope="module")
def guarded(
    edge: Server, origin: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("guarded")
    settings = msgspec.structs.replace(
        edge.settings, auth="on", data_dir=home / "data", origins=origin, host="127.0.0.1"
    )
    with serving(settings, home / "log") as server:
        yield server


def url(server: Server) -> str:
    connection = server.connect()
    return f"http://{connection.host}:{connection.port}"


@contextmanager
def pages(port: int, behind: Server | None = None) -> Iterator[int]:
    """A site with an empty page. `behind`: what its name leads to for every other path, as after its owner
    has changed where it points: the request arrives there as the browser wrote it."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            status, kind, content = 200, "text/html", b"<!doctype html><title>page</title>"
            if behind is not None and self.path != "/":
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                connection: HTTPConnection = behind.connect()
                connection.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body)
                found = connection.getresponse()
                status, content = found.status, found.read()
                kind = found.getheader("Content-Type", "")
                connection.close()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_OPTIONS = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield site.server_port
        site.shutdown()
        thread.join()


def sent(token: str = "") -> dict[str, Any]:
    """The options of a request that posts an event."""
    headers = {"Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    return {"method": "POST", "headers": headers, "body": json.dumps(VIEW)}


def test_a_page_of_the_right_origin_reads_and_sends_and_no_other(
    browser: Browser, guarded: Server, origin: str
) -> None:
    token = tokens.make_token(
        guarded.settings, BROWSER, minutes=5, anonymous_id="a1", origin=origin
    )
    at, headers = url(guarded), {"Authorization": f"Bearer {token}"}
    before = end_offset(guarded.settings, "events")
    with pages(int(origin.rpartition(":")[2])), pages(0) as elsewhere:
        page = browser.open(f"{origin}/")
        assert page.fetch(f"{at}{READ}", headers=headers) == 200
        assert page.fetch(f"{at}/v1/events", **sent(token)) == 202
        # another person, a route that no browser uses, and no token at all
        assert page.fetch(f"{at}{READ[:-1]}2", headers=headers) == 403
        assert page.fetch(f"{at}/v1/status", headers=headers) == 0
        assert page.fetch(f"{at}{READ}") == 401
        after = end_offset(guarded.settings, "events")
        assert after > before
        other = browser.open(f"http://localhost:{elsewhere}/")
        assert other.fetch(f"{at}{READ}", headers=headers) == 0
        assert other.fetch(f"{at}/v1/events", **sent(token)) == 0
        blind = {**sent(), "mode": "no-cors", "headers": {}}  # sent without asking first
        assert other.fetch(f"{at}/v1/events", **blind) == 0  # an opaque answer
        assert end_offset(guarded.settings, "events") == after


def test_a_rebound_page_gets_nothing_from_a_server_without_tokens(
    browser: Browser, edge: Server
) -> None:
    with pages(0, behind=edge) as port:
        own = browser.open(f"http://localhost:{port}/")
        assert own.fetch(READ) == 200
        assert own.fetch("/v1/events", **sent()) == 202
        before = end_offset(edge.settings, "events")
        rebound = browser.open(f"http://{REBOUND}:{port}/")
        for path, options in ((READ, {}), ("/v1/events", sent()), ("/openapi.json", {})):
            assert rebound.fetch(path, **options) == 421
        assert end_offset(edge.settings, "events") == before
    with pages(0) as port:  # nor does a page that asks by our own name
        foreign = browser.open(f"http://{REBOUND}:{port}/")
        assert foreign.fetch(f"{url(edge)}{READ}") == 0
        assert foreign.fetch(f"{url(edge)}/v1/events", **sent(), mode="no-cors") == 0
        assert end_offset(edge.settings, "events") == before


def test_the_docs_try_calls_with_the_token_they_ask_for(browser: Browser, guarded: Server) -> None:
    token = tokens.write(guarded.settings)
    page = browser.open(f"{url(guarded)}/docs")
    assert str(guarded.settings.data_dir / tokens.TOKEN_FILE) in page.run("document.body.innerText")
    listed = page.run("[...document.querySelectorAll('details[id]')].map(it => it.id)")
    document = guarded.ask("GET", "/openapi.json").json
    operations = [it["operationId"] for path in document["paths"].values() for it in path.values()]
    assert sorted(listed) == sorted(operations)

    def tried(name: str, **values: str) -> str:
        """The status of a try."""
        page.run(
            f"(form => {{ for (const [name, value] of Object.entries({json.dumps(values)}))"
            " form.elements[name].value = value; form.querySelector('button').click(); })"
            f"(document.querySelector('#{name} form'))"
        )
        status = f"document.querySelector('#{name} output').dataset.status"
        until(lambda: page.run(status) is not None)
        return str(
            page.run(
                f"[{status}, delete document.querySelector('#{name} output').dataset.status][0]"
            )
        )

    assert tried("recommendations", user_id="ann") == "401"
    page.run(
        f"token.value = {json.dumps(token)}, token.dispatchEvent(new Event('input')), undefined"
    )
    assert tried("recommendations", user_id="ann", count="3") == "200"
    assert tried("recommendations", user_id="ann", count="x") == "422"
    assert tried("post_events") == "202"
    assert tried("put_item", item_id="a/b") == "202"
    assert token not in page.run("location.href")
    assert page.run("Object.keys(localStorage).length + document.cookie.length") == 0
    assert browser.open(f"{url(guarded)}/docs").run("token.value") == ""  # of one tab alone
    # what is not of this page is not loaded
    assert page.fetch("http://localhost:9/") == 0
    added = "document.body.append(Object.assign(document.createElement('script'), {text: 'window.x = 1'}))"
    assert page.run(f"{added}, typeof window.x") == "undefined"
