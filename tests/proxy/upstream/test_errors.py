"""The laws of the errors: a word, a status and a phase for each, as the outcome list has them."""

import pytest

from proxy.upstream.errors import (
    BadAnswer,
    ConnectFailed,
    FirstByteTimedOut,
    IdleTimedOut,
    TotalTimedOut,
    UpstreamError,
    UpstreamLost,
)


@pytest.mark.parametrize(
    ("kind", "metric", "status"),
    [
        (FirstByteTimedOut, "first_byte_timed_out", 504),
        (IdleTimedOut, "idle_timed_out", 504),
        (TotalTimedOut, "total_timed_out", 504),
        (UpstreamLost, "upstream_lost", 502),
        (BadAnswer, "bad_answer", 502),
    ],
)
def test_each_kind_has_its_word_and_status(
    kind: type[UpstreamError], metric: str, status: int
) -> None:
    """The words are those of the ledger's outcomes; the status is what a caller may be shown."""
    error = kind("why", phase="body", stale=True)
    assert (error.metric, error.status, error.phase, error.stale) == (metric, status, "body", True)
    assert str(error) == "why"


def test_a_failed_connect_has_its_phase() -> None:
    """There is no connection that could be stale."""
    error = ConnectFailed("why")
    assert (error.metric, error.status, error.phase) == ("connect_failed", 502, "connect")
    assert error.stale is False
