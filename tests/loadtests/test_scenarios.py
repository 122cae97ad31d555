"""Laws of the scenarios: what one seed asks is always the same, lengths lie where they are documented, and bodies are what vendors take."""

import json
import random
import re
import statistics

import pytest

from loadtests import scenarios
from loadtests.scenarios import (
    DEFAULT_TENANTS,
    SCENARIOS,
    BadTenants,
    Draw,
    Length,
    class_of,
    draw_tenant,
    read_tenants,
)


def draw(seed=1):
    return Draw(random.Random(seed), DEFAULT_TENANTS[0], "m", "e")


@pytest.mark.parametrize("name", SCENARIOS)
def test_one_seed_asks_one_question(name):
    """And another seed another, as long as anything is drawn."""
    build = SCENARIOS[name]
    assert build(draw(1)) == build(draw(1))
    assert len({build(draw(seed)).body for seed in range(8)}) > 1


@pytest.mark.parametrize("name", SCENARIOS)
def test_bodies_are_json_that_names_model_and_stream(name):
    """What the record says of a call is what its body asks."""
    for seed in range(5):
        call = SCENARIOS[name](draw(seed))
        body = json.loads(call.body)
        assert body["model"] == ("e" if call.scenario == "embeddings" else "m")
        assert call.stream == bool(body.get("stream"))
        assert call.path.startswith("/v1/")
        assert call.tenant == "premium"


@pytest.mark.parametrize(
    "length", [value for value in vars(scenarios).values() if isinstance(value, Length)]
)
def test_lengths_are_as_documented(length):
    """The median within a tenth, everything within the bounds, and the table in the docstring says the same."""
    random_ = random.Random(4)
    drawn = [length.draw(random_) for _ in range(4000)]
    assert length.least <= min(drawn)
    assert max(drawn) <= length.most
    assert abs(statistics.median(drawn) / length.median - 1) < 0.1
    row = rf"\| {length.median:,} \| {length.sigma} \| {length.least:,} to {length.most:,} \|"
    assert re.search(row, scenarios.__doc__)


def test_a_text_has_four_bytes_per_token():
    """As the mock vendor counts."""
    assert [len(draw().text(tokens)) for tokens in (1, 10, 1000)] == [4, 40, 4000]


def test_an_agent_has_tools_and_many_turns_over_a_long_context():
    """System message, then turns that each called a tool."""
    body = json.loads(SCENARIOS["agent"](draw(3)).body)
    roles = [message["role"] for message in body["messages"]]
    assert roles[0] == "system"
    assert roles[1:4] == ["user", "assistant", "tool"]
    assert len(roles) >= 10
    assert len(body["tools"]) >= 5
    assert len(json.dumps(body)) > 4 * 1500


def test_the_mixture_is_as_documented():
    """55, 20, 15 and 10 of a hundred, within a few."""
    calls = [SCENARIOS["mixed"](draw(seed)).scenario for seed in range(1000)]
    shares = {name: calls.count(name) / 10 for name in set(calls)}
    for name, share in (("chat-stream", 55), ("chat", 20), ("embeddings", 15), ("agent", 10)):
        assert abs(shares[name] - share) < 5


def test_the_misbehaving_misbehave():
    """Each in its own way."""
    assert SCENARIOS["slow-reader"](draw()).slow_bytes_s
    assert 1 <= SCENARIOS["leaver"](draw()).leave_after <= 20
    assert SCENARIOS["retry-storm"](draw()).retries == 5
    kinds = {SCENARIOS["unruly"](draw(seed)).scenario for seed in range(300)}
    assert {"slow-reader", "leaver", "retry-storm", "chat-stream"} <= kinds


def test_tenants_are_drawn_by_weight():
    """One in ten is premium, six are economy."""
    random_ = random.Random(2)
    levels = [draw_tenant(random_, DEFAULT_TENANTS).level for _ in range(2000)]
    assert 140 < levels.count("premium") < 260
    assert levels.count("economy") > levels.count("normal") > levels.count("premium")


def test_a_file_of_tenants():
    """Names, levels, weights, keys."""
    (tenant,) = read_tenants([{"name": "a", "level": "normal", "weight": 2, "key": "sk"}])
    assert (tenant.name, tenant.level, tenant.weight, tenant.key) == ("a", "normal", 2, "sk")


def test_every_mistake_in_a_file_of_tenants_is_told():
    """All of them at once, with the tenant's number."""
    rows = [{"level": "vip", "weight": 0}, {"name": "b", "level": "normal", "colour": 1}, 3]
    with pytest.raises(BadTenants) as told:
        read_tenants(rows)
    words = str(told.value)
    for part in ("name is missing", "'vip'", "weight 0", "tenant 2: unknown setting 'colour'"):
        assert part in words
    assert "tenant 3 is no mapping" in words
    with pytest.raises(BadTenants, match="a list"):
        read_tenants({})


def test_a_scenario_names_its_class_of_users():
    """As Locust's command line has it."""
    assert class_of("chat") == "ChatUser"
    assert class_of("chat-stream") == "ChatStreamUser"
