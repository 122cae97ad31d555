"""
What holds without the store: over all replicas, never more than the limit; and everything that must be closed, closed.

The laws are checked against the limit itself, not against another account of the same arithmetic.
"""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.loader import load_text
from config.quotas import Budget, Limits
from ratelimit.asks import Ask, Boot, Denied, Grant, Nobody, boot_of
from ratelimit.degraded import (
    SOFT_PARTS,
    Closed,
    Degraded,
    Replicas,
    Rule,
    rule_of,
    rules,
)
from ratelimit.limits import RATES, WINDOWS_US, Candidate, Plan
from ratelimit.sight import FAILED, FINE, THROTTLED, Sight

SECOND = 1_000_000
MINUTE = 60 * SECOND
BOOT: Boot = boot_of("r/0.1")
KEY, ORG = "key:o/t/k", "org:o"
ALONE = Replicas(1, 0)


def candidate(name: str, tier: int = 0, **places: Any) -> Candidate:
    plain = {"input": 1000, "output": 1000, "input_estimate": 1000, "most": 4096, "provider": "p"}
    return Candidate(name, "m", tier, **plain | places)


def plan_of(*names: str) -> Plan:
    """Return a plan over deployments at one nano-USD per token."""
    return Plan((KEY, ORG), tuple(candidate(name) for name in names or ("d1",)), b"")


PLAN = plan_of()


def ask_of(plan: Plan = PLAN, **wish: Any) -> Ask:
    plain = {"input": 10, "bound": 10, "cap": 90, "assumed": 50, "n": 1, "first": True}
    return Ask(plan, "q.1", **plain | {"excluded": (), "tie": 0, "user": ""} | wish)


def judge_of(
    declared: dict[str, Rule],
    replicas: Replicas | None = ALONE,
    *,
    sight: Sight | None = None,
    live: tuple[tuple[Ask, int], ...] = (),
    at_us: int = 0,
) -> Degraded:
    """Return a judge in an outage that began at a moment; scopes that are not named have no limits."""
    known = dict.fromkeys((KEY, ORG, "model:m", "deployment:d1", "deployment:d2"), Rule())
    judge = Degraded((known | declared).get, sight or Sight())
    judge.enter(replicas, live, at_us)
    return judge


def judged(judge: Degraded, now_us: int, ask: Ask | None = None) -> Any:
    return judge.judge(ask or ask_of(), BOOT, now_us=now_us, at_us=7)


# No more than the limit...


@given(
    rpm=st.integers(1, 3000),
    count=st.integers(1, 12),
    asked=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 90 * SECOND)), max_size=150),
)
def test_requests_of_all_replicas_never_exceed_the_rate_since_the_beginning(
    rpm: int, count: int, asked: list[tuple[int, int]]
) -> None:
    """However they are spread: at each moment at most rate times the time since the outage began, and no burst on top."""
    judges = [
        judge_of({KEY: rule_of(Limits(rpm=rpm))}, Replicas(count, rank)) for rank in range(count)
    ]
    passed = 0
    for replica, now_us in sorted(asked, key=lambda one: one[1]):
        if isinstance(judged(judges[replica % count], now_us), Grant):
            passed += 1
            assert passed <= now_us * rpm / MINUTE + 1e-6


@given(
    tpm=st.integers(100, 100_000),
    count=st.integers(1, 6),
    asked=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 8 * MINUTE), st.integers(1, 3000)), max_size=80
    ),
)
def test_tokens_of_all_replicas_never_exceed_the_rate_since_the_beginning(
    tpm: int, count: int, asked: list[tuple[int, int, int]]
) -> None:
    """Also where one request is larger than a replica's share: it waits until its share has come up to it."""
    judges = [
        judge_of({ORG: rule_of(Limits(tpm=tpm))}, Replicas(count, rank)) for rank in range(count)
    ]
    passed = 0
    for replica, now_us, cap in sorted(asked, key=lambda one: one[1]):
        answer = judged(judges[replica % count], now_us, ask_of(cap=cap))
        if isinstance(answer, Grant):
            passed += min(10 + cap, tpm)
            assert passed <= now_us * tpm / MINUTE + 1e-3


@given(
    rpm=st.integers(1, 600),
    moments=st.lists(st.integers(0, 5 * MINUTE), max_size=200),
)
def test_no_window_of_an_outage_has_more_than_a_bucket_and_the_rate(
    rpm: int, moments: list[int]
) -> None:
    """A share that nobody uses fills up to one minute's worth of it, and no further."""
    judge = judge_of({KEY: rule_of(Limits(rpm=rpm))})
    passed = [now for now in sorted(moments) if isinstance(judged(judge, now), Grant)]
    for first, begin in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= rpm * (1 + (passed[last] - begin) / MINUTE) + 1e-6


@given(limit=st.integers(1, 40), count=st.integers(1, 15))
def test_places_of_all_replicas_are_the_limit(limit: int, count: int) -> None:
    """To the last one, and not one more; where there are fewer places than replicas, those without one refuse."""
    given_out = 0
    for rank in range(count):
        judge = judge_of({KEY: rule_of(Limits(concurrency=limit))}, Replicas(count, rank))
        answers = [judged(judge, SECOND) for _ in range(limit + 1)]
        given_out += sum(isinstance(one, Grant) for one in answers)
        refused = answers[-1]
        assert isinstance(refused, Denied)
        assert (refused.what, refused.scope, refused.limit) == ("concurrency", KEY, limit)
    assert given_out == limit


def test_what_runs_already_counts_where_it_runs() -> None:
    """Whoever admitted it: a place is free again when an attempt ends."""
    plan = plan_of("d1")
    judge = judge_of(
        {KEY: rule_of(Limits(concurrency=2))},
        live=((ask_of(plan), 0), (ask_of(plan), 0)),
        at_us=SECOND,
    )
    assert isinstance(judged(judge, SECOND), Denied)
    judge.release(ask_of(plan), 0, 10, 30, 5)
    assert isinstance(judged(judge, SECOND), Grant)
    assert isinstance(judged(judge, SECOND), Denied)


def test_an_attempt_that_ends_before_its_scope_is_looked_at_leaves_its_place() -> None:
    """What ended unseen does not count for ever."""
    judge = judge_of({KEY: rule_of(Limits(concurrency=1))}, live=((ask_of(), 0),))
    judge.release(ask_of(), 0, 0, 0, 0)
    assert isinstance(judged(judge, SECOND), Grant)


def test_the_truth_replaces_the_estimate() -> None:
    """Tokens that were not used are there for the next; a settlement of another outage gives nothing back."""
    declared = {KEY: rule_of(Limits(tpm=600))}
    judge = judge_of(declared)
    first = ask_of(cap=290)
    assert isinstance(judged(judge, 30 * SECOND, first), Grant)
    assert isinstance(judged(judge, 30 * SECOND, ask_of(cap=190)), Denied)
    judge.release(first, 0, 10, 100, 0)
    assert isinstance(judged(judge, 30 * SECOND, ask_of(cap=190)), Grant)
    judge.enter(Replicas(1, 0), (), 40 * SECOND)
    judge.release(first, 0, 0, 0, 0)
    assert isinstance(judged(judge, 40 * SECOND, ask_of(cap=10)), Denied)


def test_a_retry_asks_no_second_request_of_its_caller() -> None:
    """But of the deployment it does."""
    declared = {
        KEY: rule_of(Limits(rpm=60)),
        "deployment:d1": rule_of(Limits(rpm=120)),
    }
    judge = judge_of(declared)
    assert isinstance(judged(judge, SECOND), Grant)
    assert isinstance(judged(judge, SECOND, ask_of(first=False)), Grant)
    again = judged(judge, SECOND, ask_of(first=False))
    assert isinstance(again, Nobody)
    assert again.lost == ("requests",)
    assert again.retry_us == SECOND // 2


def test_a_refusal_keeps_its_word() -> None:
    """Whoever waits as long as it says is let through, and not before; the headers tell of this replica's share."""
    judge = judge_of({KEY: rule_of(Limits(rpm=30)), ORG: rule_of(Limits(rpm=90))}, Replicas(3, 1))
    refused = judged(judge, 0)
    assert isinstance(refused, Denied)
    assert (refused.what, refused.scope, refused.limit) == ("requests", KEY, 30)
    assert refused.retry_us == 6 * SECOND
    assert refused.degraded == "store; share=1/3"
    assert refused.limits[:2] == (10, 0)
    assert isinstance(judged(judge, refused.retry_us - 1000), Denied)
    granted = judged(judge, refused.retry_us)
    assert isinstance(granted, Grant)
    assert granted.degraded == "store; share=1/3"
    assert (granted.at_us, granted.cap, granted.boot) == (7, 0, BOOT)


def test_what_is_larger_than_a_limit_is_refused_as_such() -> None:
    """Waiting would not help."""
    judge = judge_of({KEY: rule_of(Limits(tpm=5))})
    refused = judged(judge, MINUTE)
    assert isinstance(refused, Denied)
    assert (refused.what, refused.retry_us) == ("too_large", 0)


# Closed...


def test_nothing_passes_when_nobody_knows_how_many_share() -> None:
    """A replica that has never seen a beat answered closes."""
    assert isinstance(judged(judge_of({}, None), SECOND), Closed)


def test_a_scope_that_is_not_known_is_closed() -> None:
    """What is not known cannot be held."""
    judge = Degraded({}.get, Sight())
    judge.enter(Replicas(1, 0), (), 0)
    answer = judged(judge, SECOND)
    assert answer == Closed("the limits of key o/t/k are not known here")


@pytest.mark.parametrize(
    ("limits", "budgets", "default"),
    [
        (Limits(), (Budget(usd=1, per="day", mode="strict"),), "share"),
        (Limits(), (Budget(usd=1, per="day", when_store_is_down="closed"),), "share"),
        (Limits(rpm=10, when_store_is_down="closed"), (), "share"),
        (Limits(when_store_is_down="share"), (Budget(usd=1, per="day"),), "closed"),
        (Limits(), (), "closed"),
    ],
)
def test_what_declares_closed_is_closed(
    limits: Limits, budgets: tuple[Budget, ...], default: str
) -> None:
    """A strict budget always, the others as they say or as the store's setting says for them."""
    judge = judge_of({ORG: rule_of(limits, budgets, default=default)})
    answer = judged(judge, 10 * MINUTE)
    assert isinstance(answer, Closed)
    assert "org o" in answer.why


def test_what_declares_share_goes_on_though_the_default_is_closed() -> None:
    """The limit's own word is the one that counts."""
    limits = Limits(when_store_is_down="share")
    budgets = (Budget(usd=1, per="day", when_store_is_down="share"),)
    judge = judge_of({ORG: rule_of(limits, budgets, default="closed")})
    assert isinstance(judged(judge, SECOND), Grant)


# Soft budgets...


@given(
    count=st.integers(1, 5),
    costs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 200)), max_size=300),
)
def test_an_outage_costs_a_soft_budget_a_twentieth_at_most(
    count: int, costs: list[tuple[int, int]]
) -> None:
    """Over all replicas, but for what the last call on each goes beyond its share."""
    amount = 20_000
    fund = (Budget(usd=Decimal(amount) / 10**9, per="day"),)
    judges = [judge_of({ORG: rule_of(Limits(), fund)}, Replicas(count, n)) for n in range(count)]
    spent = 0
    for replica, cost in costs:
        judge, ask = judges[replica % count], ask_of()
        if isinstance(judged(judge, SECOND, ask), Grant):
            spent += cost
            judge.release(ask, 0, 10, 20, cost)
    assert spent <= amount / SOFT_PARTS + count * 200


def test_a_soft_budget_that_was_spent_stays_spent() -> None:
    """What the store has refused within the minute before it fell silent is not forgotten."""
    fund = (Budget(usd=1, per="day"),)
    judge = judge_of({ORG: rule_of(Limits(), fund)})
    judge.leave()
    judge.remember(Denied("budget", ORG, 10**9, 0, 0, (), "day"), 100 * SECOND)
    judge.enter(Replicas(1, 0), (), 130 * SECOND)
    refused = judged(judge, 131 * SECOND)
    assert isinstance(refused, Denied)
    assert (refused.what, refused.scope, refused.period) == ("budget", ORG, "day")
    judge.leave()
    judge.remember(Denied("requests", ORG, 10, 0, 0, (), ""), 200 * SECOND)
    judge.enter(Replicas(1, 0), (), 230 * SECOND)
    assert isinstance(judged(judge, 231 * SECOND), Grant)


# The choice...


def test_the_quickest_that_is_not_busy_is_chosen() -> None:
    """First bytes seen here, times what runs here; equals take turns; the lowest tier that can goes first."""
    sight = Sight()
    sight.learn("d1", 0, FINE, 1000, 0)
    sight.learn("d2", 0, FINE, 2500, 0)
    judge = judge_of({}, sight=sight)
    plan = plan_of("d1", "d2")
    chosen = [judged(judge, 0, ask_of(plan)).candidate for _ in range(6)]
    assert chosen == [0, 0, 1, 0, 0, 0]
    fresh = judge_of({})
    assert [judged(fresh, 0, ask_of(plan, tie=tie)).candidate for tie in (1, 0)] == [1, 0]
    tiers = Plan((KEY, ORG), (candidate("d1", 1), candidate("d2", 0)), b"")
    granted = judged(judge_of({}, sight=sight), 0, ask_of(tiers))
    assert (granted.candidate, granted.why) == (1, "order")
    own = judged(judge_of({}, sight=sight), 0, ask_of(tiers, tiers=b"\x00\xff"))
    assert (own.candidate, own.lost) == (0, "0d")


def test_who_cannot_serve_is_passed_over() -> None:
    """Drained, tried, throttled, full: each is a word; one that only fails is still better than nobody."""
    sight = Sight()
    plan = plan_of("d1", "d2")
    sight.learn("d1", 0, THROTTLED, 0, 20 * SECOND)
    judge = judge_of({"deployment:d2": Rule(drained=True)}, sight=sight)
    nobody = judged(judge, 0, ask_of(plan))
    assert isinstance(nobody, Nobody)
    assert (nobody.lost, nobody.retry_us) == (("throttled", "drained"), 20 * SECOND)
    assert nobody.degraded == "store; share=1/1"
    assert judged(judge, 0, ask_of(plan, excluded=(1,))).lost == ("tried", "drained")
    failing = Sight()
    for _ in range(3):
        failing.learn("d1", 0, FAILED, 0, 0)
    judge = judge_of({"deployment:d2": rule_of(Limits(concurrency=1))}, sight=failing)
    assert judged(judge, 0, ask_of(plan)).candidate == 1
    least_bad = judged(judge, 0, ask_of(plan))
    assert (least_bad.candidate, least_bad.why, least_bad.lost) == (0, "least_bad", "03")
    judge = judge_of({"model:m": rule_of(Limits(rpm=60))})
    assert judged(judge, 0).lost == ("model_limit",)


# What is declared...


def test_the_rules_of_a_configuration_name_every_scope() -> None:
    """Keys, teams, organizations, models and deployments, by the names that plans use."""
    loaded = load_text(
        """
store: {when_down: closed}
providers: {p: {protocol: openai, base_url: http://h}}
models: {m: {limits: {rpm: 5}, deployments: [{provider: p, weight: 3, drained: true}]}}
organizations:
  o:
    budget: {usd: 2, per: month, mode: strict}
    teams: {t: {keys: {k: {key: "sha256:%s", limits: {tpm: 7, when_store_is_down: share}}}}}
"""
        % ("0" * 64),
        source="f",
        environ={},
    )
    found = rules(loaded.config)
    assert set(found) == {KEY, "team:o/t", ORG, "model:m", "deployment:m/p"}
    assert found["deployment:m/p"].weight == 3
    assert found["deployment:m/p"].drained
    assert [rate.amount for rate in found[KEY].rates] == [7]
    assert not found[KEY].closed
    assert found["team:o/t"].closed
    assert found[ORG].funds[0].strict


def test_of_what_cells_share_the_least_share_holds() -> None:
    """A cell that is away had a quarter of an even share at least; callers' limits are whole."""
    text = CONFIGURED.replace("rpd: 7", "rpd: 80, concurrency: 9").replace(
        "when_down: share", "when_down: share, cells: 2"
    )
    found = rules(load_text(text, source="t", environ={}).config)
    assert [rate.amount for rate in found["provider:p"].rates] == [10]
    assert found["provider:p"].concurrency == 1
    assert [rate.amount for rate in found["user:o#ann"].rates] == [86400]


def test_a_judge_needs_no_loop() -> None:
    """It is plain arithmetic."""
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    assert isinstance(judged(judge_of({}), 0), Grant)


# Every scope, every window...

CONFIGURED = """
store: {when_down: share}
providers: {p: {protocol: openai, base_url: http://127.0.0.1:9, limits: {rpd: 7}}}
models: {m: {deployments: [{provider: p}]}}
organizations:
  o:
    users: {default: {limits: {itpm: 600}}, ann: {limits: {otpd: 86400}}}
    applications: {default: {limits: {rps: 3, burst: {rps: 1}}}}
    organizations:
      e:
        teams: {t: {keys: {k: {key: sk-a-key-of-the-tests-0123456789, application: web}}}}
"""


def test_every_declared_scope_has_a_rule() -> None:
    """Also organizations in organizations, applications that the default holds for, and providers that are limited."""
    found = rules(load_text(CONFIGURED, source="t", environ={}).config)
    assert set(found) == {
        *("org:o", "org:o/e", "team:o/e/t", "key:o/e/t/k", "application:o#web"),
        *("user:o#ann", "users:o", "provider:p", "model:m", "deployment:m/p"),
    }
    (rate,) = found["application:o#web"].rates
    assert (rate.what, rate.amount, rate.burst, rate.window_us) == ("requests", 3, 1, SECOND)
    assert found["user:o#ann"].rates[0].what == "output"


@pytest.mark.parametrize("rate", RATES)
def test_no_window_lets_more_pass_than_its_share(rate: str) -> None:
    """Of requests, tokens, input or output: from the beginning of the outage on, the limit times the time."""
    judge = judge_of({KEY: rule_of(Limits(**{rate: 100}))}, Replicas(2, 0))
    window = WINDOWS_US[rate[-1]]
    wish = {"input": 0, "cap": 1} if rate[0] == "o" else {"input": 1, "cap": 0, "assumed": 0}
    granted = 0
    for step in range(1, 401):
        answer = judged(judge, window * step // 200, ask_of(**wish))
        granted += isinstance(answer, Grant)
        if isinstance(answer, Denied):
            assert (answer.rate, answer.scope) == (rate, KEY)
        assert granted <= 50 * step / 200 + 1e-9
    assert granted >= 99


def test_a_user_is_held_by_what_holds_for_all_or_by_his_own() -> None:
    """Each has a share to himself; where nobody knows the limits of users, nobody is admitted."""
    plan = Plan((KEY,), (candidate("d1"),), b"", ("o",))
    declared = {
        "users:o": rule_of(Limits(rpm=60)),
        "user:o#ann": rule_of(Limits(concurrency=1)),
    }
    judge = judge_of(declared)
    for user in ("bob", "cy"):
        assert isinstance(judged(judge, SECOND, ask_of(plan, user=user)), Grant)
        refused = judged(judge, SECOND, ask_of(plan, user=user))
        assert isinstance(refused, Denied)
        assert refused.scope == f"user:o#{user}"
    first = ask_of(plan, user="ann")
    assert isinstance(judged(judge, SECOND, first), Grant)
    assert isinstance(judged(judge, SECOND, ask_of(plan, user="ann")), Denied)
    judge.release(first, 0, 1, 2, 3)
    assert isinstance(judged(judge, SECOND, ask_of(plan, user="ann")), Grant)
    assert isinstance(judged(judge_of({}), SECOND, ask_of(plan, user="bob")), Closed)
    assert isinstance(judged(judge_of({}), SECOND, ask_of(plan)), Grant)


def test_what_serves_is_passed_over_at_its_share() -> None:
    """A provider's rate, a spent or strict budget of a model: another candidate, or nobody, and the reason."""
    one, two = candidate("d1", limited_provider=True), candidate("d2", tier=1, provider="q")
    plan = Plan((KEY,), (one, two), b"")
    judge = judge_of({"provider:p": rule_of(Limits(rpm=60))})
    answers = [judged(judge, SECOND, ask_of(plan)) for _ in range(2)]
    assert [answer.candidate for answer in answers] == [0, 1]
    strict = Budget(usd=Decimal(1), per="day", mode="strict")
    judge = judge_of({"provider:p": rule_of(Limits(), (strict,))})
    assert judged(judge, SECOND, ask_of(plan)).candidate == 1
    nobody = judged(judge, SECOND, ask_of(plan, excluded=(2,)))
    assert isinstance(nobody, Nobody)
    assert nobody.lost == ("own_budget", "tried")


def test_invented_users_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound nobody new is admitted until the store answers."""
    monkeypatch.setattr("ratelimit.degraded.MOST_SCOPES", 10)
    plan = Plan((KEY,), (candidate("d1"),), b"", ("o",))
    judge = judge_of({"users:o": rule_of(Limits(rpm=60))})
    answers = [judged(judge, SECOND, ask_of(plan, user=f"u{n}")) for n in range(20)]
    assert isinstance(answers[0], Grant)
    assert isinstance(answers[-1], Closed)
