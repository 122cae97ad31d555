"""What an output line says is what its call costs; what is no line costs nothing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.batches import Bill, LineUsage, read_bill, usage_of, write_bill

BILL = Bill(
    *("r.1", "r", 1, "acme", "t", "acme/t/k", "u", "a", "b", "asked", "m", "d", "p"),
    *(5, 3, 50, b"\x93", ("k1", "k2"), ("user:acme#",), 1, 0, 7),
)


def test_a_bill_is_kept_as_it_was_written() -> None:
    """With the bytes of its plan."""
    assert read_bill(write_bill(BILL)) == BILL


def line(usage: Any, status: Any = 200) -> bytes:
    return json.dumps({"response": {"status_code": status, "body": {"usage": usage}}}).encode()


@pytest.mark.parametrize(
    ("usage", "found"),
    [
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 99},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            LineUsage(True, True, 9, 4, 0, 5, 3, 9),
        ),
        ({"input_tokens": 7, "output_tokens": 2}, LineUsage(True, True, 7, 0, 0, 2)),
        ({"prompt_tokens": -1, "completion_tokens": "x"}, LineUsage(True, True)),
        (None, LineUsage(served=True)),
        ([], LineUsage(served=True)),
    ],
)
def test_the_usage_of_a_line(usage: Any, found: LineUsage) -> None:
    """In the words of either API; a part is no more than its whole."""
    assert usage_of(line(usage)) == found


def test_a_call_that_failed_was_not_served() -> None:
    """Whatever its error is."""
    assert usage_of(line({"prompt_tokens": 9}, 500)) == LineUsage()
    assert usage_of(b'{"response":null,"error":{"code":"batch_expired"}}') == LineUsage()
    assert usage_of(line({"prompt_tokens": 9}, None)) == LineUsage(True, True, 9)


@given(
    st.binary()
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.dictionaries(
            st.sampled_from(["response", "body", "usage", "status_code"]), inner
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_is_in_an_output_is_read(data: bytes) -> None:
    """Nothing of it is raised."""
    found = usage_of(data)
    assert found is None or found.input_tokens >= 0
