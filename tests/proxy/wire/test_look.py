"""The laws that every look shares: what is cut out is the member itself, and what is spliced in changes nothing else."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from proxy.wire.look import BadField, Look, carve, model_span, place, splice

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def raw_of(document: dict[str, Any], name: str) -> Raw:
    decoded = msgspec.json.decode(json.dumps(document).encode(), type=dict[str, Raw])
    return decoded[name]


def look_over(frame: bytes, cuts: tuple[tuple[int, int], ...]) -> Look:
    """Give a look that found this frame and nothing else."""
    return Look("m", False, False, None, 1, None, 0, 0, None, 1, frame, cuts, True, (), False)


@given(st.dictionaries(st.sampled_from(["messages", "system", "tools"]), VALUES), st.randoms())
def test_what_is_carved_out_can_be_spliced_around(large: dict[str, Any], dice: Any) -> None:
    """Wherever the large members stand, an edit of the frame is an edit of the body."""
    members = [*large.items(), ("model", "m"), ("x", 1)]
    dice.shuffle(members)
    document = dict(members)
    body = json.dumps(document).encode()
    frame, cuts = carve(body, [(name, raw_of(document, name)) for name in large])
    assert len(frame) == len(body) - sum(length for _, length in cuts)
    seen = look_over(frame, cuts)
    start, end = model_span(seen)
    assert frame[start:end] == b'"m"'
    changed = json.loads(splice(body, seen, [(start, end, b'"upstream"')]))
    assert changed == document | {"model": "upstream"}
    assert list(changed) == list(document)


def test_nothing_to_splice_is_the_same_object() -> None:
    """The body that came is the body that goes."""
    body = b'{"model":"m"}'
    assert splice(body, look_over(body, ()), []) is body


def test_a_copy_of_a_member_is_not_taken_for_two() -> None:
    """A member that stands there twice has no one place."""
    body = b'{"messages":[1],"x":{"messages":[2]},"messages":[3]}'
    with pytest.raises(BadField) as caught:
        place(body, b'"messages"', Raw(b"[3]"), "messages")
    assert caught.value.code == "duplicate"
