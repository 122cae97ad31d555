"""How long a first token may take: a base, more for a long prompt, some times what is usual there, and never more than the provider's own."""

import pytest

from config.providers import FirstToken
from proxy.upstream.deadlines import Timeouts
from proxy.upstream.first_token import adapted

USUAL = Timeouts(first_byte_s=60, idle_s=5, total_s=90)
RULE = FirstToken(base_s=2, per_1k_tokens_s=0.5, times=4)


@pytest.mark.parametrize(
    ("tokens", "latency_us", "wanted"),
    [
        (0, 0, 2),
        (8000, 0, 6),
        (8000, 1_000_000, 6),
        (8000, 2_500_000, 10),
        (0, 20_000_000, 60),
        (1_000_000, 0, 60),
    ],
)
def test_a_first_token_may_take_what_its_prompt_and_its_place_need(
    tokens: int, latency_us: float, wanted: float
) -> None:
    """The other deadlines are as they were."""
    found = adapted(USUAL, RULE, tokens, latency_us)
    assert (found.first_byte_s, found.idle_s, found.total_s) == (wanted, 5, 90)
