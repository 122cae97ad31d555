"""Laws of `penstock experiment`: what is tried out is listed, told, stopped and resumed."""

from typing import Any

from tests.console.command_rig import typed

Api = Any  # the fixtures of this folder's conftest
Ledger = Any


async def test_experiments_are_listed(operator: Api) -> None:
    """Each with its kind and its state; or that there are none."""
    ended = await typed("experiment list")
    rows = [line.split(maxsplit=3) for line in ended.out.splitlines()[1:]]
    assert rows == [
        ["idle", "arms", "demo", "not begun"],
        ["dark", "shadow", "demo", "not begun"],
    ]
    for name in ("idle", "dark"):
        assert (await typed(f"config remove experiment {name}")).code == 0
    assert (await typed("experiment list")).out == "Nothing is tried out.\n"


async def test_what_an_experiment_has_shown_is_told(operator: Api, ledger: Ledger) -> None:
    """Shares, tries, failures, the first byte and the cost of each arm."""
    for number in range(4):
        said = {"ttft_us": 2_000_000, "cost_nusd": 2_000, "defect": 0 if number else 1000}
        await ledger.append(f"r{number}.1", experiment="idle/a", **said)
    await ledger.append("x.1", experiment="idle/b", outcome="overloaded")
    await ledger.drain()
    ended = await typed("experiment show idle")
    assert ended.code == 0, ended.err
    first, _, a, b = ended.out.splitlines()
    assert first == "idle: arms behind demo; stopped: not begun"
    assert a.split() == ["a", "50", "%", "4", "0.0", "%", "2000", "0.000002", "25.0", "%"]
    assert b.split() == ["b", "50", "%", "1", "100.0", "%", "-", "-", "-"]
    assert (await typed("experiment show nothing")).code == 2


async def test_a_shadow_shows_its_share(operator: Api) -> None:
    """It has one arm."""
    said = (await typed("experiment show dark --json")).json
    assert [(each["arm"], each["share"]) for each in said["arms"]] == [("shadow", 1.0)]


async def test_a_canary_is_stopped_and_begins_anew(operator: Api, ledger: Ledger) -> None:
    """`why` stays in it; to resume takes it to its first step, and what was judged before is over."""
    now = await operator.done("GET", "/v1/config")
    canary = {"model": "Qwen/other", "steps": [5, 50], "step": 1, "since": "2026-11-22T03:00:00Z"}
    await operator.done(
        "PUT",
        "/v1/experiments/luna",
        {
            "experiment": {"asked": "auto", "canary": canary | {"min_samples": 10}},
            "why": "new",
            "expected": now["version"],
        },
    )
    for number in range(20):
        arm = "canary" if number % 2 else "control"
        await ledger.append(f"r{number}.1", experiment=f"luna/{arm}", ttft_us=1000, cost_nusd=1)
    await ledger.drain()
    shown = (await typed("experiment show luna --json")).json
    assert [(each["arm"], each["share"]) for each in shown["arms"]] == [
        ("canary", 0.5),
        ("control", 0.5),
    ]
    assert [each["guard"] for each in shown["findings"]] == ["error_rate", "ttft", "quality"]
    assert "guard error_rate: fine" in (await typed("experiment show luna")).out
    ended = await typed(["experiment", "stop", "luna", "--why", "enough was seen", "--wait", "0"])
    assert ended.code == 0, ended.err
    live = (await operator.done("GET", "/v1/experiments/luna"))["section"]
    assert live["stopped"] == "enough was seen"
    ended = await typed("experiment resume luna --wait 0")
    assert ended.code == 0, ended.err
    live = (await operator.done("GET", "/v1/experiments/luna"))["section"]
    assert "stopped" not in live
    assert live["canary"]["step"] == 0
    assert live["canary"]["since"] > "2026-11-22T03:00:01Z"
    shown = (await typed("experiment show luna --json")).json
    assert [each["tries"] for each in shown["arms"]] == [0, 0]
    assert (await typed("experiment stop nothing")).code == 2
