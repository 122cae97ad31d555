"""What a caller is told when nothing is served: which limit, which candidate, and when to come back."""

import pytest

from proxy.attempts import Ended
from proxy.errors import GatewayError
from proxy.live import Offer
from proxy.refusals import FAILURE_CHARS, denied_error, failed_error, nobody_error
from proxy.relay import Attempt
from ratelimit.asks import Denied, Nobody


def refusal(  # noqa: PLR0917 - a table is made of it
    what: str,
    limit: int,
    retry_us: int = 0,
    period: str = "",
    rate: str = "",
    scope: str = "team:acme/support",
) -> GatewayError:
    """Make the error for one of the caller's limits."""
    denied = Denied(
        what=what,
        scope=scope,
        limit=limit,
        retry_us=retry_us,
        at_us=0,
        limits=(1, 0, 5, 0, 0, 0),
        period=period,
        rate=rate,
    )
    return denied_error(denied)


@pytest.mark.parametrize(
    ("error", "status", "code", "words", "retry_us"),
    [
        (
            refusal("requests", 60, 5_000_000, rate="rpm"),
            *(429, "requests_limit", "60 requests per minute. Try again in 5.000 s.", 5_000_000),
        ),
        (refusal("requests", 9, 5, rate="rps"), 429, "requests_limit", "9 requests per second", 5),
        (refusal("tokens", 10, 7, rate="tpd"), 429, "tokens_limit", "10 tokens per day", 7),
        (refusal("tokens", 10, 7, rate="itpm"), 429, "tokens_limit", "10 input tokens per min", 7),
        (refusal("tokens", 10, 7, rate="otpd"), 429, "tokens_limit", "10 output tokens per day", 7),
        (refusal("concurrency", 5), 429, "concurrency_limit", "5 concurrent requests", 1_000_000),
        (
            refusal("too_large", 900, rate="tpm"),
            *(429, "request_too_large", "900 of its tokens per minute", None),
        ),
        (
            refusal("budget", 200_000, 86_400_000_000, "day"),
            402,
            "budget_exhausted",
            "day (0.0002 USD) is spent or reserved. It begins anew at 2024-01-02T00:00:00Z.",
            None,
        ),
        (
            refusal("budget", 2_500_000_000, 86_400_000_000, "month"),
            402,
            "budget_exhausted",
            "month (2.50 USD) is spent or reserved. It begins anew at 2024-01-02T00:00:00Z.",
            None,
        ),
        (
            refusal("budget", 2_500_000_000, 0, "total"),
            *(402, "budget_exhausted", "The whole budget of team acme/support (2.50 USD)", None),
        ),
    ],
)
def test_a_limit_says_which_one_and_when(
    error: GatewayError, status: int, code: str, words: str, retry_us: int | None
) -> None:
    """The scope, the limit, and when to come back where that helps."""
    assert (error.http_status, error.code) == (status, code)
    assert words in error.message
    assert "team acme/support" in error.message
    assert error.retry_after_us == retry_us
    assert error.limits == (1, 0, 5, 0, 0, 0)


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        ("user:acme/emea#ann#1", "of user ann#1 of acme/emea is"),
        ("business_line:acme#retail", "of business line retail of acme is"),
        ("org:acme/emea", "of organization acme/emea is"),
        ("key:acme/support/helpdesk", "of key acme/support/helpdesk is"),
    ],
)
def test_a_scope_is_said_in_words(scope: str, words: str) -> None:
    """Its kind, and its name as the caller may know it."""
    assert words in refusal("requests", 5, 1, rate="rpm", scope=scope).message


class Standing:
    """What `nobody_error` looks at of an offer."""

    asked = "auto"

    def __init__(self, *ids: str) -> None:
        self.places = [type("Place", (), {"id": name}) for name in ids]


@pytest.mark.parametrize(
    ("lost", "status"),
    [
        (("requests", "tokens"), 429),
        (("throttled", "concurrency"), 429),
        (("model_limit", "requests"), 429),
        (("drained", "requests"), 503),
        (("drained", "drained"), 503),
        (("budget", "throttled"), 503),
    ],
)
def test_nobody_says_why_each_candidate_fell_out(lost: tuple[str, ...], status: int) -> None:
    """429 where all of them are at a limit, else 503; a reason for each."""
    offer: Offer = Standing("a/x", "b/y")  # type: ignore[assignment]
    error = nobody_error(offer, Nobody(250_000, lost, 0, ()))
    assert (error.http_status, error.code, error.retry_after_us) == (
        status,
        "no_deployment",
        250_000,
    )
    assert f"(a/x: {lost[0]}; b/y: {lost[1]})" in error.message
    assert nobody_error(offer, Nobody(0, lost, 0, ())).retry_after_us == 1_000_000


LIMITS = (9, 8, 7, 0, 0, 0)


class Failed:
    """What `failed_error` looks at of the last attempt."""

    number = 2
    cool_us = 0

    def __init__(self, outcome: str, status: int = 0, secret: bytes = b"") -> None:
        self.ended = Ended(outcome, status)
        self.grant = type("Grant", (), {"limits": LIMITS, "degraded": "store; share=1/2"})
        self.place = type(
            "Place",
            (),
            {
                "model": "m",
                "without_secrets": staticmethod(
                    lambda data: data.replace(secret, b"***") if secret else data
                ),
            },
        )


@pytest.mark.parametrize(
    ("outcome", "upstream", "status", "code"),
    [
        ("rate_limited", 429, 429, "upstream_rate_limited"),
        ("overloaded", 529, 503, "upstream_rate_limited"),
        ("upstream_refused", 500, 500, "upstream_refused"),
        ("upstream_refused", 503, 503, "upstream_refused"),
        ("upstream_refused", 401, 502, "upstream_refused"),
        ("upstream_refused", 302, 502, "upstream_refused"),
        ("connect_failed", 0, 502, "connect_failed"),
        ("first_byte_timed_out", 0, 504, "first_byte_timed_out"),
        ("upstream_lost", 0, 502, "upstream_lost"),
        ("drained", 0, 503, "drained"),
    ],
)
def test_the_last_failure_decides_the_status(
    outcome: str, upstream: int, status: int, code: str
) -> None:
    """A vendor's own status where a caller may see it; never a 401 that is about our credentials."""
    last: Attempt = Failed(outcome, upstream)  # type: ignore[assignment]
    error = failed_error(last, "it went away")
    assert (error.http_status, error.code) == (status, code)
    assert "2 attempts" in error.message
    # The admission took something of the caller's, and it may want to know what is left.
    assert (error.limits, error.degraded) == (LIMITS, "store; share=1/2")
    assert error.should_retry


@pytest.mark.parametrize(
    ("outcome", "status"), [("rate_limited", 429), ("overloaded", 529), ("upstream_refused", 500)]
)
def test_a_refusal_that_is_final_is_passed_on_as_final(outcome: str, status: int) -> None:
    """When each provider has said that to ask again would be in vain, the caller is told as much."""
    last: Attempt = Failed(outcome, status)  # type: ignore[assignment]
    error, usual = failed_error(last, "", in_vain=True), failed_error(last, "")
    assert not error.should_retry
    assert (error.http_status, error.code) == (usual.http_status, usual.code)


def test_a_vendors_words_are_short_and_without_secrets() -> None:
    """What a vendor says of itself is repeated up to a length, and never with a key of ours."""
    last: Attempt = Failed("bad_answer", secret=b"sk-vendor")  # type: ignore[assignment]
    error = failed_error(last, "the key sk-vendor is wrong " + "x" * 10_000)
    assert "sk-vendor" not in error.message
    assert len(error.message) < FAILURE_CHARS + 200


def test_where_a_provider_is_stays_with_us() -> None:
    """A caller learns that it cannot be reached, not at which address of ours."""
    last: Attempt = Failed("connect_failed")  # type: ignore[assignment]
    error = failed_error(last, "http://10.0.0.5:8000: Connection refused")
    assert "10.0.0.5" not in error.message
    assert "cannot be reached" in error.message
