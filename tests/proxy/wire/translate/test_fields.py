"""The laws of reading a JSON object member by member."""

from collections.abc import Callable
from typing import Any

import pytest

from proxy.wire.look import BadField
from proxy.wire.translate.fields import Fields, decode_object, is_object, parse_object


@pytest.mark.parametrize(
    ("read", "param"),
    [
        (lambda top: top.text("n"), "n"),
        (lambda top: top.need_text("gone"), "gone"),
        (lambda top: top.boolean("n"), "n"),
        (lambda top: top.whole("t"), "t"),
        (lambda top: top.whole("half"), "half"),
        (lambda top: top.whole("n", 8), "n"),
        (lambda top: top.whole("yes"), "yes"),
        (lambda top: top.number("t"), "t"),
        (lambda top: top.list("n"), "n"),
        (lambda top: top.object("n"), "n"),
        (lambda top: top.need_fields("gone"), "gone"),
        (lambda top: top.texts("n"), "n"),
        (lambda top: top.texts("mixed"), "mixed"),
        (lambda top: top.choice("t", "x", "y"), "t"),
        (lambda top: list(top.each("mixed")), "mixed[0]"),
        (lambda top: top.need_fields("inner").need_text("x"), "inner.x"),
        (lambda top: next(top.each("list")).need_text("x"), "list[0].x"),
    ],
)
def test_a_wrong_member_is_named_with_its_path(read: Callable[[Fields], Any], param: str) -> None:
    """Whoever wrote it finds it."""
    top = Fields(
        {
            "n": 7,
            "t": "text",
            "half": 1.5,
            "yes": True,
            "mixed": ["a", 1],
            "inner": {},
            "list": [{}],
        }
    )
    with pytest.raises(BadField) as bad:
        read(top)
    assert bad.value.param == param
    assert param in bad.value.message


def test_what_is_not_taken_is_kept_with_its_path() -> None:
    """Nothing is lost silently; null is nothing."""
    top = Fields({"a": 1, "b": None, "inner": {"c": 2, "d": 3}, "whole": 4.0})
    inner = top.need_fields("inner")
    assert inner.whole("c") == 2
    assert top.whole("whole") == 4
    assert inner.rest() == {"inner.d": 3}
    assert top.rest() == {"a": 1}
    assert top.has("a")
    assert not top.has("b")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"7",
        b"{",
        b'{"a":}',
        b"\xff",
        b'{"a":"\xff"}',
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
)
def test_a_body_that_is_no_object_is_the_callers_mistake(body: bytes) -> None:
    """Also one that is nested without end."""
    with pytest.raises(BadField) as bad:
        parse_object(body)
    assert bad.value.param is None


def test_arguments_are_an_object_or_nothing() -> None:
    """No arguments are none: the empty object."""
    assert decode_object("") == {}
    assert decode_object(" \n") == {}
    assert decode_object('{"a":1}') == {"a": 1}
    assert decode_object("[1]") is None
    assert decode_object('{"a":') is None
    assert decode_object("[" * 100_000) is None
    assert is_object('{"a":1}')
    assert not is_object("")
    assert not is_object(" ")
    assert not is_object('{"a"')
