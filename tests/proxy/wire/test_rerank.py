"""A look at a request to put documents in order, and what its answer was billed."""

import json
from typing import Any

import msgspec
import pytest

from proxy.wire.look import BadField
from proxy.wire.meter import Units, Usage
from proxy.wire.rerank import look, meter, rewrite, tokens_in


def asked(**said: Any) -> bytes:
    body = {"model": "m", "query": "which", "documents": ["a", {"text": "b"}]} | said
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def test_what_may_be_billed_is_known_before() -> None:
    """A unit for each hundred documents, of which a long one is several; tokens of the query with each."""
    seen = look(asked())
    assert (seen.model, seen.stream, seen.messages) == ("m", False, 2)
    assert seen.sold is not None
    assert (seen.sold.likely.search_units, seen.sold.most.search_units) == (1, 1)
    many = look(asked(documents=["x" * 2000] * 101)).sold
    assert many is not None
    assert (many.likely.search_units, many.most.search_units) == (3, 6)
    assert look(asked(documents=["x" * 400] * 10)).input_estimate >= 1000


def test_only_the_models_name_changes() -> None:
    """Every other byte stays; also where the documents say the same words."""
    body = b'{ "documents" : ["\\"model\\": \\"m\\""], "model":"m","query":"q" }'
    changed = rewrite(
        body,
        look(body),
        upstream_model="other",
        include_usage=True,
        output_cap=None,
        cap_field=None,
    )
    assert changed == body.replace(b':"m"', b':"other"')


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (asked(model=None), "model"),
        (asked(documents=None), "documents"),
        (asked(documents=[]), "documents"),
        (asked(documents="a"), "documents"),
        (b"[]", None),
        (b'{"model":"m","model":"n","documents":["a"]}', "model"),
    ],
)
def test_a_mistake_is_named(body: bytes, param: str | None) -> None:
    """By its field."""
    with pytest.raises(BadField) as caught:
        look(body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"meta": {"billed_units": {"search_units": 2}}}, Usage(units=Units(search_units=2))),
        ({"meta": {"billed_units": {"search_units": 2.0}}}, Usage(units=Units(search_units=2))),
        ({"usage": {"total_tokens": 9}}, Usage(9)),
        ({"meta": {"billed_units": {"input_tokens": 9}}}, Usage(9)),
        ({"meta": {"billed_units": {"search_units": -1}}}, None),
        ({"results": []}, None),
        ([], None),
    ],
)
def test_what_was_billed_is_what_the_vendor_says(answer: Any, usage: Usage | None) -> None:
    """Units or tokens; None where it says neither."""
    assert meter(msgspec.json.encode(answer)) == usage
    assert tokens_in(answer) == 0
