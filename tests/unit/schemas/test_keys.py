"""Keys of Redis: every name as it was, a namespace in each hash tag, and one module that makes them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from schemas.flows import FOLDS
from schemas.keys import KEYS, PLAIN, Keyspace, Parsed, tag
from tests.unit.test_house import PACKAGES, ROOT, check_golden

WHO = "ab" * 16
GIVEN = {
    **{"partition": 3, "person": WHO, "flow": "people", "bucket": 7},
    **{"request": 16 * "0f", "digest": 16 * "0e"},
}
PATTERNS = {"installation_pattern", "rows_pattern", "partition_pattern"}
KEYSPACES = (Keyspace(), Keyspace("", 2), Keyspace("shop"), Keyspace("shop", 2))
OTHERS = (Keyspace(), Keyspace("shop"), Keyspace("sho"), Keyspace("shop-2"), Keyspace("3"))
WITHOUT_GENERATIONS = {
    *(
        "accepted",
        "cold_asked",
        "items",
        "item_changes",
        "item_tallies",
        "control_state",
        "control_changes",
    ),
    *("live", "generations", "rebuilding", "followed", "idempotency", "limit", "shed"),
}

# What a key may not be made of, or cut at, beyond schemas/keys.py. Two heads of records, which are no keys.
KINDS = "|".join(sorted({key.prefix.decode() for key in KEYS}))
BUILT = re.compile(rf"(^|[^\w{{])({KINDS}):\{{|^({KINDS}):\*?$|:\{{%|^\}}:?$|^:?\{{$")
CUT = {b":", b":{", b"{", b"}", b"}:"}
NOT_KEYS = {
    "flows/rollup/tables.py": "the head of the stored base",
    "infra/apps/bench/writes/batches.py": "the labels of a metric",
    "infra/client/http.py": "a header of HTTP",
    "infra/frames.py": "the ends of a JSON object",
    "infra/datasets/sources.py": "the ends of a JSON object",
    "infra/datasets/layouts/shapes.py": "the beginning of a JSON object",
    "serving/http/forms.py": "the beginning of a JSON object",
}


def made(keyspace: Keyspace) -> Iterator[tuple[str, bytes]]:
    """Every key that a keyspace makes of `GIVEN`, by the name of the method."""
    for name, method in inspect.getmembers(keyspace, inspect.ismethod):
        signature = inspect.signature(method)
        wanted, answers = signature.parameters, signature.return_annotation
        if not wanted.keys() <= GIVEN.keys() or answers not in (
            "bytes",
            "list[bytes]",
            "TablesKeys",
        ):
            continue
        keys: Any = method(**{it: GIVEN[it] for it in wanted})
        for key in [keys] if isinstance(keys, bytes) else keys:
            yield name, key


def test_all_keys_are_listed_with_and_without_a_namespace() -> None:
    """UPDATE_GOLDEN=1 adds a key that is new. A line that changes is data that nothing finds again."""
    columns = [list(made(keyspace)) for keyspace in KEYSPACES]
    lines = [
        " ".join([row[0][0], *(key.decode() for _, key in row)])
        for row in zip(*columns, strict=True)
    ]
    check_golden("keys.txt", "\n".join(lines))


@pytest.mark.parametrize("keyspace", KEYSPACES, ids=str)
def test_a_key_is_taken_apart_by_its_own_namespace_alone(keyspace: Keyspace) -> None:
    for name, key in made(keyspace):
        if name in PATTERNS:
            continue
        parsed = keyspace.parse(key)
        assert parsed is not None, key
        generation = 0 if name in WITHOUT_GENERATIONS else keyspace.generation
        assert parsed.generation == generation
        colon = b":" if parsed.rest else b""
        home = tag(keyspace.namespace, generation, parsed.home.decode())
        assert b"%b:{%b}%b%b" % (parsed.kind, home, colon, parsed.rest) == key
        assert [it for it in OTHERS if it.parse(key)] == [Keyspace(keyspace.namespace)]


@pytest.mark.parametrize("keyspace", KEYSPACES, ids=str)
def test_every_key_is_described_and_every_description_has_a_key(keyspace: Keyspace) -> None:
    names = {key.decode() for name, key in made(keyspace) if name not in PATTERNS}
    fences = (*(flow.name for flow in FOLDS), "lake-events")
    names |= {keyspace.fence(flow, 0).decode() for flow in fences}
    patterns = [keyspace.pattern(key) for key in KEYS]
    assert [it for it in names if not any(fnmatchcase(it, pattern) for pattern in patterns)] == []
    assert [it for it in patterns if not any(fnmatchcase(name, it) for name in names)] == []


def test_a_partition_lies_in_one_slot_and_a_namespace_moves_it() -> None:
    for keyspace in KEYSPACES:
        slots = {key_slot(key) for name, key in made(keyspace) if b"{%b}" % HOME[keyspace] in key}
        assert len(slots) == 1
    assert len({key_slot(keyspace.row(3, WHO)) for keyspace in KEYSPACES}) == len(KEYSPACES)


HOME = {keyspace: tag(keyspace.namespace, keyspace.generation, 3) for keyspace in KEYSPACES}


def test_a_key_of_a_snapshot_is_renamed_for_where_it_goes() -> None:
    for one, other in ((PLAIN, Keyspace("shop", 2)), (PLAIN, PLAIN)):
        for name in ("row", "seen", "open_slates", "link", "tombstone"):
            key = getattr(one, name)(3, WHO)
            assert other.renamed(key) == getattr(other, name)(3, WHO)
        assert other.renamed(one.dedupe(3, 7)) == other.dedupe(3, 7)
    for foreign in (Keyspace("", 2), Keyspace("shop")):
        with pytest.raises(ValueError, match="another tag"):
            Keyspace("else").renamed(foreign.row(3, WHO))


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"u",
        b"u:{",
        b"u:{}:ab",
        b"u:{3.x}:ab",
        b"u:{3.}:ab",
        b"u:{/3}:ab",
        b"x:{3}:ab",
        b"u:3:ab",
    ],
)
def test_a_key_of_another_program_is_no_key_of_ours(name: bytes) -> None:
    assert [it.parse(name) for it in OTHERS] == [None] * len(OTHERS)


def test_the_generation_of_a_key_is_that_of_its_own_namespace() -> None:
    shop = Keyspace("shop", 2)
    assert shop.generation_of(shop.row(3, WHO)) == 2
    assert shop.generation_of(shop.torn("people", 3)) == 2
    assert shop.generation_of(shop.tables().meta) == 2
    assert [
        shop.generation_of(it) for it in (shop.items(3), shop.live(), shop.fence("lake-x", 3))
    ] == [None] * 3
    assert PLAIN.generation_of(shop.row(3, WHO)) is None
    assert shop.parse(shop.row(3, WHO)) == Parsed(b"u", b"3", 2, WHO.encode())


def test_no_other_module_makes_a_key_or_cuts_one() -> None:
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name != "schemas/keys.py":
                found += [
                    f"{name}:{line}: {what}" for line, what in by_hand(path, name in NOT_KEYS)
                ]
    assert found == [], "keys are made and taken apart by schemas.keys.Keyspace"


def by_hand(path: Path, may_cut: bool) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text())
    prose = {id(it.value) for it in ast.walk(tree) if isinstance(it, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in prose:
            value = (
                node.value.decode(errors="replace") if isinstance(node.value, bytes) else node.value
            )
            if (
                isinstance(value, str)
                and BUILT.search(value)
                and (is_bytes(node) or "{" in value)
                and not (may_cut and value in "{}")
            ):
                yield node.lineno, f"a literal of a key: {value[:40]!r}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not may_cut:
            cuts = node.func.attr in ("partition", "rpartition", "split", "rsplit", "index", "find")
            if (
                cuts
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and node.args[0].value in CUT
            ):
                yield node.lineno, f"a key is cut: .{node.func.attr}({node.args[0].value!r})"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            sides = (node.left, node.right)
            if any(map(is_bytes, sides)) and any(isinstance(it, ast.Subscript) for it in sides):
                yield node.lineno, "the first letter of a key is swapped"


def is_bytes(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bytes)


@pytest.mark.parametrize(
    "code",
    [
        'key = b"u:{%d}" % p',
        'key = f"u:{{{p}}}:{who}"',
        'names = client.scan_iter(match="im:{*}:*")',
        'names = client.scan_iter(match=b"u:*")',
        'key.startswith(b"u:")',
        'key = b"v" + name[1:]',
        'who = key.rpartition(b":")[2]',
        'mine = b"*:{%b}:*" % home',
    ],
)
def test_a_key_that_is_made_by_hand_is_found(code: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(f'"""Of ``u:{{3}}:ab``."""\n{code}\n')
    assert [line for line, _ in by_hand(tmp_path / "module.py", False)] == [2]
