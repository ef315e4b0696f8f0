"""Requests made of `/openapi.json` by schemathesis, and what is wrong in their answers."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis import config as configs
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.transport import Response
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from schemathesis.generation.modes import GenerationMode
from schemathesis.hooks import HookContext
from schemathesis.openapi.checks import RejectedPositiveData

from serving.http.media import NDJSON

SEED: Final = 21
BY_STATE: Final = frozenset(
    {
        "idempotency_key_reused",
        "missing_release",
        "not_own",
        "overlapping_experiment",
        "unknown_filter",
        "unknown_placement",
        "wrong_partition",
    }
)
"""Codes of a 422 that depend on what the server holds, or on who asks: no schema has them."""
BETWEEN: Final = re.compile(
    r"(user_id required|anonymous_id conflicts_with_user_id"  # of a query, which has no alternatives
    r"|value out_of_scale|scale\.(max|middle) out_of_range"
    r"|item_id mismatch|occurred_at (required|in_the_future)"  # of a path and its body, and of mode=import
    r"|origin unknown_value"  # one of FRESHET_ORIGINS
    r"|recipe\.weights empty"  # null is not said
    r"|experiment\.variants\[\d+\]\.(name repeated|share out_of_range)"
    r"|requests too_many|version unknown_value)"
)
"""Refusals, as field and code, of a field beside another one."""


_NUMBERS: Final = count()


def _times() -> st.SearchStrategy[str]:
    within = st.datetimes(datetime(1990, 1, 2), datetime(2099, 12, 30), timezones=st.just(UTC))
    return within.map(datetime.isoformat)


def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Gives each request a key of its own: a key stands for one body."""
    negative = case.meta is not None and case.meta.is_negative_at(ParameterLocation.HEADER)
    if case.headers and "Idempotency-Key" in case.headers and not negative:
        case.headers["Idempotency-Key"] = f"key-{next(_NUMBERS)}"
    if case.meta is not None and not case.meta.is_negative_at(ParameterLocation.BODY):
        case.body = _without_points(case.body)


def _without_points(value: Any) -> Any:
    """16 for 16.0, which is a whole number for JSON Schema alone, as the description says."""
    if isinstance(value, dict):
        return {name: _without_points(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_points(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _registered() -> None:
    schemathesis.hook(before_call)
    schemathesis.openapi.format("date-time", _times())
    schemathesis.openapi.format("date", _times().map(lambda text: text[:10]))


def config(examples: int) -> configs.SchemathesisConfig:
    """The same requests in every run. `examples`: of each operation, mode and phase."""
    project = configs.ProjectConfig(
        generation=configs.GenerationConfig(
            modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE],
            max_examples=examples,
            deterministic=True,
            no_shrink=True,
            database="none",
        ),
        phases=configs.PhasesConfig(
            stateful=configs.StatefulPhaseConfig(enabled=False),
            # other methods have a test of their own (tests/integration/edge/test_requests.py)
            coverage=configs.CoveragePhaseConfig(unexpected_methods=set()),
        ),
        # so have tokens, and it sends two requests more each time (tests/integration/edge/test_grants.py)
        checks=configs.ChecksConfig(ignored_auth=configs.SimpleCheckConfig(enabled=False)),
        continue_on_failure=True,
    )
    return configs.SchemathesisConfig(seed=SEED, projects=configs.ProjectsConfig(default=project))


def faults(url: str, token: str, examples: int = 10) -> Iterator[str]:
    """A line for each answer of a server that differs from its description. `examples`: see `config`."""
    _registered()
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=10) as answer:
        document = json.load(answer)
    for operation in (it for path in document["paths"].values() for it in path.values()):
        for name in NDJSON:  # of lines there are tests of their own
            operation.get("requestBody", {"content": {}})["content"].pop(name, None)
    schema = schemathesis.openapi.from_dict(document, config=config(examples))
    schema.config.update(base_url=url, headers={"Authorization": f"Bearer {token}"})
    for event in from_schema(schema).execute():
        if isinstance(event, NonFatalError | FatalError):
            fault = event.value if isinstance(event, NonFatalError) else event.exception
            yield f"{type(fault).__name__}: {fault}"
        if isinstance(event, ScenarioFinished):
            yield from _of(event)


def _of(event: ScenarioFinished) -> Iterator[str]:
    recorder = event.recorder
    for case_id, interaction in recorder.interactions.items():
        case, response = recorder.cases[case_id].value, interaction.response
        if response is None:
            yield f"{recorder.label}: no answer to {case.as_curl_command()}"
            continue
        found = [
            check.failure_info.failure
            for check in recorder.checks.get(case_id, ())
            if check.failure_info is not None
        ]
        positive = case.meta is None or case.meta.generation.mode is GenerationMode.POSITIVE
        refused = _refused(response)
        for failure in found:
            if (
                isinstance(failure, RejectedPositiveData)
                and refused
                and not list(_unfounded(refused))
            ):
                continue
            taken = response.status_code < 400 and not refused
            if isinstance(failure, AcceptedNegativeData) and not (taken and not _is_empty(case)):
                continue
            yield _line(recorder.label, f"{failure.title}: {failure.message}", case, response)
        if positive and response.status_code == 202 and (wrong := list(_unfounded(refused))):
            yield _line(
                recorder.label, f"an entry that it takes is refused: {wrong}", case, response
            )


def _refused(response: Response) -> list[str]:
    """The refusals of an answer, of a whole request or of entries of a batch, as field and code."""
    if response.status_code not in (202, 422):
        return []
    answer = json.loads(response.content)
    named = answer.get("errors" if response.status_code == 422 else "rejected", [])
    return [f"{each['field']} {each['code']}" for each in named]


def _unfounded(refused: list[str]) -> Iterator[str]:
    """Those that the schema should have."""
    for each in refused:
        code = each.rpartition(" ")[2]
        if code not in BY_STATE and not BETWEEN.search(each):
            yield each


def _is_empty(case: Case[Any]) -> bool:
    """Whether a parameter is empty, that is, not said."""
    return "" in (case.query or {}).values()


def _line(label: str, what: str, case: Case[Any], response: Response) -> str:
    sent = case.as_curl_command()[:900]
    return f"{label}: {what}\n  {sent}\n  {response.status_code} {response.content[:400]!r}"
