"""
What a caller is told when something goes wrong: whose fault, which status, whether to try again.

One base class carries the status, the public code and a word for metrics; one boundary renders it in the caller's protocol.
A class exists where a caller would act differently, not for each message.

| class | fault | status | retry |
|---|---|---|---|
| `BadRequest` | caller | 400, 405, 408, 413, 415, 431 | no |
| `Unauthorized`, `Forbidden`, `NotFound` | caller | 401, 403, 404 | no |
| `Conflict` | caller | 409 | no |
| `QuotaExceeded` | caller | 429 | after the time it says |
| `BudgetExhausted` | caller | 402 | no |
| `NoDeployment` | ourselves | 503 (429 when every vendor is at its limit) | after the time it says |
| `UpstreamFailed` | upstream, before the first byte | 502, 504, 429, 503 | yes |
| `UpstreamRefused` | upstream: its `x-should-retry` says no | 429, 500, 502 to 504 | no |
| `StoreGone` | ourselves | 503 | yes |
| `ShuttingDown` | ourselves | 503 | yes |

A client that leaves is not an error but an outcome: `client_left`, 499 in the log.
"""

from typing import ClassVar


class GatewayError(Exception):
    """
    Anything that ends an exchange before its first byte.

    `type` and `code` go into OpenAI's envelope; `param` names the field at fault; `retry_after_us` is None when waiting does not help;
    `degraded` says what held instead of the store when it did not answer.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "api_error"
    metric: ClassVar[str] = "internal"
    should_retry: ClassVar[bool] = True

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        status: int | None = None,
        retry_after_us: int | None = None,
        limits: tuple[int, ...] = (),
        degraded: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.metric
        self.param = param
        self.http_status = status or self.status
        self.retry_after_us = retry_after_us
        self.limits = limits
        self.degraded = degraded


class BadRequest(GatewayError):
    """The request cannot be understood or accepted as it is."""

    status = 400
    type = "invalid_request_error"
    metric = "bad_request"
    should_retry = False


class Unauthorized(GatewayError):
    """No key, or one that nobody knows."""

    status = 401
    type = "authentication_error"
    metric = "unauthorized"
    should_retry = False


class Forbidden(GatewayError):
    """The key may not use this model."""

    status = 403
    type = "permission_error"
    metric = "forbidden"
    should_retry = False


class NotFound(GatewayError):
    """No such model or route."""

    status = 404
    type = "invalid_request_error"
    metric = "not_found"
    should_retry = False


class Conflict(GatewayError):
    """It was said before."""

    status = 409
    type = "invalid_request_error"
    metric = "conflict"
    should_retry = False


class QuotaExceeded(GatewayError):
    """One of the caller's limits is reached."""

    status = 429
    type = "rate_limit_error"
    metric = "quota_exceeded"


class QuotaTooSmall(QuotaExceeded):
    """The request is larger than a limit will ever allow."""

    should_retry = False


class BudgetExhausted(GatewayError):
    """The money for this period is spent or reserved."""

    status = 402
    type = "insufficient_quota"
    metric = "budget_exhausted"
    should_retry = False


class NoDeployment(GatewayError):
    """No deployment can take the call now."""

    status = 503
    metric = "no_deployment"


class UpstreamFailed(GatewayError):
    """Every attempt failed before its first byte."""

    status = 502
    metric = "upstream_failed"


class UpstreamRefused(UpstreamFailed):
    """Every provider refused, and said that to ask again would be in vain."""

    should_retry = False


class StoreGone(GatewayError):
    """The store does not answer, and what was asked for is closed until it does."""

    status = 503
    metric = "store_unavailable"


class ShuttingDown(GatewayError):
    """This worker is draining."""

    status = 503
    metric = "shutting_down"


class Internal(GatewayError):
    """A fault of ours; the log has the traceback, the caller gets its id."""
