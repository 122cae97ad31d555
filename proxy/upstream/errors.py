"""
What can go wrong between us and a provider, as the exchange needs to tell it apart.

A class exists where a caller would act differently; everything else is in the message.
Messages name hosts and reasons, never a path, a query, a header value or a body.
"""

from typing import ClassVar, Literal

Phase = Literal["connect", "send", "first_byte", "body"]


class UpstreamError(Exception):
    """
    A conversation with a provider that did not come to its end.

    `phase` says how far it got: no connection yet, request not fully handed to the kernel, no byte
    of the answer's body yet, or in the middle of the body.
    `stale` is true when the connection had served before and was lost, soon after the request and
    without one byte of an answer: the sign of a keep-alive connection that the provider closed while our request
    was on its way, so that one retry on a fresh connection is safe.
    `status` is the HTTP status to show when nothing was sent to the caller yet, `metric` the word
    for counters and the ledger's outcome.
    """

    __slots__ = ("phase", "stale")

    metric: ClassVar[str]
    status: ClassVar[int] = 502

    phase: Phase
    stale: bool

    def __init__(self, message: str, *, phase: Phase, stale: bool = False) -> None:
        super().__init__(message)
        self.phase = phase
        self.stale = stale


class ConnectFailed(UpstreamError):
    """No connection: name not resolved, refused, out of reach, too slow, or TLS not trusted."""

    metric = "connect_failed"

    def __init__(self, message: str) -> None:
        super().__init__(message, phase="connect")


class FirstByteTimedOut(UpstreamError):
    """The provider took the request and sent no byte of a body within the first-byte deadline."""

    metric = "first_byte_timed_out"
    status = 504


class IdleTimedOut(UpstreamError):
    """The provider fell silent in the middle of a body for longer than the idle deadline."""

    metric = "idle_timed_out"
    status = 504


class TotalTimedOut(UpstreamError):
    """The conversation as a whole took longer than it may."""

    metric = "total_timed_out"
    status = 504


class UpstreamLost(UpstreamError):
    """The connection ended, by close or reset, before the answer was complete."""

    metric = "upstream_lost"


class BadAnswer(UpstreamError):
    """What came back is not an HTTP/1.x answer that we accept."""

    metric = "bad_answer"
