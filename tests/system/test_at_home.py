"""The lines that `freshet up` prints and README's first ones work as they stand, by copy into a shell."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import tokens
from infra.local.plan import ROOT
from infra.local.system import System, running
from tests.support.waits import until

pytestmark = [
    pytest.mark.check,
    pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system as a new user starts it: it asks for tokens, its own."""
    with running(
        tmp_path_factory.mktemp("home") / "data", environment={"FRESHET_AUTH": "on"}
    ) as up:
        yield up


def printed(home: System) -> list[str]:
    """What `freshet up` says to copy."""
    until(lambda: "Ctrl-C stops it" in home.logs("up"))
    lines = [line.strip() for line in home.logs("up").splitlines()]
    return [line for line in lines if line.startswith(("export ", "curl "))]


def shell(*lines: str) -> str:
    """What a shell prints that runs these lines, as a new user has it: without a setting."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FRESHET_", "KAFKA_", "REDIS_"))
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", "\n".join(lines)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_printed_lines_work_by_copy(home: System) -> None:
    export, post, read = printed(home)
    event, row = shell(export, f"{post} -sS; echo", f"{read} -sS").splitlines()
    assert json.loads(event)["accepted"] == 1
    assert json.loads(row)["user_id"] == "u1"


def test_a_token_stands_alone_on_stdout(home: System) -> None:
    folder = f"--data-dir {home.directory}"
    made = shell(f"freshet token --scope rec:read --subject u1 --minutes 5 {folder}")
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", made)
    read = f'curl -sS -w "%{{http_code}}" -o /dev/null -H "Authorization: Bearer {made.strip()}"'
    for user, status in (("u1", "200"), ("u2", "403")):
        assert shell(f"{read} '{home.url}/v1/recommendations?user_id={user}'") == status


def test_the_token_is_for_its_owner_alone_and_found_by_every_command(home: System) -> None:
    file = home.directory / tokens.TOKEN_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "lag" in shell(f"freshet status --data-dir {home.directory}").lower()


def test_without_a_token_nothing_is_answered_but_how_to_get_one(home: System) -> None:
    head = shell(f"curl -sS -D - -o /dev/null '{home.url}/v1/recommendations?user_id=u1'")
    assert " 401 " in head.splitlines()[0]
    assert "/.well-known/oauth-protected-resource" in head


def test_the_first_lines_of_the_readme_work(home: System) -> None:
    readme = (ROOT / "README.md").read_text().splitlines()
    begin = next(number for number, line in enumerate(readme) if line.startswith("auth="))
    lines = [line for line in readme[begin : readme.index("```", begin)]
             if line.startswith(("auth=", "curl "))]  # fmt: skip
    assert len(lines) == 4
    script = "\n".join(lines).replace("&after=<the position that POST answered>", "")
    script = script.replace("freshet token", f"freshet token --data-dir {home.directory}")
    script = script.replace(".venv/bin/freshet", "freshet").replace("curl ", "curl -fsS ")
    script = script.replace("localhost:8080", home.url.removeprefix("http://"))
    assert '"user_id":"ann"' in shell(script)
