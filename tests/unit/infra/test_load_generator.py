"""The load generator against a server whose every delay and fault the test chose.

Lower bounds on times are exact, since nothing answers early; upper bounds leave room for a busy machine.
"""

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from infra.apps.bench.load import SOURCE

pytestmark = [pytest.mark.timeout(60)]

SLACK_MS = 50.0
"""How late a busy machine may make an answer before a test calls it wrong."""


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter
    first_on_connection: bool

    def query(self, name: str) -> str:
        return parse_qs(urlsplit(self.target).query)[name][0]


Handler = Callable[[Request], Awaitable[bytes]]
"""Handler: returns the bytes of the whole answer; None closes the connection."""


@dataclass
class Server:
    """Keeps connections alive, and notes what it was asked and when."""

    handler: Handler
    requests: list[Request] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._answer_all(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the generator closed the connection, at its end or after a fault, or the test is over
        finally:
            writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = True
        while True:
            request = await read_request(reader, writer, first)
            self.requests.append(request)
            self.arrivals.append(asyncio.get_running_loop().time())
            answer = await self.handler(request)
            if not answer:
                return
            writer.write(answer)
            await writer.drain()
            first = False


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bool
) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    start, *lines = head.rstrip().split("\r\n")
    method, target, _ = start.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body, writer, first)


def answer(body: object = None, status: int = 200, extra: str = "") -> bytes:
    payload = json.dumps(body or {}).encode()
    return (
        f"HTTP/1.1 {status} X\r\nContent-Length: {len(payload)}\r\n{extra}\r\n".encode() + payload
    )


def run(
    load: Path, handler: Handler, *arguments: str, status: int = 0
) -> tuple[dict[str, Any], Server]:
    """Runs the generator against the handler; the books must balance whatever happened."""

    async def both() -> tuple[dict[str, Any], Server]:
        server = Server(handler)
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=256)
        port = listener.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            load,
            *arguments,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
            listener.close()
        assert process.returncode == status, err
        return json.loads(out), server

    report, server = asyncio.run(both())
    assert report["scheduled"] + report["probes"] == (
        report["completed"] + report["freshness_ms"]["n"] + sum(report["errors"].values())
    )
    return report, server


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("bin") / "load"
    subprocess.run(
        ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", target, SOURCE, "-lm"],
        check=True,
        timeout=60,
    )
    return target


@pytest.fixture
def paths(tmp_path: Path) -> str:
    file = tmp_path / "paths"
    file.write_text("/v1/popular\n")
    return str(file)


def bodies(tmp_path: Path, *users: str) -> str:
    file = tmp_path / "bodies"
    file.write_text(
        "".join(f'{user}\t{{"user_id":"{user}"}}\n' for user in users), encoding="utf-8"
    )
    return str(file)


def shape(rate: int, seconds: float, connections: int) -> list[str]:
    return f"--rate {rate} --seconds {seconds} --connections {connections}".split()


def reads(paths: str, rate: int, seconds: float, connections: int, *more: str) -> list[str]:
    return ["reads", "--paths", paths, *shape(rate, seconds, connections), *more]


def events(file: str, rate: int, seconds: float, connections: int, *more: str) -> list[str]:
    probe = ["--probe-path", "/v1/recommendations?user_id=%s&count=10"]
    return ["events", "--bodies", file, *shape(rate, seconds, connections), *probe, *more]


async def at_once(_: Request) -> bytes:
    return answer()


# ---- counts and percentiles ----


def test_percentiles_are_those_of_the_delays(load: Path, tmp_path: Path) -> None:
    """Ten delays, ten requests each: rank 50 of 100 is the fifth delay, rank 91 the tenth."""
    delays = [60.0 * (i + 1) for i in range(10)]
    file = tmp_path / "paths"
    file.write_text("".join(f"/wait?ms={delay}\n" for delay in delays))

    async def wait(request: Request) -> bytes:
        await asyncio.sleep(float(request.query("ms")) / 1000)
        return answer()

    expected = {
        "p50": 300,
        "p90": 540,
        "p95": 600,
        "p99": 600,
        "p999": 600,
        "max": 600,
        "mean": 330,
    }
    for _ in range(3):  # the machine may be busy with others
        report, server = run(load, wait, *reads(str(file), 200, 0.5, 100))
        assert (report["sent"], report["completed"], len(server.requests)) == (100, 100, 100)
        late = {name: report["latency_ms"][name] - delay for name, delay in expected.items()}
        assert min(late.values()) >= -1
        if max(late.values()) <= SLACK_MS:
            break
    assert max(late.values()) <= SLACK_MS, late
    assert report["latency_ms"]["n"] == 100
    assert report["post_ms"]["p50"] is None


def test_a_stall_counts_for_everyone_who_would_have_asked(load: Path, paths: str) -> None:
    """No coordinated omission: one stall of 400 ms at 100 requests/s makes 40 requests late, not one."""
    stalled = False

    async def stall_once(_: Request) -> bytes:
        nonlocal stalled
        if not stalled:
            stalled = True
            await asyncio.sleep(0.4)
        return answer()

    report, _ = run(load, stall_once, *reads(paths, 100, 1, 1))
    latency = report["latency_ms"]
    assert latency["max"] >= 400
    assert latency["p90"] >= 300
    assert latency["p50"] < 100
    assert latency["mean"] >= 80, "40 requests wait 200 ms on average"
    assert report["queued"] >= 39
    assert report["behind_ms_max"] < 200, "waiting for the server is not the generator's lateness"


def test_the_rate_is_kept_and_the_warmup_is_not_counted(load: Path, paths: str) -> None:
    report, server = run(load, at_once, *reads(paths, 200, 0.5, 4, "--warmup", "0.5"))
    assert (report["scheduled"], report["completed"], len(server.requests)) == (100, 100, 200)
    assert report["requests_per_s"] == pytest.approx(200, rel=0.25)
    assert server.arrivals[-1] - server.arrivals[0] >= 0.9
    assert report["cpu_us_per_request"] > 0


def test_poisson_gaps_vary_and_the_seed_repeats_them(load: Path, paths: str) -> None:
    sent = []
    for seed in ("7", "7", "8"):
        report, server = run(load, at_once, *reads(paths, 400, 0.5, 8, "--poisson", "--seed", seed))
        sent.append(report["sent"])
        gaps = [b - a for a, b in zip(server.arrivals, server.arrivals[1:], strict=False)]
        mean = sum(gaps) / len(gaps)
        assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) > (0.7 * mean) ** 2
    assert sent[0] == sent[1] != sent[2]
    assert 150 <= sent[0] <= 250, "200 are expected, with a standard deviation of 14"


def test_closed_loop_sends_when_answered(load: Path, paths: str) -> None:
    async def wait(_: Request) -> bytes:
        await asyncio.sleep(0.02)
        return answer()

    report, server = run(
        load, wait, "closed", "--paths", paths, "--seconds", "0.5", "--connections", "4"
    )
    assert report["rate"] is None
    assert 40 <= report["completed"] <= 4 * 25 + 4
    assert report["latency_ms"]["p50"] >= 19
    assert server.connections == 4


def test_paths_go_round_and_headers_go_along(load: Path, tmp_path: Path) -> None:
    file = tmp_path / "paths"
    file.write_text("/a\r\n\n/b?x=1\n/c")
    _, server = run(
        load, at_once, *reads(str(file), 100, 0.06, 1, "--header", "X-A: 1", "--header", "X-B: 2")
    )
    assert [request.target for request in server.requests] == ["/a", "/b?x=1", "/c"] * 2
    assert all(r.headers["x-a"] == "1" and r.headers["x-b"] == "2" for r in server.requests)
    assert server.requests[0].headers["host"].startswith("127.0.0.1:")


# ---- answers in every form ----


def test_chunked_answers_are_read_in_pieces(load: Path, paths: str) -> None:
    async def pieces(request: Request) -> bytes:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        whole = (
            head
            + b"5\r\nhello\r\n"
            + b"1F40;x=1\r\n"
            + b"y" * 8000
            + b"\r\n0\r\nX-Trailer: 1\r\n\r\n"
        )
        for start, stop in ((0, 9), (9, 52), (52, 60), (60, 5000), (5000, len(whole) - 3)):
            request.writer.write(whole[start:stop])
            await asyncio.sleep(0.002)
        return whole[-3:]

    report, server = run(load, pieces, *reads(paths, 100, 0.3, 4))
    assert report["completed"] == 30
    assert server.connections == 4


def test_an_answer_larger_than_the_first_buffer_is_read(load: Path, paths: str) -> None:
    async def large(_: Request) -> bytes:
        return answer("x" * 300_000)

    report, server = run(load, large, *reads(paths, 50, 0.2, 1))
    assert (report["completed"], server.connections) == (10, 1)


def test_refusals_are_counted_by_class_and_not_timed(load: Path, paths: str) -> None:
    statuses = [200, 429, 503, 404, 302]
    asked = 0

    async def refuse(_: Request) -> bytes:
        nonlocal asked
        asked += 1
        return answer(status=statuses[asked % 5])

    report, server = run(load, refuse, *reads(paths, 200, 0.5, 1))
    assert report["completed"] == report["latency_ms"]["n"] == 20
    assert report["errors"] == {
        "status_4xx": 40,
        "status_5xx": 20,
        "connect": 0,
        "timeout": 0,
        "malformed": 20,
    }
    assert server.connections == 21, "only what breaks the contract costs the connection"


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nno length",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK",
    ],
)
def test_malformed_answers_are_counted(load: Path, paths: str, garbage: bytes) -> None:
    async def speak(_: Request) -> bytes:
        return garbage

    report, _ = run(load, speak, *reads(paths, 50, 0.1, 1))
    assert report["errors"]["malformed"] == 5


def test_a_truncated_answer_is_malformed(load: Path, paths: str) -> None:
    async def truncate(request: Request) -> bytes:
        request.writer.write(answer("x" * 100)[:-10])
        return b""

    report, _ = run(load, truncate, *reads(paths, 50, 0.1, 2))
    assert report["errors"]["malformed"] == 5


# ---- connections that end ----


def test_a_closed_connection_is_opened_again(load: Path, paths: str) -> None:
    async def close_after(request: Request) -> bytes:
        request.writer.write(answer())
        return b""

    async def announce(_: Request) -> bytes:
        return answer(extra="Connection: Close\r\n")

    for handler in (close_after, announce):
        report, server = run(load, handler, *reads(paths, 100, 0.2, 2))
        assert report["completed"] == 20
        assert server.connections >= 20


def test_a_get_is_sent_again_once(load: Path, paths: str) -> None:
    seen = 0

    async def drop_first(_: Request) -> bytes:
        nonlocal seen
        seen += 1
        return answer() if seen > 1 else b""

    report, server = run(load, drop_first, *reads(paths, 100, 0.1, 1))
    assert (report["completed"], report["reopened"], len(server.requests)) == (10, 1, 11)

    async def drop_all(_: Request) -> bytes:
        return b""

    report, server = run(load, drop_all, *reads(paths, 10, 0.3, 1))
    assert (report["errors"]["connect"], len(server.requests)) == (3, 6)


def test_a_post_is_never_sent_again(load: Path, tmp_path: Path) -> None:
    async def drop(_: Request) -> bytes:
        return b""

    report, server = run(load, drop, *events(bodies(tmp_path, "u1"), 10, 0.3, 1))
    assert (report["errors"]["connect"], len(server.requests)) == (3, 3)


def test_silence_times_out(load: Path, paths: str) -> None:
    async def silence(_: Request) -> bytes:
        await asyncio.sleep(3600)
        return b""

    more = ["--timeout-ms", "200", "--warmup", "0.1"]
    report, _ = run(load, silence, *reads(paths, 50, 0.2, 2, *more))
    assert report["errors"]["timeout"] == report["scheduled"] == 10, (
        "also those that were never sent"
    )
    assert report["sent"] < 10


def test_a_server_that_does_not_listen_is_an_error(load: Path, paths: str) -> None:
    arguments = reads(
        paths, 20, 0.2, 2, "--timeout-ms", "300", "--host", "127.0.0.1", "--port", "1"
    )
    done = subprocess.run([load, *arguments], check=True, capture_output=True, timeout=30)
    report = json.loads(done.stdout)
    assert report["errors"]["connect"] == report["scheduled"] == 4
    assert report["latency_ms"]["p50"] is None


# ---- freshness ----


class Log:
    """One partition whose events are applied `lag` seconds after their POST."""

    def __init__(self, lag: float, first_post: float = 0) -> None:
        self.lag, self.first_post = lag, first_post
        self.written: list[float] = []

    async def __call__(self, request: Request) -> bytes:
        return await (self.post() if request.method == "POST" else self.read(request))

    async def post(self) -> bytes:
        if not self.written:
            await asyncio.sleep(self.first_post)
        self.written.append(asyncio.get_running_loop().time())
        return answer(
            {"accepted": 1, "positions": [f"2:{len(self.written)}"], "durable": "broker"}, 202
        )

    async def read(self, request: Request) -> bytes:
        wanted = int(request.query("after").removeprefix("2:"))
        remaining = self.written[wanted - 1] + self.lag - asyncio.get_running_loop().time()
        patience = float(request.query("max_wait_ms")) / 1000
        await asyncio.sleep(max(0.0, min(remaining, patience)))
        done = remaining <= patience
        position = f"2:{wanted if done else wanted - 1}"
        return answer({"items": [], "freshness": {"position": position, "stale": not done}})


def test_freshness_is_the_time_until_a_read_includes_the_event(load: Path, tmp_path: Path) -> None:
    file = bodies(tmp_path, "u1", "ü &1", "u+%41")
    report, server = run(load, Log(0.1), *events(file, 100, 0.6, 20, "--probe-every", "4"))
    assert (report["completed"], report["probes"], report["retries"]) == (60, 15, 0)
    assert report["post_ms"]["n"] == 60
    assert report["freshness_ms"]["n"] == 15
    assert 99 <= report["freshness_ms"]["p50"] <= 100 + SLACK_MS
    assert report["post_ms"]["p50"] < SLACK_MS
    posts = [r for r in server.requests if r.method == "POST"]
    assert all(
        r.target == "/v1/events" and r.headers["content-type"] == "application/json" for r in posts
    )
    gets = [r for r in server.requests if r.method == "GET"]
    assert {r.query("user_id") for r in gets} == {json.loads(r.body)["user_id"] for r in posts}
    assert all("after=2%3A" in r.target and "&max_wait_ms=1000" in r.target for r in gets)


def test_the_timeline_of_a_probe_names_its_position_and_three_times(
    load: Path, tmp_path: Path
) -> None:
    seen = tmp_path / "timeline"
    more = ["--probe-every", "4", "--timeline", str(seen)]
    report, _ = run(load, Log(0.05), *events(bodies(tmp_path, "u1"), 100, 0.2, 20, *more))
    lines = [line.split() for line in seen.read_text().splitlines()]
    assert len(lines) == report["freshness_ms"]["n"] == 5
    assert {position.partition(":")[0] for position, *_ in lines} == {"2"}
    times = [[int(it) for it in rest] for _, *rest in lines]
    assert all(first < taken < fresh for first, taken, fresh in times)
    slowest = max(fresh - first for first, _, fresh in times)
    assert slowest == pytest.approx(report["freshness_ms"]["max"] * 1e6, abs=1e3)


def test_a_probe_asks_again_until_included(load: Path, tmp_path: Path) -> None:
    more = ["--probe-every", "5", "--max-wait-ms", "30"]
    report, _ = run(load, Log(0.2), *events(bodies(tmp_path, "u1"), 50, 0.4, 10, *more))
    assert report["freshness_ms"]["n"] == 4
    assert report["freshness_ms"]["p50"] >= 199
    assert 4 * 4 <= report["retries"] <= 4 * 7, "200 ms are six waits of 30 ms and a last one"


def test_a_probe_gives_up(load: Path, tmp_path: Path) -> None:
    more = ["--probe-every", "5", "--max-wait-ms", "30", "--give-up-ms", "150"]
    report, _ = run(load, Log(3600), *events(bodies(tmp_path, "u1"), 50, 0.2, 4, *more))
    assert (report["completed"], report["probes"], report["errors"]["timeout"]) == (10, 2, 2)
    assert report["freshness_ms"]["n"] == 0


def test_freshness_counts_from_the_first_byte_and_post_from_the_schedule(
    load: Path, tmp_path: Path
) -> None:
    """One connection, a first POST of 400 ms: the probe behind it waits, but was not yet written."""
    log = Log(0.05, first_post=0.4)
    report, _ = run(load, log, *events(bodies(tmp_path, "u1"), 20, 0.1, 1, "--probe-every", "2"))
    assert report["post_ms"]["max"] >= 400
    assert report["post_ms"]["p50"] >= 340
    assert 49 <= report["freshness_ms"]["max"] < 200


@pytest.mark.parametrize(
    ("position", "at", "stale", "fresh"),
    [
        ("2:5", "2:5", True, True),
        ("2:5", "2:40", True, True),
        ("2:5", "2:4", False, False),
        ("2:5", "3:5", False, False),
        ("opaque", "opaque", False, True),
        ("opaque", "opaque", True, False),
        ("2:5", None, False, False),
    ],
)
def test_an_event_counts_as_included_from_its_position_on(
    load: Path, tmp_path: Path, position: str, at: str, stale: bool, fresh: bool
) -> None:
    async def handler(request: Request) -> bytes:
        if request.method == "POST":
            return answer({"positions": [position]}, 202)
        await asyncio.sleep(0.02)
        return answer({"text": '"freshness":{', "freshness": {"position": at, "stale": stale}})

    more = ["--probe-every", "1", "--give-up-ms", "60"]
    report, _ = run(load, handler, *events(bodies(tmp_path, "u1"), 10, 0.1, 1, *more))
    assert report["freshness_ms"]["n"] == (1 if fresh else 0)


def test_a_spooled_event_has_no_position_to_wait_for(load: Path, tmp_path: Path) -> None:
    async def spool(_: Request) -> bytes:
        return answer({"accepted": 1, "positions": [], "durable": "spool"}, 202)

    report, _ = run(load, spool, *events(bodies(tmp_path, "u1"), 50, 0.1, 1, "--probe-every", "5"))
    assert (report["completed"], report["errors"]["malformed"]) == (5, 1)


# ---- arguments ----


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "the first argument is the mode: reads, events or closed."),
        ("writes", "the first argument is the mode: reads, events or closed."),
        ("reads --host h", "the mode 'reads' needs --port."),
        ("reads --host h --port 0", "--port needs a whole number from 1 to 65535."),
        ("reads --host h --port 80.5", "--port needs a whole number from 1 to 65535."),
        ("reads --rate nan", "--rate needs a number from 0.001 to 1000000."),
        ("reads --rate", "--rate needs a value."),
        ("closed --rate 5", "the mode 'closed' has no option '--rate'."),
        ("closed --poisson", "the mode 'closed' has no option '--poisson'."),
        ("reads --header nothing", "--header needs 'Name: value'."),
        ("reads {all} --paths {dir}/none", "cannot read '{dir}/none': No such file or directory."),
        ("reads {all} --paths {dir}/empty", "'{dir}/empty' holds no lines."),
        (
            "reads {all} --paths {dir}/tabs",
            "line 1 of '{dir}/tabs' is not a request target such as /v1/popular.",
        ),
        ("events {all} --bodies {dir}/path", "line 1 of '{dir}/path' is not 'user_id TAB json'."),
        ("events {all} --bodies {dir}/tabs --probe-every 5", "--probe-every needs --probe-path."),
        ("events {all} --bodies {dir}/tabs --timeline t", "--timeline needs --probe-path."),
        (
            "events {all} --bodies {dir}/tabs --probe-path /x",
            "--probe-path needs %s where the user id goes.",
        ),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(
    load: Path, tmp_path: Path, arguments: str, sentence: str
) -> None:
    for name, text in {"empty": "\n", "tabs": "u1\t{}\n", "path": "/v1/popular\n"}.items():
        (tmp_path / name).write_text(text)
    everything = "--host 127.0.0.1 --port 80 --rate 1 --seconds 1 --connections 1"
    line = arguments.replace("{all}", everything).replace("{dir}", str(tmp_path))
    done = subprocess.run(
        [load, *line.split()], capture_output=True, text=True, timeout=10, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"load: {sentence.replace('{dir}', str(tmp_path))}\n"
    assert done.stdout == ""
