"""`freshet config` shows every setting, its value in force and its origin, and no secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from infra.cli.main import cli
from infra.configuration import descriptions, without_password
from infra.settings import VARIABLES, Settings

SECRETS = {
    "FRESHET_TOKEN": "s3cret-of-16-bytes",
    "FRESHET_PSEUDONYM_KEYS": "1:" + "5ec4e7" * 6,
    "REDIS_URL": "redis://me:s3cret@cache:6379/2",
    "FRESHET_LAKE_URL": "s3://AKID:s3cret@bucket/lake?region=eu-central-1",
}


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which nothing runs, and none of our variables."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES.values():
        monkeypatch.delenv(name, raising=False)


def config(*options: str, code: int = 0, environment: Mapping[str, str] | None = None) -> Result:
    done = CliRunner(env=environment).invoke(cli, ["config", *options], prog_name="freshet")
    assert done.exit_code == code, done.output
    return done


def settings_of(**environment: str) -> dict[str, dict[str, Any]]:
    answer = json.loads(config("--json", environment=environment).stdout)
    assert answer["system"] is None
    return {it["name"]: it for it in answer["settings"]}


def test_every_setting_is_described() -> None:
    assert list(settings_of()) == list(Settings.__struct_fields__)
    for name, text in descriptions().items():
        assert text.endswith("."), name
    assert descriptions().keys() == set(Settings.__struct_fields__)


def test_config_says_where_a_value_comes_from(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret-of-16-bytes\n")
    found = settings_of(FRESHET_LAKE_SECONDS="9", FRESHET_TOKEN_FILE=str(tmp_path / "token"))
    chosen = {name: it["source"] for name, it in found.items() if it["source"] != "default"}
    assert chosen == {"lake_seconds": "environment", "token": "file"}
    assert found["lake_seconds"] == {
        "name": "lake_seconds",
        "variable": "FRESHET_LAKE_SECONDS",
        "value": 9.0,
        "source": "environment",
        "unit": "seconds",
        "default": 5.0,
        "description": descriptions()["lake_seconds"],
    }


def test_no_secret_is_shown() -> None:
    found = settings_of(**SECRETS)
    assert found["token"]["value"] == found["pseudonym_keys"]["value"] == "***"
    assert found["redis_url"]["value"] == "redis://me:***@cache:6379/2"
    assert found["lake_url"]["value"] == "s3://AKID:***@bucket/lake?region=eu-central-1"
    assert settings_of()["token"]["value"] == "", "nothing is starred where nothing is given"
    shown = config(environment=SECRETS).stdout + json.dumps(found)
    assert "s3cret" not in shown
    assert "5ec4e7" not in shown
    assert "redis://me:***@cache:6379/2" in shown


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache/0",
        "redis+cluster://one:7000,two:7000",
        "unix:///run/redis.sock?db=1",
        "/srv/lake",
        "",
    ],
)
def test_a_url_without_a_password_is_shown_as_it_is(url: str) -> None:
    assert without_password(url) == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:s3cret@cache:6379/0", "redis://:***@cache:6379/0"),
        ("rediss://me:s3/cr@et@cache", "rediss://me:***@cache"),
        ("redis://cache:1/0?password=s3cr@et&db=1", "redis://cache:1/0?password=***&db=1"),
        ("s3://AKID:s3+c/ret@bucket/lake", "s3://AKID:***@bucket/lake"),
    ],
)
def test_a_password_is_not_shown_even_where_it_should_have_been_quoted(
    url: str, shown: str
) -> None:
    assert without_password(url) == shown


def test_a_misspelt_variable_is_named_below_all_settings() -> None:
    done = config(code=2, environment={"FRESHET_LAKE_SECOND": "9"})
    assert "FRESHET_LAKE_SECONDS" in done.stdout
    assert done.stderr == (
        "freshet: FRESHET_LAKE_SECOND is no setting, did you mean FRESHET_LAKE_SECONDS?"
        " `freshet config` lists all of them\n"
    )


def test_a_value_that_cannot_be_used_is_named() -> None:
    said = config(code=2, environment={"FRESHET_BATCH": "many"}).stderr
    assert said == "freshet: FRESHET_BATCH must be of type int\n"


def test_a_folder_in_which_nothing_runs_is_refused(tmp_path: Path) -> None:
    said = config("--data-dir", str(tmp_path / "s"), code=2).stderr
    assert said.startswith(f"freshet: nothing runs in {tmp_path / 's'}: ")
    assert said.endswith(": omit --data-dir to see this environment's settings\n")
    assert "freshet up" not in said, (
        "one remedy: that of this command, not that of its error's class"
    )
