"""The client's answers have the names and types that serving declares."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from msgspec.inspect import CollectionType, DictType, StructType, Type, UnionType, type_info

from infra.client import answers, errors
from serving.http.errors import ProblemBody
from serving.http.forms import Rejection
from serving.read import answer
from serving.routes import accepted, experiments, people, status

DECLARED = (
    (answers.Answer, answer.Answer),
    (answers.Item, answer.ItemOut),
    (answers.Reason, answer.ReasonOut),
    (answers.Freshness, answer.Freshness),
    (answers.ServedBy, answer.ServedBy),
    (answers.Assigned, answer.AssignedOut),
    (answers.Rejection, Rejection),
    (answers.Accepted, accepted.Accepted),
    (answers.Written, accepted.Written),
    (answers.LinkAnswer, people.LinkAnswer),
    (answers.ExperimentHeld, experiments.ExperimentOut),
    (answers.ExperimentMetrics, experiments.ExperimentMetrics),
    (answers.Status, status.Status),
    (answers.FlowPosition, status.FlowPosition),
    (errors.Problem, ProblemBody),
)


@pytest.mark.parametrize(("ours", "theirs"), DECLARED, ids=lambda it: it.__name__)
def test_each_field_is_one_that_serving_declares(ours: type, theirs: type) -> None:
    assert list(differences(type_info(ours), type_info(theirs), ours.__name__)) == []


def test_every_answer_is_compared() -> None:
    """But an item, which a route puts together: `tests/integration/edge/test_client.py` reads one."""
    ours = {
        it for it in vars(answers).values() if getattr(it, "__module__", "") == answers.__name__
    }
    assert ours - {it for it, _ in DECLARED} == {answers.CatalogueItem}


def test_a_difference_is_found() -> None:
    class Theirs(msgspec.Struct):
        a: int
        b: str | None
        c: str | msgspec.UnsetType = msgspec.UNSET
        d: tuple[int, ...] = ()

    class Ours(msgspec.Struct):
        a: str
        b: str
        c: str
        d: tuple[str, ...]
        e: int = 0

    found = list(differences(type_info(Ours), type_info(Theirs), "Ours"))
    assert found == ["Ours.a", "Ours.b", "Ours.c", "Ours.d", "Ours.e"]


def differences(ours: Type, theirs: Type, path: str) -> Iterator[str]:
    """Paths at which `theirs` may hold a value that `ours` cannot read."""
    if isinstance(ours, StructType) and isinstance(theirs, StructType):
        by_name = {field.encode_name: field for field in theirs.fields}
        for field in ours.fields:
            name = f"{path}.{field.encode_name}"
            found = by_name.get(field.encode_name)
            if found is None or (field.required and may_lack(theirs, field.encode_name)):
                yield name
            else:
                yield from differences(field.type, found.type, name)
    elif isinstance(ours, UnionType) and isinstance(theirs, UnionType):
        if len(ours.types) != len(theirs.types):
            yield path
        for mine, other in zip(ours.types, theirs.types, strict=False):
            yield from differences(mine, other, path)
    elif isinstance(ours, CollectionType) and isinstance(theirs, CollectionType):
        yield from differences(ours.item_type, theirs.item_type, path)
    elif isinstance(ours, DictType) and isinstance(theirs, DictType):
        yield from differences(ours.key_type, theirs.key_type, path)
        yield from differences(ours.value_type, theirs.value_type, path)
    elif ours != theirs:
        yield path


def may_lack(kind: StructType, name: str) -> bool:
    """Whether serving may leave the field out: where it is unset, not where it has its default."""
    field = next(it for it in msgspec.structs.fields(kind.cls) if it.encode_name == name)
    return field.default is msgspec.UNSET or bool(kind.cls.__struct_config__.omit_defaults)
