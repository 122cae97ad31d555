"""Laws of the routes that judge routing: by the live prices and qualities, from the ledger."""

from typing import Any

from tests.console.command_rig import typed

Api = Any  # the fixtures of this folder's conftest
Ledger = Any


async def rated(api: Api, ledger: Ledger) -> None:
    """Give both models a quality and a price, and let both have served."""
    _, now = await api.ask("GET", "/v1/config")
    for name, provider, quality, price in (("demo", "alpha", 0.9, 2), ("mini", "beta", 0.88, 0.1)):
        now = await api.done(
            "PUT",
            f"/v1/models/{name}",
            {
                "model": {
                    "quality": quality,
                    "price": {"input": price, "output": price},
                    "deployments": [{"provider": provider}],
                },
                "why": "rated",
                "expected": now["version"],
            },
        )
    for number in range(4):
        model, cost = ("demo", 300_000) if number % 2 else ("mini", 15_000)
        said = {"model": model, "input_tokens": 100, "output_tokens": 50, "cost_nusd": cost}
        await ledger.append(f"r{number}.1", **said)
    await ledger.drain()


async def test_models_are_judged_by_live_prices(api: Api, ledger: Ledger) -> None:
    """Dear and cheap, and what choosing saved against the best single model."""
    await rated(api, ledger)
    answer = await api.done("GET", "/v1/usage/models?since=2026-11-01")
    verdicts = {row["model"]: row["verdict"] for row in answer["rows"]}
    assert verdicts == {"demo": "best", "mini": "bargain"}
    assert (answer["best"]["model"], answer["best"]["cost_nusd"]) == ("demo", 1_200_000)
    assert (answer["saved_nusd"], answer["saved_usd"]) == (570_000, "0.000570000")


async def test_a_time_that_is_none_is_refused(api: Api) -> None:
    """Like everywhere in usage."""
    await api.refused(400, "bad_request", "GET", "/v1/usage/models?since=soon")


async def test_the_command_prints_the_judgement(operator: Api, ledger: Ledger) -> None:
    """A table with verdicts, and a sentence about savings."""
    await rated(operator, ledger)
    ended = await typed("usage --report models --since 2026-11-01")
    assert ended.code == 0, ended.err
    head, first, second, best, saved = ended.out.splitlines()
    assert head.split()[:3] == ["model", "verdict", "requests"]
    assert [first.split()[:2], second.split()[:2]] == [["demo", "best"], ["mini", "bargain"]]
    assert "demo" in best
    assert "routing saved 0.0006 USD (47.5 %)" in saved
    said = await typed("usage --report models --since 2026-11-01 --json")
    assert said.json["best"]["model"] == "demo"


async def test_nothing_used_is_said(operator: Api) -> None:
    """And no verdict without qualities."""
    ended = await typed("usage --report models")
    assert (ended.code, ended.out) == (0, "Nothing was used in that time.\n")


async def test_a_model_that_is_gone_is_unrated(operator: Api, ledger: Ledger) -> None:
    """What the configuration does not know any more has no price to judge by."""
    await ledger.append("r.1", model="gone", cost_nusd=5)
    await ledger.drain()
    ended = await typed("usage --report models --since 2026-11-01")
    assert "unrated" in ended.out
    assert "no verdict" in ended.out


async def test_a_report_takes_no_dimensions(operator: Api) -> None:
    """What contradicts is misuse."""
    assert (await typed("usage --report models --by team")).code == 2
