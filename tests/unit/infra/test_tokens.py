"""Tokens that an installation makes: the file in the data folder, `freshet token`, and who finds which."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from click.testing import CliRunner, Result

from infra import tokens
from infra.cli.main import cli
from infra.client.token import found
from infra.local.find import RunningSystem
from infra.settings import Settings, from_environment
from schemas.access.scopes import BROWSER, SCOPES

SHARED = "s3cret-of-16-bytes"
SENT = "eyJ0eXAiOiJhdCtqd3QifQ.e30.x"
SHOP = "https://shop.example"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


def claims(token: str) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return decoded


def made_old(settings: Settings) -> str:
    """The token of the data folder, 16 days old."""
    token, path = tokens.write(settings), settings.data_dir / tokens.TOKEN_FILE
    then = path.stat().st_mtime - 16 * 86_400
    os.utime(path, (then, then))
    return token


def test_the_file_is_for_its_owner_and_holds_every_scope(settings: Settings) -> None:
    token, path = tokens.write(settings), settings.data_dir / tokens.TOKEN_FILE
    assert path.read_text() == f"{token}\n"
    assert {it.name for it in settings.data_dir.iterdir()} == {tokens.FILE, tokens.TOKEN_FILE}
    for name in (tokens.FILE, tokens.TOKEN_FILE):
        assert stat.S_IMODE((settings.data_dir / name).stat().st_mode) == 0o600
    assert set(claims(token)["scope"].split()) == set(SCOPES)
    assert claims(token)["exp"] - claims(token)["iat"] == tokens.KEPT_DAYS * 86_400


def test_a_running_system_keeps_its_token_young(settings: Settings) -> None:
    now, reports, old = [0.0], list[str](), made_old(settings)
    keeper = tokens.Keeper(settings, reports.append, clock=lambda: now[0])
    path = settings.data_dir / tokens.TOKEN_FILE

    def after(seconds: float) -> str:
        now[0] += seconds
        keeper.tick()
        return path.read_text().strip()

    first = after(0)
    assert first != old, "it may be of another key"
    assert after(tokens.LOOK_SECONDS) == first, "it is young"
    second = made_old(settings)
    assert after(tokens.LOOK_SECONDS / 2) == second, "it looks once an hour"
    third = after(tokens.LOOK_SECONDS / 2)
    assert third not in (first, second)
    path.unlink()
    assert after(tokens.LOOK_SECONDS) not in (first, second, third)
    path.unlink()
    path.mkdir()  # what cannot be replaced is told, and ends nothing
    os.utime(path, (0, 0))
    now[0] += tokens.LOOK_SECONDS
    keeper.tick()
    assert reports == [f"{path} cannot be written: Is a directory"]


@pytest.mark.parametrize("other", [{"auth": "off"}, {"issuer": "https://id.example", "jwks": "k"}])
def test_no_token_is_made_where_none_would_be_taken(settings: Settings, other: Any) -> None:
    keeper = tokens.Keeper(msgspec.structs.replace(settings, **other), pytest.fail)
    keeper.tick()
    assert list(settings.data_dir.iterdir()) == []


def test_a_command_sends_what_the_system_takes(settings: Settings) -> None:
    def held(**other: Any) -> str:
        return tokens.held(msgspec.structs.replace(settings, **other))

    assert held() == "", "no key, no token"
    assert held(token=SENT) == SENT
    old = made_old(settings)
    kept = held(token=SENT)
    assert kept not in (old, SENT)
    assert held() == kept == (settings.data_dir / tokens.TOKEN_FILE).read_text().strip()
    assert held(token=SHARED) == SHARED
    assert held(auth="off", token=SENT) == ""
    elsewhere = {"issuer": "https://id.example", "jwks": "keys.json"}
    assert (held(**elsewhere), held(**elsewhere, token=SENT)) == ("", SENT)
    # a system that the environment names has the environment's token
    named = msgspec.structs.replace(settings, token=SENT)
    assert RunningSystem(named, "http://shop.example", None).token == SENT
    assert RunningSystem(settings, "http://shop.example", None).token == kept


def test_a_program_finds_the_token_of_its_environment_or_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-the-folder\n")
    (secret := tmp_path / "secret").write_text(f"{SHARED}\n")
    here, there, folder = (
        "http://localhost:8080",
        "https://api.example",
        {"FRESHET_DATA_DIR": str(tmp_path)},
    )
    given = {"FRESHET_TOKEN": f" {SENT}\n", **folder}
    file = {"FRESHET_TOKEN_FILE": str(secret), **folder}
    assert [found(url, given) for url in (here, there)] == [SENT, SENT]
    assert [found(url, file) for url in (here, there)] == [SHARED, SHARED]
    assert [found(url, folder) for url in (here, there)] == ["of-the-folder", ""]
    assert found(here, {"FRESHET_DATA_DIR": str(tmp_path / "none")}) == ""
    with pytest.raises(FileNotFoundError):
        found(there, {"FRESHET_TOKEN_FILE": str(tmp_path / "none")})


def freshet_token(folder: Path, *options: str, **environment: str) -> Result:
    bare = dict.fromkeys(it for it in os.environ if it.startswith("FRESHET_"))
    command = ["token", *options, "--data-dir", str(folder)]
    return CliRunner(env={**bare, **environment}).invoke(cli, command, prog_name="freshet")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {"scope": set(SCOPES), "sub": "home", "minutes": 60}),
        (("--scope", "ops", "--scope", "exp:read"), {"scope": {"ops", "exp:read"}, "sub": "home"}),
        (("--subject", " ann", "--minutes", "5"), {"scope": set(BROWSER), "sub": "ann", "minutes": 5}),
        (("--subject", "ann", "--scope", "rec:read"), {"scope": {"rec:read"}, "sub": "ann"}),
        (
            ("--browser", "--anonymous-id", "a1", "--origin", SHOP),
            {"scope": set(BROWSER), "anonymous_id": "a1", "origin": SHOP},
        ),
    ],
)  # fmt: skip
def test_freshet_token_prints_a_token_alone(
    settings: Settings, options: tuple[str, ...], expected: dict[str, Any]
) -> None:
    tokens.public_keys(settings)  # as a system that was up
    done = freshet_token(settings.data_dir, *options)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    made = claims(done.stdout.strip())
    made |= {"scope": set(made["scope"].split()), "minutes": (made["exp"] - made["iat"]) / 60}
    assert {name: made[name] for name in expected} == expected
    assert made["iss"] == tokens.HOME


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--scope rec:write", "rec:write is no scope: --scope takes rec:read, rec:read:any,"),
        ("--minutes 0", "--minutes"),
        ("--minutes nan", "--minutes"),
        ("--minutes 0.5", "--minutes"),
        ("--subject null", "--subject takes the id of a person (not_an_id)"),
        ("--subject a\n", "--subject takes the id of a person (control_character)"),
        ("--origin https://shop.example", "--browser, --anonymous-id and --origin go together"),
        ("--browser --anonymous-id a1", "--browser, --anonymous-id and --origin go together"),
        ("--browser --anonymous-id a1 --origin null", "--browser takes an --origin such as"),
        ("--browser --anonymous-id a1 --origin https://a.b --minutes 61", "at most 60 --minutes"),
        ("--browser --anonymous-id a1 --origin https://a.b --scope ops", "--browser takes the scopes"),
    ],
)  # fmt: skip
def test_what_no_token_may_say_is_a_usage_error(
    settings: Settings, options: str, sentence: str
) -> None:
    tokens.public_keys(settings)
    done = freshet_token(settings.data_dir, *options.split(" "))
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr


def test_a_folder_without_a_key_gets_none(tmp_path: Path) -> None:
    done = freshet_token(tmp_path / "misspelt")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "holds no key of tokens: name the folder of a system that was up" in done.stderr
    assert not (tmp_path / "misspelt").exists()


def test_with_another_issuer_there_are_tokens_of_pages_alone(settings: Settings) -> None:
    issuer = {"FRESHET_ISSUER": "https://id.example", "FRESHET_JWKS": "keys.json"}
    tokens.public_keys(settings)
    refused = freshet_token(settings.data_dir, **issuer)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "https://id.example makes the tokens here" in refused.stderr
    page = ("--browser", "--anonymous-id", "a1", "--origin", SHOP)
    assert freshet_token(settings.data_dir, *page, **issuer).exit_code == 0


def test_one_token_of_a_file_or_a_variable_is_stripped(tmp_path: Path) -> None:
    (file := tmp_path / "token").write_text(f" {SHARED} \r\n")
    assert from_environment({"FRESHET_TOKEN_FILE": str(file)}).token == SHARED
    assert from_environment({"FRESHET_TOKEN": f"\t{SHARED} "}).token == SHARED
