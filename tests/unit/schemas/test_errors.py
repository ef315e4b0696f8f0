"""Every exception of ours is a sentence for people, or other code catches it."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from collections import Counter

import click
import kafka.errors
import pytest
import redis
from click.testing import CliRunner

from infra.cli.main import Freshet
from infra.terminal.errors import explained
from schemas.errors import ConfigurationError, FreshetError
from serving.decide.person import StoreDown
from tests.unit.test_house import modules

INTERNAL = {
    "flows.people.rows.UnreadableRows": "takes out the partitions whose rows they are",
    "flows.verify.people.BadFence": "a finding of the verification, which goes on",
    "infra.broker.codes.Refused": "answered to the client as a code of Kafka's protocol",
    "infra.broker.handlers.membership.MemberIdRequired": "answered to the client: it joins again with its id",
    "infra.broker.wire.Malformed": "ends one client's connection",
    "infra.client.http.Broken": "its client makes it an ApiError",
    "infra.datasets.find.NotFetched": "the demo goes on with generated films, and says why",
    "infra.supply_chain.advisories.NotChecked": "reported as not checked, with a status of its own",
    "infra.kafka.connection.BrokenConnection": "ends the connection to a broker, as one that is away",
    "models.release.onnx_trees._Foreign": "its model is one that ONNX Runtime has to run",
    "models.kernels.build.NotBuilt": "the installation goes on without a kernel, and says why",
    "schemas.access.limits.Exceeded": "answered to the client as 429",
    "serving.access.access.NoToken": "answered to the client as 401",
    "serving.access.keys.KeysUnavailable": "answered to the client as 503",
    "serving.access.oauth.BadToken": "answered to the client as 401",
    "serving.access.oauth.UnknownKey": "one more BadToken, once the keys were fetched anew",
    "serving.decide.person.StoreDown": "the read goes on without what is stored, and says so",
    "serving.decide.person.Unreadable": "one more StoreDown, which is logged",
    "serving.http.errors.Problem": "answered to the client as application/problem+json",
    "infra.kafka.produce.errors.NotDurable": "answered to the client as 503, or spooled",
    "infra.kafka.produce.errors.RecordRefused": "one more NotDurable",
    "infra.kafka.produce.errors.TimeRefused": "one more NotDurable",
    "infra.kafka.produce.leaders.TopicsDiffer": "the topics are made, or refused with a sentence",
    "serving.state.follow.Gap": "the follower reads its table anew",
}
"""Exception -> the code that catches it. Exceptions for people derive from `FreshetError`."""


def exceptions() -> dict[str, type[BaseException]]:
    """All of the five packages, by module and name."""
    found: dict[str, type[BaseException]] = {}
    for name in modules():
        for it in vars(importlib.import_module(name)).values():
            if isinstance(it, type) and issubclass(it, BaseException) and it.__module__ == name:
                found[f"{name}.{it.__name__}"] = it
    return found


def test_every_exception_is_for_people_or_is_internal_for_a_reason() -> None:
    found = exceptions()
    assert {name for name, it in found.items() if not issubclass(it, FreshetError)} == set(INTERNAL)
    assert {it.exit_code for it in found.values() if issubclass(it, FreshetError)} == {1, 2}


def test_no_package_has_two_exceptions_of_one_name() -> None:
    names = Counter((name.partition(".")[0], name.rpartition(".")[2]) for name in exceptions())
    assert [name for name, count in names.items() if count > 1] == []


def test_the_remedy_of_a_raise_comes_before_that_of_its_class() -> None:
    class Lost(FreshetError):
        remedy = "look for it"

    assert str(Lost("it is lost")) == "it is lost: look for it"
    assert str(Lost("it is lost", remedy="buy another")) == "it is lost: buy another"
    assert str(FreshetError("it is lost")) == "it is lost"


def test_an_error_of_another_process_is_the_same_sentence() -> None:
    error = ConfigurationError("it is lost", remedy="look for it")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.exit_code) == ("it is lost: look for it", 2)


class Failing(Freshet):
    """A command line whose only command ends with `error`."""

    def __init__(self, error: Exception) -> None:
        super().__init__("freshet")
        self.error = error

    def get_command(self, context: click.Context, name: str) -> click.Command:
        def fail() -> None:
            raise self.error

        return click.Command(name, callback=fail)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (FreshetError("it is lost"), 1, "freshet: it is lost\n"),
        (ConfigurationError("it is lost", remedy="look"), 2, "freshet: it is lost: look\n"),
        (redis.ConnectionError("redis://me:secret@cache"), 1, None),
        (kafka.errors.KafkaTimeoutError(), 1, None),
    ],
    ids=lambda it: type(it).__name__ if isinstance(it, Exception) else None,
)
def test_an_error_for_people_is_one_line(error: Exception, status: int, said: str | None) -> None:
    done = CliRunner().invoke(Failing(error), ["fail"])
    assert (done.exit_code, len(done.stderr.splitlines())) == (status, 1)
    assert done.stderr.startswith("freshet: ")
    assert said in (None, done.stderr)
    assert "secret" not in done.stderr


@pytest.mark.parametrize("error", [ValueError("a bug"), StoreDown("a signal"), KeyError("x")])
def test_any_other_error_keeps_its_traceback(error: Exception) -> None:
    assert explained(error) is None
    done = CliRunner().invoke(Failing(error), ["fail"])
    assert done.exception is error
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("import infra.settings as s; s.from_environment({'FRESHET_PORT': '-1'})", 2),
        ("from flows.kit.commit import Torn; raise Torn('partition 0 is torn')", 1),
    ],
)
def test_a_program_without_click_shows_it_alike(command: str, status: int) -> None:
    program = f"from infra.terminal.errors import in_one_line\nwith in_one_line(): {command}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (status, 1)
    assert done.stderr.startswith("freshet: ")
