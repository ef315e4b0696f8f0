"""The kernel finds a key that is there twice where the definition does, and reads no byte beyond the text."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.kernels.loading import kernel, missing
from models.kernels.repeated_keys import ANY_DEPTH, repeated_key, repeated_key_by_python

ONCE, REPEATED, UNSURE = 0, 1, 2
pytestmark = pytest.mark.skipif(kernel is None, reason=missing)


def found(text: bytes, deepest: int = ANY_DEPTH) -> int:
    assert kernel is not None
    answer: int = kernel.lib.json_repeated_key(text, len(text), deepest)
    return answer


WORDS = (
    'a \\u0061 b é \\u00e9 \\u00E9 \\ud83d\\ude00 😀 \\ud83d \\n \\/ / \\" \\\\ aaaaaaaa aaaaaaab'
)
LETTERS = st.sampled_from(WORDS.split())
KEYS = st.lists(LETTERS, max_size=3).map("".join)
BLANKS = st.sampled_from(["", " ", "\n\t\r "])


def of_fields(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    field = st.tuples(KEYS, BLANKS, BLANKS, values).map(lambda it: '"{}"{}:{}{}'.format(*it))
    return st.lists(field, max_size=4).map(lambda it: "{" + ",".join(it) + "}")


JSON = st.recursive(
    KEYS.map('"{}"'.format) | st.sampled_from(["1", "-2.5e3", "true", "null", "[]", "{}", '"{"']),
    lambda inner: (
        of_fields(inner) | st.lists(inner, max_size=3).map(lambda it: f"[{','.join(it)}]")
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(JSON, st.sampled_from([0, 1, 2, ANY_DEPTH]))
@example('{"a":1,"b":{"a":{}},"\\u0061":2}', ANY_DEPTH)
def test_the_kernel_finds_what_the_definition_finds(text: str, deepest: int) -> None:
    content = text.encode(errors="surrogatepass")
    json.loads(text)  # else the definition says nothing
    path = repeated_key_by_python(content, deepest)
    assert found(content, deepest) == (ONCE if path is None else REPEATED)
    assert repeated_key(content, deepest) == path


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=40) | st.text('{}[]":,\\u0061', max_size=60).map(str.encode))
@example(b'{"\\')
@example(b'{"\\u00":1}')
@example(b'{"\\x":1}')
@example(b"}}}")
def test_any_bytes_may_be_given(text: bytes) -> None:
    assert found(text) in (ONCE, REPEATED, UNSURE)
    repeated_key(text)


def test_what_is_beyond_the_kernel_the_definition_finds() -> None:
    many = ",".join(f'"k{n}":0' for n in range(300))
    deep = '{"a":' * 300 + '{"b":0,"b":0}' + "}" * 300
    long = "\\u0061" + "a" * 300
    for text, path in (
        (f"{{{many}}}", None),
        (f'{{{many},"k0":0}}', "k0"),
        (deep, ".".join("a" * 8)),
        (f'{{"{long}":0}}', None),
        (f'{{"a{"a" * 300}":0,"{long}":0}}', 64 * "a"),
    ):
        assert found(text.encode()) == UNSURE
        assert repeated_key(text.encode()) == path


def test_a_path_has_no_letters_of_its_own() -> None:
    text = b'[{"a b\\n":[0,{"":0,"\\u00e9<":{"x":1,"x":2}}]}]'
    assert repeated_key(text) == "[0].a?b?[1].é?.x"
    assert repeated_key(b"\xff{}") is None
