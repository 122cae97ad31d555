"""The laws of carrying one vendor's secrets through another's protocol."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.translate.carried import unwrap, wrap
from proxy.wire.translate.core import Reasoning

PARTS = st.builds(
    Reasoning,
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.none() | st.text("abcDEF+/=", min_size=1, max_size=40),
    st.none() | st.text("abcDEF+/=", min_size=1, max_size=40),
    st.sampled_from(["anthropic", "google", "openai", ""]),
)


@given(PARTS)
def test_what_is_wrapped_comes_back_as_it_was(part: Reasoning) -> None:
    """Signatures are proofs: one changed letter and the vendor answers 400."""
    assert unwrap(wrap(part, with_text=True)) == part


@given(PARTS)
def test_it_survives_clients_that_decode_it(part: Reasoning) -> None:
    """Google's clients hold bytes: they decode the field and encode it again, in either alphabet."""
    carried = wrap(part, with_text=True)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", carried)
    again = base64.b64encode(base64.urlsafe_b64decode(carried)).decode()
    assert unwrap(again) == part


@pytest.mark.parametrize(
    "foreign", ["", "EqQBCkYICRgCKkD", "cGVuc3RvY2s=", wrap(Reasoning("a"))[:-3] + "!!!"]
)
def test_what_a_vendor_wrote_is_left_alone(foreign: str) -> None:
    """Also what looks like ours and is none."""
    assert unwrap(foreign) is None
