"""
How long the first token of a stream may take: more for a long prompt, and never less than the deployment needs as a rule.

    base_s + per_1k_tokens_s x (input tokens / 1000), but `times` the latency that all replicas see there, and at most the provider's `first_byte_timeout_s`
"""

from dataclasses import replace

from config.providers import FirstToken
from proxy.upstream.deadlines import Timeouts

__all__ = ["adapted"]


def adapted(timeouts: Timeouts, rule: FirstToken, input_tokens: int, latency_us: float) -> Timeouts:
    """Return a provider's timeouts for one call; `latency_us` is 0 when nothing is known."""
    first_s = max(
        rule.base_s + rule.per_1k_tokens_s * input_tokens / 1000, rule.times * latency_us / 1e6
    )
    if first_s >= timeouts.first_byte_s:
        return timeouts
    return replace(timeouts, first_byte_s=first_s)
