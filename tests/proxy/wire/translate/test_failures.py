"""The laws of sorting what went wrong."""

import pytest

from proxy.wire.translate.core import Failure
from proxy.wire.translate.failures import failure_of, kind_of, retry_after_us, retry_headers


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (400, "", "bad_request"),
        (400, "This model's maximum context length is 8192 tokens", "context_length"),
        (400, "prompt is too long: 250000 tokens > 200000 maximum", "context_length"),
        (400, "content_filter", "filtered"),
        (400, "Your credit balance is too low", "billing"),
        (401, "", "unauthorized"),
        (403, "", "forbidden"),
        (404, "", "not_found"),
        (418, "", "bad_request"),
        (429, "slow down", "rate_limited"),
        (429, "insufficient_quota", "billing"),
        (500, "", "internal"),
        (503, "", "overloaded"),
        (529, "", "overloaded"),
        (504, "", "timeout"),
    ],
)
def test_a_refusal_is_sorted_by_what_one_would_do(status: int, said: str, kind: str) -> None:
    """By its status, and by words where a status says too little."""
    assert kind_of(status, said) == kind


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2_000_000),
        ({"retry-after": "0.5"}, 500_000),
        ({"retry-after-ms": "250", "retry-after": "9"}, 250_000),
        (
            {
                "retry-after": "Wed, 21 Oct 2026 07:28:10 GMT",
                "date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            10_000_000,
        ),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e30"}, 86_400_000_000),
    ],
)
def test_when_to_come_again_is_read_without_a_clock(
    headers: dict[str, str], expected: int | None
) -> None:
    """Seconds, milliseconds or a date against the answer's own; nonsense is nothing."""
    assert retry_after_us(headers) == expected


def test_when_to_come_again_is_written_as_clients_read_it() -> None:
    """Rounded up, in both units; who has no money is not asked to come again."""
    limited = failure_of(429, {"retry-after-ms": "1500"}, "slow")
    assert dict(retry_headers(limited)) == {"retry-after": "2", "retry-after-ms": "1500"}
    assert retry_headers(failure_of(500, {}, "")) == ()
    poor = Failure(kind="billing", message="", status=402)
    assert dict(retry_headers(poor)) == {"x-should-retry": "false"}


def test_a_vendors_novel_is_cut() -> None:
    """Messages go into headers' company and logs: they are bounded, and never empty."""
    assert len(failure_of(500, {}, "x" * 100_000).message) == 4096
    assert failure_of(500, {}, "").message
