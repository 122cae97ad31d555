"""What callers declare decides who serves them, in every protocol, and what was decided can be read back."""

import json
from typing import Any

import pytest

from proxy.choosing import TOLD_BY
from proxy.wire.endpoints import ENDPOINTS
from routing import board
from routing.classify import classify
from routing.decision import Decision, Scored, read
from routing.lessons import Lessons, Sums
from tests.proxy.edge_rig import Edge, Rig
from tests.proxy.partners import CHAT, MESSAGES, at, chat, message, request, usage, whole

SMALL = {
    "tags": ["chat"],
    "quality": 0.6,
    "price": {"input": 0.1, "output": 0.4},
    "context": 4000,
    "deployments": [at("mock", "small", id="small", region="eu")],
}
LARGE = {
    "tags": ["chat", "coding", "vision"],
    "quality": 0.9,
    "price": {"input": 3, "output": 15},
    "deployments": [at("mock", "large", id="large", region="us")],
}
MODELS = {"large": LARGE, "small": SMALL}
ROUTES = {
    "order": ["large", "small"],
    "smart": {"models": ["large", "small"], "policy": "cost_quality", "explore": 0},
}


async def served(rig: Rig, body: bytes, *headers: str, path: str = CHAT) -> tuple[str, str]:
    """Return who served a call, and how that was decided."""
    caller = await rig.caller()
    await caller.send(request(body, *headers, path=path))
    answer = await caller.answer()
    assert answer.status == 200, answer.body
    model, route = answer.header("x-penstock-model"), answer.header("x-penstock-route")
    assert model is not None
    assert route is not None
    return model, route


async def refused(rig: Rig, body: bytes, *headers: str, path: str = CHAT) -> dict[str, Any]:
    """Return the error that a call gets."""
    caller = await rig.caller()
    await caller.send(request(body, *headers, path=path))
    answer = await caller.answer()
    assert answer.status == 400, answer.body
    return answer.json["error"]


async def test_what_is_asked_for_is_a_model_a_route_or_a_list(edge: Edge) -> None:
    """A list is in its own order, `auto` needs no configuration, and a tag takes those that have it."""
    rig = await edge(models=MODELS, routes=ROUTES)
    for asked, wanted in (
        ("small", "small"),
        ("order", "large"),
        ("small, large", "small"),
        ("large,small", "large"),
        ("auto", "large"),
        ("auto/coding", "large"),
        ("smart/coding", "large"),
        ("order/chat", "large"),
    ):
        model, _ = await served(rig, chat(asked))
        assert model == wanted, asked
    assert (await served(rig, chat("small"), "x-models: large"))[0] == "small"
    assert (await served(rig, chat("small"), "x-models: large", "x-capabilities: coding"))[
        0
    ] == "large"
    for asked in ("auto/nothing", "small, none", ",", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"):
        caller = await rig.caller()
        await caller.send(request(chat(asked)))
        answer = await caller.answer()
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")


async def test_a_body_may_list_what_else_may_serve(edge: Edge) -> None:
    """After its model, in the order of the list; the vendor gets none of it, and an inner member of that name is no list."""
    full = at("v", "up-a", id="full", limits={"rpm": 1})
    rig = await edge(
        models={"a": {"deployments": [full]}, "b": {"deployments": [at("v", "up-b")]}},
        scripted=["v"],
        edge={"queue_timeout_ms": 0},
    )
    caller = await rig.caller()
    lines: list[Any] = []
    for body, wanted in (
        (chat("a", models=["b"]), "up-a"),
        (chat("a", models=["b"]), "up-b"),
        (chat("b", metadata={"models": "x"}), "up-b"),
    ):
        await caller.send(request(body))
        if not lines:
            lines.append(await rig.vendors["v"].line())
        sent = (await lines[0].gets()).json
        assert (sent["model"], "models" in sent) == (wanted, False)
        reply = {"choices": [{"message": {"content": "hi"}}], "usage": usage()}
        await lines[0].says(whole(json.dumps(reply).encode()))
        assert (await caller.answer()).status == 200
    for models in ("b", [1], [""], ["b,c"], ["b"] * 33):
        assert (await refused(rig, chat("a", models=models)))["param"] == "models"
    twice = chat("a", models=["b"])[:-1] + b',"models":["b"]}'
    assert (await refused(rig, twice))["code"] == "duplicate"


async def test_what_metadata_declares_is_obeyed_in_every_protocol_and_goes_no_further(
    edge: Edge,
) -> None:
    """Anthropic and Google refuse members that they do not know; what else stands there is the vendor's."""
    vendors = {
        "openai": {},
        "anthropic": {"protocol": "anthropic"},
        "google": {"protocol": "gemini"},
    }
    rig = await edge(
        models={
            f"{name}-{vendor}": {"tags": ["chat"], "deployments": [at(vendor, name)]}
            for vendor in vendors
            for name in ("first", "second")
        },
        routes={vendor: [f"first-{vendor}", f"second-{vendor}"] for vendor in vendors},
        vendors=vendors,
        scripted=list(vendors),
    )
    caller = await rig.caller()
    generate = "/v1beta/models/google:generateContent"
    contents = {"contents": [{"parts": [{"text": "hi"}]}]}
    for vendor, path, holder, asked in (
        ("openai", CHAT, "metadata", json.loads(chat("openai"))),
        ("openai", "/v1/responses", "metadata", {"model": "openai", "input": "hi"}),
        ("anthropic", MESSAGES, "metadata", json.loads(message("anthropic"))),
        ("google", generate, "labels", contents),
        ("google", generate, "metadata", contents),
    ):
        for mine in ({}, {"mine": "1"}):
            said = {holder: {"pin": f"second-{vendor}", "biz_level": "economy"} | mine}
            await caller.send(request(json.dumps(asked | said).encode(), path=path))
            line = await rig.vendors[vendor].line()
            sent = await line.gets()
            await line.says(whole(b'{"error":{}}', b"connection: close", status=b"400 Bad Request"))
            line.closes()
            answer = await caller.answer()
            assert answer.header("x-penstock-model") == f"second-{vendor}"
            assert sent.json == asked | ({holder: mine} if mine else {}) | (
                {"model": "second"} if vendor != "google" else {}
            )


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("openai.chat", {"messages": [{"role": "user", "content": "Good morning"}], "model": "m"}),
        ("openai.completions", {"prompt": "Good morning", "model": "m"}),
        ("openai.responses", {"input": "Good morning", "model": "m"}),
        (
            "anthropic.messages",
            {
                "messages": [{"role": "user", "content": "Good morning"}],
                "model": "m",
                "max_tokens": 9,
            },
        ),
        ("gemini.generate", {"contents": [{"parts": [{"text": "Good morning"}]}]}),
    ],
)
def test_only_the_conversation_tells_what_a_call_is_about(
    endpoint: str, body: dict[str, Any]
) -> None:
    """What stands beside it, in however short a request, are no words of it."""
    look = next(row for row in ENDPOINTS if row.word == endpoint).look

    def told(said: dict[str, Any]) -> tuple[str, float]:
        sent = json.dumps(said).encode()
        seen = look(sent)
        return classify(sent, seen.cuts, seen.frame, tokens=10)

    sums = {"metadata": {"note": "solve the equation 3x + 4 = 19 for x and prove it, def f(x):"}}
    assert told(body | sums) == told(body)


@pytest.mark.parametrize("where", ["begins", "ends", "is longer"])
async def test_a_long_request_is_the_same_again_only_if_it_begins_and_ends_alike(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """What is asked stands before a long list of tools, and behind a picture; only who asks the same again says that the answer was poor."""
    rig = await edge(models=MODELS, routes=ROUTES)
    long = "x" * (2 * TOLD_BY)
    asked = {
        "begins": [chat("smart", user=text, note=long) for text in ("one", "two")],
        "ends": [chat("smart", note=long, user=text) for text in ("one", "two")],
        "is longer": [chat("smart", note=more + long, user="u") for more in ("", "x")],
    }[where]
    remembered: list[int] = []
    monkeypatch.setattr(Lessons, "remember", lambda *_, body, at_s: remembered.append(body))
    for body in (*asked, asked[1]):
        await served(rig, body)
    await rig.at_rest()
    one, other, again = remembered
    assert one != other == again


async def test_a_level_and_a_preference_choose_the_model(edge: Edge) -> None:
    """The cheapest that is good enough: for premium the best, for economy the cheap one; the answer says what it was made from."""
    levels = {"economy": {"within": {"low": 0.5, "high": 0.05}}}
    smart = ROUTES["smart"] | {"levels": levels}  # type: ignore[operator]
    rig = await edge(models=MODELS, routes={"smart": smart}, key={"biz_level": "premium"})
    model, route = await served(rig, chat("smart"))
    assert model == "large"
    assert route.startswith("model=large; deployment=large; reason=score; attempt=1; candidates=2")
    assert route.endswith("policy=cost_quality; level=premium; task=chat; delta=0.020; board=0")
    cheap = ("x-biz-level: economy", "x-prefer-cost: low")
    assert (await served(rig, chat("smart"), *cheap))[0] == "small"
    assert (await served(rig, chat("smart"), *cheap, "x-routing: declared"))[0] == "large"
    said = {"biz_level": "economy", "prefer_cost": "high"}
    assert (await served(rig, chat("smart", metadata=said)))[0] == "large"
    entries = await rig.entries()
    first, second, third, _ = (read(entry.decision) for entry in entries)
    assert first is not None
    assert (first.policy, first.level, first.places) == (
        "cost_quality",
        "premium",
        ("large", "small"),
    )
    assert [(one.model, one.lost) for one in first.models] == [("large", ""), ("small", "quality")]
    assert first.models[0].quality > first.models[1].quality > 0
    assert second is not None
    assert (second.chosen, second.prefer, second.tiers) == (1, "low", (1, 0))
    assert third is not None
    assert (third.policy, third.models) == ("declared", (Scored("large"), Scored("small")))


async def test_what_is_on_the_board_changes_the_choice_of_every_edge(edge: Edge) -> None:
    """A budget under pressure gets the cheaper model, votes against a model get another one; the answer names the version."""
    rig = await edge(models=MODELS, routes=ROUTES, key={"biz_level": "economy"})
    calm = ("x-prefer-cost: high",)
    assert (await served(rig, chat("smart"), *calm))[0] == "large"
    pressed = board.Live({}, {"key:acme/support/helpdesk": 1.0})
    version = await board.publish(rig.redis, board.encode({}, pressed), ahead_us=0)
    await rig.edge.learner.read(rig.redis)
    model, route = await served(rig, chat("smart"), *calm)
    assert model == "small"
    assert route.endswith(f"delta=0.600; board={version}")
    task = route.partition("task=")[2].partition(";")[0]
    disliked = {("large", task): Sums(calls=400, votes=400, score=0)}
    await board.publish(rig.redis, board.encode(disliked, board.Live({}, {})), ahead_us=0)
    await rig.edge.learner.read(rig.redis)
    assert (await served(rig, chat("smart"), *calm))[0] == "small"
    await rig.redis.delete(board.BOARD)


async def test_declarations_leave_candidates_out_of_any_name(edge: Edge) -> None:
    """A ceiling, a floor, a region and a pin hold for declared routes too; what is left keeps its order."""
    rig = await edge(models=MODELS, routes=ROUTES)
    for header, wanted in (
        ("x-max-price: 1", "small"),
        ("x-region: eu", "small"),
        ("x-pin: small", "small"),
        ("x-min-quality: 0.7", "large"),
        ("x-capabilities: coding, vision", "large"),
    ):
        model, route = await served(rig, chat("order"), header)
        assert (model, "policy=declared" in route) == (wanted, True), header


async def test_what_nobody_can_meet_is_refused_with_the_reason_of_each(edge: Edge) -> None:
    """In the caller's own protocol, and nothing is admitted."""
    rig = await edge(models=MODELS, routes=ROUTES, key={"max_price": 2})
    error = await refused(rig, chat("smart"), "x-biz-level: premium", "x-min-quality: 0.8")
    assert error["code"] == "none_eligible"
    assert "large: it costs 6 USD per million tokens, and 2 is the ceiling" in error["message"]
    assert "small: its quality is 0.60, and at least 0.80 is asked for" in error["message"]
    for header, words in (
        ("x-capabilities: teleport", "small: it has no tag teleport"),
        ("x-pin: elsewhere", "large: it costs 6 USD per million tokens"),
        ("x-region: moon", "small: it runs in eu, where the data may not go"),
        ("x-max-price: 0", "small: it costs 0.175 USD per million tokens, and 0 is"),
    ):
        error = await refused(rig, chat("order"), header)
        assert words in error["message"], header
    error = await refused(rig, message("order"), "x-capabilities: teleport", path=MESSAGES)
    assert error["type"] == "invalid_request_error"
    assert "it has no tag teleport" in error["message"]
    assert await rig.entries() == []


async def test_what_a_request_holds_decides_who_can_serve_it(edge: Edge) -> None:
    """A picture needs eyes, and a long conversation a long context, where the policy looks at calls."""
    rig = await edge(models=MODELS, routes=ROUTES, key={"biz_level": "economy"})
    picture = {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}}
    seeing = [{"role": "user", "content": [picture]}]
    cheap = ("x-prefer-cost: low", "x-max-price: 100")
    assert (await served(rig, chat("smart", messages=seeing), *cheap))[0] == "large"
    long = [{"role": "user", "content": "word " * 4000}]
    assert (await served(rig, chat("smart", messages=long), *cheap))[0] == "large"
    text = [{"role": "user", "content": 'say "image_url" and "images"'}]
    pinned = ("x-pin: small",)
    assert (await served(rig, chat("smart", messages=text), *pinned))[0] == "small"
    error = await refused(rig, chat("smart", messages=seeing), *pinned)
    assert "small: the request needs vision" in error["message"]


async def test_a_policy_may_have_a_model_think_less_and_write_less(edge: Edge) -> None:
    """For a level, where the caller does not say it; models that do not reason are left alone, and the answer says so."""
    rig = await edge(
        models={
            "think": {"tags": ["reasoning"], "quality": 0.9, "deployments": [at("v", "t")]},
            "plain": {"tags": ["chat"], "quality": 0.9, "deployments": [at("v", "p")]},
        },
        routes={
            "smart": {
                "models": ["think", "plain"],
                "policy": "cost_quality",
                "explore": 0,
                "levels": {"economy": {"effort": "low", "max_output": 50}},
            }
        },
        scripted=["v"],
    )
    caller = await rig.caller()

    async def asked(body: bytes, *headers: str) -> tuple[dict[str, Any], str]:
        """Return what the vendor gets, and what the caller is told."""
        await caller.send(request(body, *headers))
        line = lines[0] if lines else lines.append(await rig.vendors["v"].line()) or lines[0]
        sent = (await line.gets()).json
        reply = {"choices": [{"message": {"content": "hi"}}], "usage": usage()}
        await line.says(whole(json.dumps(reply).encode()))
        answer = await caller.answer()
        return sent, answer.header("x-penstock-route") or ""

    lines: list[Any] = []
    economy = ("x-biz-level: economy",)
    sent, route = await asked(chat("smart"), *economy, "x-pin: think")
    assert (sent["reasoning_effort"], sent["max_tokens"]) == ("low", 50)
    assert route.endswith("; effort=low; cap=50")
    decision = read((await rig.entries())[-1].decision)
    assert decision is not None
    assert (decision.effort, decision.cap) == ("low", 50)
    said = chat("smart", reasoning_effort="high", max_tokens=9)
    sent, route = await asked(said, *economy, "x-pin: think")
    assert (sent["reasoning_effort"], sent["max_tokens"]) == ("high", 9)
    assert "effort" not in route
    assert "cap" not in route
    sent, route = await asked(chat("smart"), *economy, "x-pin: plain")
    assert (sent.get("reasoning_effort"), sent["max_tokens"]) == (None, 50)
    sent, route = await asked(chat("smart"), "x-pin: think")
    assert (sent.get("reasoning_effort"), sent.get("max_tokens")) == (None, None)


async def test_what_a_policy_says_of_thinking_is_said_to_any_vendor_or_not_claimed(
    edge: Edge,
) -> None:
    """Where bodies pass and where they are translated; an answer names the effort only where the vendor was told it."""
    rig = await edge(
        models={
            name: {"tags": ["reasoning"], "quality": 0.9, "deployments": [at(vendor, upstream)]}
            for name, vendor, upstream in (
                ("claude", "anthropic", "claude-opus-4-5"),
                ("gemini", "google", "gemini-2.5-pro"),
            )
        },
        routes={
            "smart": {
                "models": ["claude", "gemini"],
                "policy": "cost_quality",
                "explore": 0,
                "levels": {"normal": {"effort": "low"}},
            }
        },
        vendors={"anthropic": {"protocol": "anthropic"}, "google": {"protocol": "gemini"}},
        scripted=["anthropic", "google"],
    )
    caller = await rig.caller()
    lines: dict[str, Any] = {}

    async def told(vendor: str, body: bytes, pin: str, path: str) -> tuple[dict[str, Any], bool]:
        """Return what the vendor gets, and whether the caller is told of an effort."""
        await caller.send(request(body, f"x-pin: {pin}", path=path))
        if vendor not in lines:
            lines[vendor] = await rig.vendors[vendor].line()
        sent = (await lines[vendor].gets()).json
        await lines[vendor].says(whole(b'{"error":{}}', status=b"400 Bad Request"))
        route = (await caller.answer()).header("x-penstock-route") or ""
        decision = read((await rig.entries())[-1].decision)
        assert decision is not None
        claimed = "; effort=low" in route
        assert claimed == (decision.effort == "low")
        return sent, claimed

    passed = message("smart", max_tokens=4000)
    sent, claimed = await told("anthropic", passed, "claude", MESSAGES)
    assert (sent["thinking"], claimed) == ({"type": "enabled", "budget_tokens": 2048}, True)
    sent, claimed = await told(
        "anthropic", message("smart", max_tokens=4000, temperature=0), "claude", MESSAGES
    )
    assert ("thinking" in sent, claimed) == (False, False)
    sent, claimed = await told("anthropic", chat("smart", temperature=0), "claude", CHAT)
    assert (sent.get("thinking"), sent["temperature"], claimed) == (None, 0, False)
    sent, claimed = await told("anthropic", chat("smart"), "claude", CHAT)
    assert (sent["thinking"]["budget_tokens"], claimed) == (2048, True)
    body = json.dumps({"contents": [{"parts": [{"text": "hi"}]}]}).encode()
    path = "/v1beta/models/smart:generateContent"
    sent, claimed = await told("google", body, "gemini", path)
    config = {"thinkingBudget": 2048, "includeThoughts": False}
    assert (sent["generationConfig"], claimed) == ({"thinkingConfig": config}, True)


async def test_an_effort_makes_one_model_of_a_vendors_into_several(edge: Edge) -> None:
    """What each costs and gets is its own, so that a route chooses how much is thought; what a call says itself holds, and no policy overrules a model."""
    upstream = at("v", "gpt-5")
    rig = await edge(
        models={
            "deep": {"quality": 0.9, "effort": "high", "deployments": [upstream]},
            "quick": {"quality": 0.6, "effort": "low", "deployments": [upstream]},
        },
        routes={
            "smart": {
                "models": ["deep", "quick"],
                "policy": "cost_quality",
                "levels": {"normal": {"effort": "medium", "min_quality": 0.8}},
            },
            "order": ["quick"],
        },
        scripted=["v"],
    )
    caller = await rig.caller()
    lines: list[Any] = []

    async def asked(body: bytes, *headers: str) -> tuple[str | None, str]:
        """Return the effort that the vendor gets, and the end of what the caller is told."""
        await caller.send(request(body, *headers))
        line = lines[0] if lines else lines.append(await rig.vendors["v"].line()) or lines[0]
        sent = (await line.gets()).json
        await line.says(whole(b'{"error":{}}', status=b"400 Bad Request"))
        route = (await caller.answer()).header("x-penstock-route") or ""
        return sent.get("reasoning_effort"), route.rpartition("; ")[2]

    assert await asked(chat("smart")) == ("high", "effort=high")
    assert await asked(chat("smart"), "x-biz-level: economy", "x-pin: quick") == (
        "low",
        "effort=low",
    )
    assert await asked(chat("order")) == ("low", "effort=low")
    effort, told = await asked(chat("order", reasoning_effort="minimal"))
    assert (effort, told) == ("minimal", "policy=declared")


async def test_a_key_keeps_to_its_models_in_a_list_and_in_auto(edge: Edge) -> None:
    """A name that the key may not use is refused wherever it stands; `auto` is made of those that it may."""
    rig = await edge(models=MODELS, routes=ROUTES, key={"models": ["small"]})
    caller = await rig.caller()
    await caller.send(request(chat("small, large")))
    answer = await caller.answer()
    assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
    assert (await served(rig, chat("auto")))[0] == "small"
    error = await refused(rig, chat("small"), "x-pin: large")
    assert "pinned to 'large'" in error["message"]


async def test_no_last_resort_is_above_the_ceiling_of_a_level(edge: Edge) -> None:
    """A call that nobody of its route can serve is not served by a dearer model than its level allows."""
    full = SMALL | {"deployments": [at("mock", "small", id="small", limits={"rpm": 1})]}
    routes = {
        "smart": {
            "models": ["small"],
            "degrade": ["large"],
            "policy": "cost_quality",
            "levels": {"economy": {"max_price": 1}},
        }
    }
    rig = await edge(
        models={"small": full, "large": LARGE}, routes=routes, edge={"queue_timeout_ms": 0}
    )
    economy = ("x-biz-level: economy",)
    assert (await served(rig, chat("smart"), *economy))[0] == "small"
    assert (await served(rig, chat("smart")))[0] == "large"
    caller = await rig.caller()
    await caller.send(request(chat("smart"), *economy))
    refusal = await caller.answer()
    assert refusal.status in {429, 503}
    assert "large: unsuitable" in refusal.error["message"]


async def test_the_next_best_serves_when_the_best_is_full(edge: Edge) -> None:
    """Limits are judged by admit on exact state; the ranks of the scorer are the order in which it looks."""
    full = LARGE | {"deployments": [at("mock", "large", id="large", limits={"rpm": 1})]}
    rig = await edge(
        models={"large": full, "small": SMALL}, routes=ROUTES, edge={"queue_timeout_ms": 0}
    )
    assert (await served(rig, chat("smart")))[0] == "large"
    model, route = await served(rig, chat("smart"))
    assert model == "small"
    assert "reason=next_best" in route
    decision = read((await rig.entries())[-1].decision)
    assert isinstance(decision, Decision)
    assert decision.lost == "40"
