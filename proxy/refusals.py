"""
What a caller is told when an exchange ends before its first byte.

Pure functions from what the gate, the retry machine and the last attempt know to an error of `proxy.errors`.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from proxy.errors import (
    BudgetExhausted,
    GatewayError,
    NoDeployment,
    QuotaExceeded,
    QuotaTooSmall,
    UpstreamFailed,
    UpstreamRefused,
)
from proxy.live import Offer
from ratelimit.asks import Denied, Nobody
from ratelimit.limits import WINDOW_WORDS
from store.clock import EPOCH

if TYPE_CHECKING:
    from proxy.relay import Attempt

# Most of a provider's own words that an error of ours repeats.
FAILURE_CHARS: Final = 500


def degraded_line(share: str) -> bytes:
    """Return the header line of an answer that was admitted, or refused, without the store."""
    return b"x-penstock-degraded: %b\r\n" % share.encode()


def retry_lines(error: GatewayError) -> bytes:
    """Return the header lines that say whether to ask again, and when."""
    if not error.should_retry:
        return b"x-should-retry: false\r\n"
    if error.retry_after_us is None:
        return b"x-should-retry: true\r\n"
    us = max(error.retry_after_us, 1000)
    return b"x-should-retry: true\r\nretry-after: %d\r\nretry-after-ms: %d\r\n" % (
        -(-us // 1_000_000),
        -(-us // 1000),
    )


def scope_words(scope: str) -> str:
    """Return a scope as it is said to callers: `user ann of acme`, `team acme/support`."""
    kind, _, name = scope.partition(":")
    kind = {"org": "organization"}.get(kind, kind.replace("_", " "))
    organization, hash_, member = name.partition("#")
    return f"{kind} {member} of {organization}" if hash_ else f"{kind} {name}"


def rate_words(rate: str) -> str:
    """Return what a rate limits: `itpm` is `input tokens per minute`."""
    counted = {"r": "requests", "t": "tokens", "it": "input tokens", "ot": "output tokens"}
    return f"{counted[rate[:-2]]} per {WINDOW_WORDS[rate[-1]]}"


def refused_error(offer: Offer, answer: Denied | Nobody) -> GatewayError:
    """Return the error for a call that was not admitted."""
    return denied_error(answer) if isinstance(answer, Denied) else nobody_error(offer, answer)


def denied_error(denied: Denied) -> GatewayError:
    """Return the error for a limit of the caller's: which one binds, and when it frees."""
    scope = scope_words(denied.scope)
    if denied.what == "budget":
        return BudgetExhausted(
            _spent(denied, scope), limits=denied.limits, degraded=denied.degraded
        )
    if denied.what == "too_large":
        return QuotaTooSmall(
            f"The request's input is larger than what {scope} may use at once:"
            f" {denied.limit} of its {rate_words(denied.rate)}. Send less.",
            code="request_too_large",
            limits=denied.limits,
            degraded=denied.degraded,
        )
    unit = rate_words(denied.rate) if denied.rate else "concurrent requests"
    frees = f" Try again in {denied.retry_us / 1e6:.3f} s." if denied.retry_us else ""
    shared = (
        " The store does not answer, and this gateway holds its share of it alone."
        if denied.degraded
        else ""
    )
    return QuotaExceeded(
        f"The limit of {scope} is reached: {denied.limit} {unit}.{frees}{shared}",
        code=f"{denied.what}_limit",
        retry_after_us=denied.retry_us or 1_000_000,
        limits=denied.limits,
        degraded=denied.degraded,
    )


def _spent(denied: Denied, scope: str) -> str:
    whole, part = divmod(denied.limit, 10**9)
    amount = f"{whole}.{f'{part:09d}'.rstrip('0').ljust(2, '0')} USD"
    if denied.period == "total":
        return f"The whole budget of {scope} ({amount}) is spent or reserved."
    said = f"The budget of {scope} for this {denied.period} ({amount}) is spent or reserved."
    if not denied.retry_us:
        return said
    begins = EPOCH + timedelta(microseconds=denied.at_us + denied.retry_us)
    return f"{said} It begins anew at {begins:%Y-%m-%dT%H:%M:%SZ}."


def nobody_error(offer: Offer, nobody: Nobody) -> GatewayError:
    """Return the error when no candidate can take the call now, with the reason for each."""
    words = "; ".join(
        f"{place.id}: {word}" for place, word in zip(offer.places, nobody.lost, strict=True)
    )
    full = {
        *("requests", "tokens", "concurrency", "model_limit", "provider_limit"),
        *("throttled", "others_wait"),
    }
    return NoDeployment(
        f"No deployment of '{offer.asked}' can take the request now ({words}).",
        status=429 if set(nobody.lost) <= full else 503,
        retry_after_us=nobody.retry_us or 1_000_000,
        limits=nobody.limits,
        degraded=nobody.degraded,
    )


def failed_error(last: "Attempt | None", failure: str, *, in_vain: bool = False) -> GatewayError:
    """
    Return the error when every attempt has failed before its first byte.

    `in_vain`: every candidate's provider has said that to ask again would be in vain.
    """
    assert last is not None
    assert last.ended is not None
    ended = last.ended
    outcome = ended.outcome
    kind = UpstreamRefused if in_vain else UpstreamFailed
    made = f"{last.number} attempt{'s' if last.number > 1 else ''}"
    if outcome in {"rate_limited", "overloaded"}:
        return kind(
            f"The provider of '{last.place.model}' is at its limit ({made}).",
            code="upstream_rate_limited",
            status=429 if outcome == "rate_limited" else 503,
            retry_after_us=last.cool_us or 1_000_000,
            limits=last.grant.limits,
            degraded=last.grant.degraded,
        )
    if outcome == "upstream_refused" and ended.status >= 300:
        passed = ended.status if ended.status in {500, 502, 503, 504} else 502
        return kind(
            f"The provider of '{last.place.model}' answered {ended.status} ({made}).",
            code="upstream_refused",
            status=passed,
            retry_after_us=last.cool_us or None,
            limits=last.grant.limits,
            degraded=last.grant.degraded,
        )
    if outcome == "connect_failed":
        # The reason names an address of ours; where a provider is, is none of the caller's business.
        failure = "it cannot be reached"
    failure = last.place.without_secrets(failure[:FAILURE_CHARS].encode()).decode()
    timed_out = outcome in {"first_byte_timed_out", "idle_timed_out", "total_timed_out"}
    return UpstreamFailed(
        f"The provider of '{last.place.model}' gave no answer ({made}): {failure}.",
        code=outcome,
        status=503 if outcome == "drained" else 504 if timed_out else 502,
        limits=last.grant.limits,
        degraded=last.grant.degraded,
    )
