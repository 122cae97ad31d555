"""Laws of the route that simulates: a policy is tried on described calls and on the ledger, and nothing is changed."""

from typing import Any

import msgspec
import pytest

from routing.decision import Decision
from tests.console.command_rig import typed

Api = Any  # the fixtures of this folder's conftest
Ledger = Any
PATH = "/v1/routing/simulate"
RATED = {
    "models": {
        "demo": {"quality": 0.9, "price": {"input": 10, "output": 30}},
        "Qwen/other": {
            "quality": 0.85,
            "price": {"input": 1, "output": 3},
            "deployments": [{"provider": "beta"}],
        },
    },
    "routes": {"auto": {"policy": "cost_quality"}},
}


async def calls(ledger: Ledger, count: int = 3) -> None:
    """Enter calls for `auto` that the declared order led to demo."""
    places = ("demo/alpha", "Qwen/other/beta")
    decision = Decision("declared", asked="auto", places=places, chosen=0, level="economy")
    for number in range(count):
        await ledger.append(
            f"r{number}.1",
            key="acme/support/helpdesk",
            model_asked="auto",
            model="demo",
            deployment="demo/alpha",
            input_tokens=1000,
            output_tokens=100,
            cost_nusd=13_000_000,
            decision=msgspec.json.encode(decision).decode(),
        )
    await ledger.drain()


async def test_a_described_call_under_the_live_policy_and_another(api: Api) -> None:
    """The declared order leads to demo; by cost and quality an economy call goes elsewhere; nothing is published."""
    before = await api.everything()
    request = {"model": "auto", "input_tokens": 1000, "level": "economy", "complexity": 0.25}
    said = await api.done("POST", PATH, {"request": request})
    assert (said["changed"], said["would"]["policy"], said["would"]["model"]) == (
        False,
        "declared",
        "demo",
    )
    said = await api.done("POST", PATH, {"request": request, "overlay": RATED})
    assert (said["changed"], said["would"]["policy"], said["would"]["model"]) == (
        True,
        "cost_quality",
        "Qwen/other",
    )
    assert {each["model"]: each["lost"] for each in said["would"]["candidates"]} == {
        "demo": "cost",
        "Qwen/other": "",
    }
    assert await api.everything() == before


async def test_the_last_calls_are_replayed(api: Api, ledger: Ledger) -> None:
    """With what their decisions were made from: what would change, what it would cost, what it would be worth."""
    await calls(ledger)
    said = await api.done("POST", PATH, {"last": 2, "overlay": RATED})
    sums = said["sums"]
    assert (sums["calls"], sums["changed"], sums["refused"]) == (2, 2, 0)
    assert (sums["was_cost_nusd"], sums["would_cost_nusd"]) == (26_000_000, 2_600_000)
    assert sums["would_quality"] < sums["was_quality"]
    assert [each["would"]["deployment"] for each in said["calls"]] == ["Qwen/other/beta"] * 2
    said = await api.done("POST", PATH, {"last": 2})
    assert (said["sums"]["changed"], said["calls"]) == (0, [])


async def test_one_call_is_replayed_by_its_id(operator: Api, ledger: Ledger) -> None:
    """Told whether it would change or not; the attempt that served it counts."""
    await ledger.append("x.1", model_asked="auto", model="demo", deployment="demo/alpha")
    await calls(ledger)
    said = await operator.done("POST", PATH, {"request_id": "r1"})
    (one,) = said["calls"]
    assert (one["was"]["request_id"], one["would"]["deployment"]) == ("r1", "demo/alpha")
    await operator.refused(404, "not_found", "POST", PATH, {"request_id": "nothing"})
    ended = await typed("route simulate r2")
    assert ended.code == 0, ended.err
    assert "Of 1 calls 0 would go elsewhere" in ended.out


@pytest.mark.parametrize("overlay", [{}, {"routes": {}}, {"routes": {"auto": {}}}])
async def test_an_overlay_that_says_nothing_changes_nothing(api: Api, overlay: Any) -> None:
    """Mappings are merged with what is there, empty ones too."""
    asked = {"request": {"model": "auto"}}
    plain = await api.done("POST", PATH, asked)
    assert (await api.done("POST", PATH, {**asked, "overlay": overlay}))["would"] == plain["would"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid"),
        ({"request": {"model": "auto"}, "last": 3}, 422, "invalid"),
        ({"request_id": "r", "last": 3}, 422, "invalid"),
        ({"last": 0}, 422, "invalid"),
        ({"last": 3, "overlay": {}, "document": ""}, 422, "invalid"),
        ({"last": 3, "overlay": {"routes": {"auto": {"policy": "luck"}}}}, 422, "mistakes"),
        ({"last": 3, "overlay": {"rutes": {}}}, 422, "mistakes"),
        ({"last": 3, "document": "models: ["}, 422, "mistakes"),
        ({"request": {"model": "auto", "key": "acme/support/nobody"}}, 404, "not_found"),
        ({"request": {"model": "auto", "level": "gold"}}, 422, "invalid"),
        ({"request": {"model": "auto", "complexity": 2}}, 422, "invalid"),
        ({"request": {"model": "auto", "max_price": -1}}, 422, "invalid"),
    ],
)
async def test_a_bad_policy_is_refused_with_every_mistake(
    api: Api, body: Any, status: int, code: str
) -> None:
    """As it would be before it is live."""
    await api.refused(status, code, "POST", PATH, body)


async def test_the_command_prints_both_kinds(operator: Api, ledger: Ledger, tmp_path: Any) -> None:
    """One call with its candidates; many with what would change."""
    await calls(ledger)
    overlay = tmp_path / "overlay.json"
    overlay.write_bytes(msgspec.json.encode(RATED))
    described = "--model auto --input 1000 --output 100 --level economy --complexity 0.25"
    ended = await typed(f"route simulate {described} --overlay {overlay}")
    assert ended.code == 0, ended.err
    assert ended.out.startswith(
        "Qwen/other/beta of Qwen/other by the policy cost_quality: 0.001300 USD"
    )
    ended = await typed(f"route simulate --last 3 --overlay {overlay}")
    assert "Of 3 calls 3 would go elsewhere and 0 would be refused." in ended.out
    assert "cost 0.039000 USD and would have cost 0.003900 USD" in ended.out
    ended = await typed("route simulate --model auto --max-price 0.5 --json")
    assert ended.json["would"]["refused"]
    ended = await typed("route simulate --model auto --min-quality 1")
    assert ended.out.startswith("Nothing would be chosen: ")


@pytest.mark.parametrize(
    "words",
    [
        "route simulate",
        "route simulate --model auto --last 3",
        "route simulate --last 0",
        "route simulate --last many",
        "route simulate --model auto --complexity 2",
        "route simulate --model auto --overlay nowhere.yaml",
        "route simulate --model auto --overlay a --policy b",
        "route simulate --model auto --key nobody",
    ],
)
async def test_misuse_ends_with_2(operator: Api, words: str) -> None:
    """And prints no result."""
    ended = await typed(words)
    assert (ended.code, ended.out) == (2, "")
