"""Limits as the scripts read them: from the configuration into packed records, and back into words."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.models import Config
from config.offers import Deployment, Model
from config.quotas import Budget, Burst, Limits, Raise
from config.tenants import Key, Organization, Team
from config.trials import Experiment, ShadowTest
from ratelimit.limits import (
    KINDS,
    RATES,
    WINDOWS_US,
    decode_scope,
    deployment_key,
    pack_limits,
    records,
    scope_key,
)
from tests.ratelimit.cell import Cell
from tests.ratelimit.drive import KEY, MONTH, NOW, Drive, strict
from tests.ratelimit.oracle import moment

amounts = st.none() | st.integers(1, 10**6)
limits = st.builds(
    Limits,
    **dict.fromkeys(RATES, amounts),
    concurrency=amounts,
    burst=st.builds(Burst, **dict.fromkeys(RATES, amounts)),
)
budgets = st.lists(
    st.builds(
        Budget,
        usd=st.decimals(Decimal("0.000000001"), 9_000_000, places=9),
        per=st.sampled_from(list(KINDS)),
        mode=st.sampled_from(["strict", "soft"]),
        time_zone=st.sampled_from([None, "UTC", "Europe/Berlin"]),
        raised=st.none() | st.just(Raise(usd=Decimal(9), until="2030-01-01")),
    ),
    unique_by=lambda budget: budget.per,
).map(tuple)


@given(version=st.integers(1, 2**40), limits=limits, budgets=budgets)
def test_a_record_says_what_was_configured(
    version: int, limits: Limits, budgets: tuple[Budget, ...]
) -> None:
    """To the nano-USD; what is not limited is not there."""
    found = decode_scope(pack_limits(version, limits, budgets), None)
    assert found.version == version
    for name in RATES:
        limit = getattr(limits, name)
        assert found.limit(name) == (limit or 0)
        if limit is not None:
            burst = getattr(limits.burst, name) or limit
            assert (found.rates[name].burst, found.rates[name].tat_us) == (burst, 0)
            # More than a month's worth is refused by the configuration, and is not exact here.
            if found.rates[name].depth_us < 31 * WINDOWS_US["d"]:
                assert found.rates[name].remaining(name, 10**12) == burst
    assert found.concurrency == (limits.concurrency or 0)
    assert {one.per: found.budgets[one.per].amount_nusd for one in budgets} == {
        one.per: one.usd * 10**9 for one in budgets
    }
    for one in budgets:
        state = found.budgets[one.per]
        assert state.strict == (one.mode == "strict")
        assert state.raised_nusd == (9 * 10**9 if one.raised else 0)
        assert (state.raised_until_us > 0) == (one.raised is not None)


def test_a_raise_ends_when_the_clocks_of_its_zone_say_so() -> None:
    """A moment without an offset is one of the budget's own time zone; one with an offset is where it is."""

    def until(text: str, zone: str | None, default: str = "UTC") -> int:
        raised = Raise(usd=Decimal(9), until=text)
        budget = Budget(usd=Decimal(1), per="day", time_zone=zone, raised=raised)
        packed = pack_limits(1, Limits(), (budget,), time_zone=default)
        return decode_scope(packed, None).budgets["day"].raised_until_us

    hour = 3600 * 10**6
    summer = until("2026-07-01", "UTC")
    assert summer == moment(2026, 7, 1)
    assert until("2026-07-01", "Europe/Berlin") == summer - 2 * hour
    assert until("2026-07-01", None, "Europe/Berlin") == summer - 2 * hour
    assert until("2026-07-01T02:30+03:00", "Europe/Berlin") == summer - hour // 2


def test_a_deployment_carries_its_weight_and_whether_it_is_drained() -> None:
    """No other scope has a weight, or the health that goes with it."""
    found = decode_scope(pack_limits(3, Limits(rpm=5), weight=7, drained=True), None)
    assert (found.limit("rpm"), found.weight, found.drained) == (5, 7, True)
    assert decode_scope(pack_limits(3, Limits(rpm=5)), None).weight == 0


def test_every_scope_of_a_configuration_has_a_record() -> None:
    """Organizations, teams, keys, models and deployments; each with its own limits, under its own key."""
    config = Config(
        models={
            "m": Model(
                limits=Limits(rpm=1),
                deployments=(
                    Deployment(provider="p", limits=Limits(rpm=2), weight=3),
                    Deployment(provider="p", drained=True),
                    Deployment(provider="q", id="mine"),
                ),
            )
        },
        experiments={
            "dark": Experiment(
                asked="m",
                shadow=ShadowTest(
                    model="m", concurrency=7, budgets=(Budget(usd=Decimal(3), per="day"),)
                ),
            )
        },
        organizations={
            "o": Organization(
                limits=Limits(rpm=4),
                teams={
                    "t": Team(
                        limits=Limits(rpm=5),
                        budgets=Budget(usd=Decimal(2), per="week"),
                        keys={"k": Key(key="sha256:" + "0" * 64, limits=Limits(rpm=6))},
                    )
                },
            )
        },
    )
    found = {key: decode_scope(packed, None) for key, packed in records(config, 9)}
    assert {key: state.limit("rpm") for key, state in found.items()} == {
        scope_key("org:o"): 4,
        scope_key("team:o/t"): 5,
        scope_key("key:o/t/k"): 6,
        scope_key("model:m"): 1,
        deployment_key("m/p"): 2,
        deployment_key("m/p#2"): 0,
        deployment_key("mine"): 0,
        scope_key("shadow:dark"): 0,
    }
    assert found[scope_key("shadow:dark")].concurrency == 7
    assert found[scope_key("shadow:dark")].budgets["day"].amount_nusd == 3 * 10**9
    assert {state.version for state in found.values()} == {9}
    assert found[scope_key("team:o/t")].budgets["week"].amount_nusd == 2 * 10**9


def test_a_state_is_read_as_the_scripts_leave_it(cell: Cell) -> None:
    """Every place of it has its name."""
    drive = Drive(cell, key=replace(strict(90_000, MONTH), rpm=60, tpm=60_000, concurrency=3))
    asks = [drive.ask() for _ in range(2)]
    drive.send(*asks)
    drive.settle(drive.truth(asks[0], cost=40, health=1, ttft=777))
    for health, cool in ((2, 0), (2, 0), (2, 0), (3, 5_000_000)):
        ask = drive.ask()
        drive.send(ask)
        drive.settle(drive.truth(ask, health=health, cool=cool, cost=0))
    found = decode_scope(*cell.client.hmget(scope_key(KEY), "l2", "s2"))
    assert (found.limit("rpm"), found.limit("tpm")) == (60, 60_000)
    assert (found.concurrency, found.in_flight) == (3, 1)
    assert found.budgets["month"].spent_nusd == 40
    assert found.budgets["month"].held_nusd == 4106
    assert found.budgets["month"].strict
    assert found.rates["rpm"].tat_us == NOW + 6 * 10**6
    assert found.rates["rpm"].remaining("rpm", NOW) == 54
    assert found.rates["tpm"].tat_us > NOW
    served = decode_scope(*cell.client.hmget(deployment_key("d1"), "l2", "s2"))
    assert (served.latency_us, served.failures) == (777, 3)
    assert served.cooling_until_us == NOW + 1_000_000
    assert served.throttled_until_us == NOW + 5_000_000


@pytest.mark.parametrize("scope", ["key:a/b/c", "team:a/b", "org:a", "model:x:y/z"])
def test_a_scope_is_found_under_its_name(scope: str) -> None:
    """Names may hold colons and slashes."""
    assert scope_key(scope) == "{c0}:s:" + scope
