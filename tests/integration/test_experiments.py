"""Laws of experiments with real processes: an edge, a control, a store and a vendor."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
from redis.asyncio import Redis

from config.live import Note, history
from tests.integration.processes import HELLO, KEY, Books, running, wait_until

CANARY = {"model": "down", "steps": [50, 100], "min_samples": 10, "step_s": 1}


def noted(redis_url: str) -> list[Note]:
    """Give the history of the configuration, the latest first."""

    async def ask() -> list[Note]:
        client = Redis.from_url(redis_url)
        try:
            return await history(client)
        finally:
            await client.aclose()

    return asyncio.run(ask())


def test_a_canary_that_fails_is_taken_back_and_no_caller_notices(
    make_redis: Callable[..., Any],
) -> None:
    """The vendor refuses every call of it: all are answered elsewhere, and the control ends it by itself."""
    experiments = {"luna": {"asked": "plain", "sticky": "request", "canary": CANARY}}
    with running(make_redis().url, experiments=experiments) as gateway:
        gateway.start_control()
        statuses: set[int] = set()

        def is_back() -> bool:
            body = {"model": "plain", "messages": [HELLO]}
            answer = httpx2.post(
                f"{gateway.url}/v1/chat/completions",
                json=body,
                headers={"Authorization": f"Bearer {KEY}"},
            )
            statuses.add(answer.status_code)
            return noted(gateway.redis_url)[0].kind == "experiment.rollback"

        wait_until(is_back, "the canary is not taken back", seconds=60)
        assert statuses == {200}
        back, begun, *_ = noted(gateway.redis_url)
        assert back.why.startswith("canary luna is taken back: failures 100.0% against 0.0%")
        assert back.by.endswith("/control")
        assert begun.kind == "experiment.begin"


def test_copies_are_served_and_booked_beside_their_callers(make_redis: Callable[..., Any]) -> None:
    """What the vendor says that it served is what the ledger holds, to the token; half of it is nobody's."""
    budget = {"usd": 1, "per": "day"}
    experiments = {"dark": {"asked": "plain", "shadow": {"model": "paced", "budget": budget}}}
    with running(make_redis().url, experiments=experiments) as gateway:
        books = Books(gateway)
        for stream in (False, True):
            answer = httpx2.post(
                f"{gateway.url}/v1/chat/completions",
                json={"model": "plain", "messages": [HELLO], "stream": stream},
                headers={"Authorization": f"Bearer {KEY}"},
            )
            assert answer.status_code == 200
        entries = books.agree(4)
        known = sorted((entry.experiment, entry.model, entry.key) for entry in entries)
        assert known == [
            *[("", "plain", "acme/support/desk")] * 2,
            *[("dark/shadow", "paced", "")] * 2,
        ]
