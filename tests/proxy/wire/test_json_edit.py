"""The laws of byte-exact edits: the document says what was asked, and no other byte moved."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.json_edit import DuplicateMember, edit, locate, locate_known, scan

NAMES = ["model", "n", "stream_options", "max_tokens", "é", 'a"b', "back\\slash", "{", "", "tab\t"]
TEXT = st.text(max_size=8) | st.sampled_from(
    ['"model"', '{"model":1}', "model", ",", ":", "}]", "\\", '\\"', "\\u0041", "data: x\n\n"]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | TEXT, inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(NAMES) | TEXT, VALUES, max_size=6)


@st.composite
def spelled(draw: st.DrawFn, value: Any) -> str:
    """One of the many spellings of a JSON value: spaces anywhere, any character escaped."""
    space = draw(st.sampled_from(["", "", "", " ", "\n", " \r\n\t"]))

    def string(text: str) -> str:
        style = draw(st.integers(0, 3))
        if style == 0:
            return json.dumps(text, ensure_ascii=False)
        if style == 1:
            return json.dumps(text)
        units = text.encode("utf-16-be", "surrogatepass")
        codes = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
        return '"' + "".join(f"\\u{code.upper() if style == 2 else code}" for code in codes) + '"'

    def spell(value: Any) -> str:
        if isinstance(value, str):
            return string(value)
        if isinstance(value, list):
            inner = f"{space},{space}".join(spell(item) for item in value)
            return f"[{space}{inner}{space}]"
        if isinstance(value, dict):
            inner = f"{space},".join(
                f"{space}{string(name)}{space}:{space}{spell(item)}" for name, item in value.items()
            )
            return f"{{{inner}{space}}}"
        return json.dumps(value)

    return space + spell(value) + space


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@given(st.data(), OBJECTS)
def test_a_scan_finds_every_member_and_its_value(
    data: st.DataObject, document: dict[str, Any]
) -> None:
    """Each member is found, in order, with the exact bytes of its value."""
    body = encoded(data.draw(spelled(document)))
    members = scan(body)
    assert [member.name for member in members] == list(document)
    for member in members:
        assert body[member.key : member.key + 1] == b'"'
        assert json.loads(body[member.start : member.end]) == document[member.name]
        assert body[member.start : member.end].strip() == body[member.start : member.end]


@given(st.data(), OBJECTS, st.sampled_from(NAMES))
def test_locate_finds_the_top_level_member_only(
    data: st.DataObject, document: dict[str, Any], name: str
) -> None:
    """A member of the same name deeper down, or its name in a string, is never taken for it."""
    body = encoded(data.draw(spelled(document)))
    span = locate(body, name)
    assert (span is not None) == (name in document)
    if span is not None:
        assert json.loads(body[slice(*span)]) == document[name]
        assert locate_known(body, name) == span


@given(st.data(), OBJECTS, st.lists(st.sampled_from(NAMES), unique=True, max_size=3))
def test_replacing_changes_the_spans_of_the_values_and_nothing_else(
    data: st.DataObject, document: dict[str, Any], names: list[str]
) -> None:
    """With the new values cut out again, and the old ones put back, the bytes are the old bytes."""
    body = encoded(data.draw(spelled(document)))
    wanted = {name: data.draw(VALUES) for name in names if name in document}
    news = {name: json.dumps(value).encode() for name, value in wanted.items()}
    out = edit(body, replace=news)
    assert json.loads(out) == document | wanted
    back = edit(out, replace={name: body[slice(*(locate(body, name) or (0, 0)))] for name in news})
    assert back == body
    if not wanted:
        assert out is body


@given(st.data(), OBJECTS)
def test_an_insertion_goes_behind_the_opening_brace(
    data: st.DataObject, document: dict[str, Any]
) -> None:
    """What stood before and after the brace still stands there; an empty object needs no comma."""
    body = encoded(data.draw(spelled(document)))
    out = edit(body, insert={"new \u00e9": b'{"x":1}', "and": b"2"})
    assert json.loads(out) == document | {"new \u00e9": {"x": 1}, "and": 2}
    brace = body.index(b"{") + 1
    assert out.startswith(body[:brace] + b'"')
    assert out.endswith(body[brace:])


@given(st.data(), OBJECTS, st.lists(st.sampled_from(NAMES), unique=True, max_size=3))
def test_removing_takes_the_member_and_one_comma(
    data: st.DataObject, document: dict[str, Any], names: list[str]
) -> None:
    """First, middle, last or only: what is left is an object without the member."""
    body = encoded(data.draw(spelled(document)))
    out = edit(body, remove=names)
    left = {name: value for name, value in document.items() if name not in names}
    assert json.loads(out) == left
    for name, value in left.items():
        span, before = locate(out, name), locate(body, name)
        assert span is not None
        assert before is not None
        assert out[slice(*span)] == body[slice(*before)]
        assert json.loads(out[slice(*span)]) == value


def test_all_edits_at_once() -> None:
    """Replace, insert and remove do not disturb one another."""
    body = b' { "a" : 1 , "b":[{"a":2}] ,"c":"}" , "d" : {} } '
    out = edit(body, {"d": b"[4]", "b": b"0"}, {"e": b"5"}, ["a"])
    assert out == b' {"e":5, "b":0 ,"c":"}" , "d" : [4] } '


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"b":{"a":0},"\\u0061":2}',
        b'{"\\u0061":1, "b":0, "\\u0061" : 2 }',
    ],
)
def test_a_name_given_twice_is_refused(body: bytes) -> None:
    """Two parsers may disagree on which of two members counts, however they are spelled."""
    for attempt in (
        lambda: locate(body, "a"),
        lambda: locate_known(body, "a"),
        lambda: edit(body, replace={"a": b"3"}),
        lambda: edit(body, remove=["a"]),
    ):
        with pytest.raises(DuplicateMember) as caught:
            attempt()
        assert caught.value.name == "a"


@pytest.mark.parametrize(
    ("key", "name"), [("a\\/b", "a/b"), ("a/b", "a/b"), ('a\\"b', 'a"b'), ("\\ta", "\ta")]
)
def test_a_name_that_json_escapes_is_found(key: str, name: str) -> None:
    """A slash has two spellings even without an escape of its code; quotes and tabs have one."""
    body = f'{{"{key}":1}}'.encode()
    assert locate(body, name) == locate_known(body, name) == (len(body) - 2, len(body) - 1)
    assert edit(body, remove=[name]) == b"{}"


def test_a_key_that_only_ends_like_the_name_is_another_key() -> None:
    """An escaped quote before the name makes it part of a longer key."""
    body = b'{"x\\"a":1,"b\\"a":"\\"a\\"","a":2}'
    assert locate(body, "a") == (len(body) - 2, len(body) - 1)
    assert locate_known(body, "a") == (len(body) - 2, len(body) - 1)
    assert locate(b'{"x\\"a":1}', "a") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"a"',
        b"{",
        b'{"a"',
        b'{"a":',
        b'{"a":"x',
        b'{"a":[1',
        b"{1:2}",
        b"{,}",
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_no_object_is_an_error_and_never_a_loop(body: bytes) -> None:
    """Only a decoded document is edited, but a mistake must not hang the worker."""
    with pytest.raises(ValueError):
        scan(body)


def test_a_member_that_is_not_there_cannot_be_replaced() -> None:
    """The caller decoded the document, so it knows; a mistake is loud."""
    with pytest.raises(KeyError):
        edit(b'{"b":{"a":1}}', replace={"a": b"1"})
    with pytest.raises(ValueError):
        locate_known(b'{"b":"\\"a\\"", "c":[{"a":1},{"a":1}]}', "a")
    with pytest.raises(ValueError):
        locate_known(b'{"b":["a"]}', "a")


def test_megabytes_are_scanned_without_recursion_or_backtracking() -> None:
    """A long string, and deep nesting, are walked once."""
    deep = b"[" * 200_000 + b"]" * 200_000
    body = b'{"text":"' + b"\\n\\\\" * 500_000 + b'","deep":' + deep + b',"a":7}'
    assert locate(body, "a") == (len(body) - 2, len(body) - 1)


@given(st.binary(max_size=40).map(lambda tail: b'{"a":' + tail))
def test_garbage_ends(body: bytes) -> None:
    """Whatever comes, the search ends, with members or with `ValueError`."""
    for look in (scan, lambda body: locate_known(body, "a")):
        try:
            look(body)
        except ValueError:
            pass
