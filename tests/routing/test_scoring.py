"""Laws of the choice among models: it is a pure function that gives up quality for money only as far as it is told to."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from config.wishes import Wishes
from routing.scoring import (
    DELTAS,
    ECONOMY,
    LEFT_OUT,
    NO_FACTS,
    NORMAL,
    PREMIUM,
    AtLevel,
    Call,
    Choice,
    Contender,
    Facts,
    Field,
    Lesson,
    NoneFits,
    Policy,
    blended_nusd,
    delta_of,
)

LEVELS = {level: AtLevel(*both) for level, both in DELTAS.items()}
SCORES = Policy("cost_quality", levels=LEVELS, assumed_output=500)


def contender(model: str, place: int = 0, **said: Any) -> Contender:
    """Return a model with one deployment."""
    plain: dict[str, Any] = {
        "tags": frozenset(),
        "lacks": frozenset(),
        "quality": {"": 0.8},
        "input": 1000,
        "output": 4000,
        "request": 0,
        "context": 100_000,
        "max_output": 8_000,
        "places": (place,),
        "ids": (f"{model}/p",),
        "regions": ("",),
    }
    plain |= said
    price = blended_nusd(plain["input"], plain["output"])
    return Contender(model=model, **{"price_nusd": price} | plain)


def field_of(*contenders: Contender, policy: Policy = SCORES) -> Field:
    return Field(contenders, policy, [0] * sum(len(one.places) for one in contenders))


def call(**said: Any) -> Call:
    """Return a call; its kind is its task, unless it is said."""
    plain: dict[str, Any] = {"input_tokens": 1000, "cap": 0, "n": 1, "level": NORMAL}
    return Call(**plain | {"wishes": Wishes(), "kind": said.get("task", "chat")} | said)


def first_of(choice: Choice) -> Contender:
    return choice.field.contenders[choice.first]


@st.composite
def fields(draw: st.DrawFn) -> Field:
    """Draw two to eight models of any quality and price."""
    prices = st.integers(1, 100_000)
    return field_of(
        *(
            contender(
                f"m{n}",
                n,
                quality={"": draw(st.floats(0, 1))},
                input=draw(prices),
                output=draw(prices),
                context=draw(st.sampled_from([2_000, 100_000])),
            )
            for n in range(draw(st.integers(2, 8)))
        )
    )


calls = st.builds(
    call,
    input_tokens=st.integers(0, 1900),
    cap=st.sampled_from([0, 10, 500]),
    level=st.sampled_from([PREMIUM, NORMAL, ECONOMY]),
    wishes=st.sampled_from([Wishes(), Wishes(prefer="low"), Wishes(prefer="high")]),
    complexity=st.floats(0, 1),
    pressure=st.floats(0, 1),
)


def reached(choice: Choice) -> tuple[int, float]:
    """Return the cost and the quality of the one that is first."""
    return choice.costs[choice.first], choice.qualities[choice.first]


@given(fields(), calls, st.data())
def test_less_demanding_is_never_dearer(field: Field, one: Call, data: st.DataObject) -> None:
    """From premium to economy, from high to low, from no pressure to full: cost never rises, nor what is given up falls."""
    changes = [{"level": level} for level in (PREMIUM, NORMAL, ECONOMY) if level > one.level]
    changes.append({"pressure": data.draw(st.floats(one.pressure, 1))})
    if one.wishes.prefer != "low":
        weaker = {"high": "", "": "low"}[one.wishes.prefer]
        changes.append({"wishes": replace(one.wishes, prefer=weaker)})
    try:
        before = field.choose(one, NO_FACTS)
    except NoneFits:
        assume(False)
        return
    for change in changes:
        after = field.choose(one._replace(**change), NO_FACTS)
        assert after.delta >= before.delta
        assert reached(after)[0] <= reached(before)[0]
        assert reached(after)[1] >= after.best - after.delta - 1e-9


@given(fields(), calls, st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(field: Field, one: Call, random: Any) -> None:
    """A permutation gives the same cost and quality, and the same model where no other is its equal."""
    order = list(range(len(field.contenders)))
    random.shuffle(order)
    other = field_of(*(replace(field.contenders[j], places=(n,)) for n, j in enumerate(order)))
    try:
        before = field.choose(one, NO_FACTS)
    except NoneFits:
        with pytest.raises(NoneFits):
            other.choose(one, NO_FACTS)
        return
    after = other.choose(one, NO_FACTS)
    assert reached(after)[0] == reached(before)[0]
    twins = list(before.costs).count(before.costs[before.first])
    if twins == 1:
        assert first_of(after).model == first_of(before).model


@given(fields(), calls)
def test_the_same_call_gets_the_same_choice_on_every_replica(field: Field, one: Call) -> None:
    """A field that was made anew decides alike, whatever either of them has decided before."""
    fresh = Field(field.contenders, field.policy, [0] * len(field.contenders))
    try:
        first = field.choose(one, NO_FACTS)
    except NoneFits:
        assume(False)
        return
    field.choose(one._replace(complexity=0.1), Facts(version=9))
    assert field.choose(one, NO_FACTS).tiers == first.tiers == fresh.choose(one, NO_FACTS).tiers


@given(fields(), calls)
def test_everybody_who_can_serve_has_a_tier_and_the_first_has_the_lowest(
    field: Field, one: Call
) -> None:
    """Whoever is not good enough follows whoever is; whoever cannot serve is left out."""
    try:
        choice = field.choose(one, NO_FACTS)
    except NoneFits:
        assume(False)
        return
    tiers = choice.tiers
    assert tiers[first_of(choice).places[0]] == 0
    line = choice.best - choice.delta - 1e-9
    good, rest = [], []
    for j, each in enumerate(field.contenders):
        tier = tiers[each.places[0]]
        assert (tier == LEFT_OUT) == (j in choice.lost)
        if tier != LEFT_OUT:
            (good if choice.qualities[j] >= line else rest).append(tier)
    assert not rest or max(good) < min(rest)


# Ceilings...


@given(
    st.floats(0, 1),
    st.sampled_from([frozenset[str](), frozenset({"vision"})]),
    st.sampled_from(["chat", "coding", "reasoning"]),
)
def test_nothing_in_a_request_lifts_a_ceiling(
    complexity: float, needs: frozenset[str], task: str
) -> None:
    """However complex a text makes itself look, whatever task it names: an economy key with a ceiling never gets a dearer model."""
    everything = frozenset({"vision"})
    field = field_of(
        contender("small", 0, quality={"": 0.3}, tags=everything),
        contender("large", 1, quality={"": 0.99}, input=50_000, output=200_000, tags=everything),
    )
    capped = Wishes(max_price_nusd=blended_nusd(1000, 4000))
    choice = field.choose(
        call(level=ECONOMY, wishes=capped, complexity=complexity, needs=needs, task=task), NO_FACTS
    )
    assert first_of(choice).model == "small"
    assert choice.tiers == bytes([0, LEFT_OUT])


def test_a_level_has_ceilings_and_floors_of_its_own() -> None:
    """What the route says of a level holds for its calls alone; the lower ceiling and the higher floor win."""
    levels = LEVELS | {ECONOMY: AtLevel(0.25, 0.12, min_quality=0.5, max_price_nusd=2_000_000)}
    field = field_of(
        contender("poor", 0, quality={"": 0.4}, input=1, output=1),
        contender("small", 1, quality={"": 0.6}),
        contender("large", 2, quality={"": 0.9}, input=50_000, output=200_000),
        policy=Policy("cost_quality", levels=levels),
    )
    assert field.choose(call(level=ECONOMY), NO_FACTS).tiers == bytes([LEFT_OUT, 0, LEFT_OUT])
    assert field.choose(call(level=PREMIUM), NO_FACTS).tiers == bytes([2, 1, 0])


# Who falls out...


@pytest.mark.parametrize(
    ("wishes", "said", "words"),
    [
        (Wishes(capabilities=frozenset({"coding"})), {}, "no tag coding"),
        (Wishes(max_price_nusd=1), {}, "USD per million tokens"),
        (Wishes(max_price_nusd=1), {"price_nusd": None}, "price is unknown"),
        (Wishes(min_quality=0.9), {}, "quality is 0.80"),
        (Wishes(min_quality=0.9), {"quality": {}}, "quality is not known"),
        (Wishes(pin="other"), {}, "pinned to 'other'"),
        (Wishes(regions=(frozenset({"eu"}),)), {}, "runs in an unknown region"),
        (Wishes(), {"context": 1200}, "context holds"),
    ],
)
def test_when_nobody_is_left_each_says_why(
    wishes: Wishes, said: dict[str, Any], words: str
) -> None:
    """Every candidate is named, with what it lacks."""
    field = field_of(contender("a", 0, **said), contender("b", 1, **said))
    with pytest.raises(NoneFits, match=words) as caught:
        field.choose(call(wishes=wishes), NO_FACTS)
    assert list(caught.value.reasons) == ["a", "b"]


def test_what_a_request_holds_needs_a_model_that_takes_it() -> None:
    """Who is known not to take it falls out."""
    field = field_of(
        contender("text", 0, lacks=frozenset({"vision"})),
        contender("eyes", 1, lacks=frozenset({"audio"}), input=9000),
        contender("unknown", 2, input=90_000),
    )
    choice = field.choose(call(needs=frozenset({"vision"})), NO_FACTS)
    assert choice.tiers == bytes([LEFT_OUT, 0, 1])
    assert dict(choice.lost) == {0: "the request needs vision"}


def test_a_pin_or_a_region_leaves_single_deployments_out() -> None:
    """The others of the model stay where they are."""
    two = contender("m", ids=("m/a", "m/b"), places=(0, 1), regions=("eu", "us"))
    field = field_of(two)
    assert field.fit(Wishes(pin="m/b")).tiers == bytes([LEFT_OUT, 0])
    assert field.fit(Wishes(pin="m")).tiers == bytes([0, 0])
    europe = frozenset({"eu"})
    assert field.choose(call(wishes=Wishes(regions=(europe,))), NO_FACTS).tiers == bytes(
        [0, LEFT_OUT]
    )


def test_a_policy_that_does_not_score_keeps_the_declared_order() -> None:
    """Wishes leave candidates out; nothing is ranked anew, also where a call asks for it."""
    dear = contender("dear", 0, input=90_000, tags=frozenset({"coding"}))
    cheap = contender("cheap", 1, tags=frozenset({"coding"}))
    for policy, routing in ((Policy(), "full"), (SCORES, "declared")):
        field = Field((dear, cheap), policy, [0, 1])
        wishes = Wishes(capabilities=frozenset({"coding"}), routing=routing)
        choice = field.choose(call(wishes=wishes), NO_FACTS)
        assert choice.tiers == bytes([0, 1])
        assert not choice.costs


# What is learned...


def test_pressure_is_felt_smoothly_and_by_premium_last() -> None:
    """δ grows with pressure without a jump; premium calls keep theirs until the budget is nearly spent."""
    at = AtLevel(0.1, 0.05)
    steps = [delta_of(at, NORMAL, "low", pressure / 1000) for pressure in range(1001)]
    assert steps == sorted(steps)
    assert max(after - before for before, after in pairwise(steps)) < 0.001
    assert delta_of(at, PREMIUM, "low", 0.95) == 0.1
    assert delta_of(at, PREMIUM, "low", 1.0) == pytest.approx(0.5)


@given(st.floats(0, 1), st.floats(0, 1000), st.floats(0, 1), st.floats(0, 100), st.floats(0, 1))
def test_a_lesson_keeps_a_quality_between_nothing_and_all(
    prior: float, calls: float, defects: float, votes: float, mean: float
) -> None:
    """Defects never raise it, a better vote never lowers it, and without any it is the prior."""
    lesson = Lesson(calls, defects * calls, votes, mean * votes)
    quality = lesson.corrected(prior)
    assert -1e-9 <= quality <= 1 + 1e-9
    assert lesson._replace(defects=calls).corrected(prior) <= quality + 1e-9
    assert lesson._replace(score=votes).corrected(prior) >= quality - 1e-9
    assert Lesson().corrected(prior) == pytest.approx(prior)
    assert Lesson(calls, calls * 1.5 + 60).corrected(prior) == pytest.approx(0)


@given(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=8, max_size=8), st.floats(0, 1e6))
def test_what_was_learned_of_a_kind_corrects_what_was_learned_of_its_task(
    prior: float, parts: list[float], many: float
) -> None:
    """Nothing of it is the task's word, much of it is its own; between the two it lies between."""
    votes, mean, calls, spoilt, ours, our_mean, our_calls, our_spoilt = parts
    task = Lesson(400 * calls, 400 * calls * spoilt, 400 * votes, 400 * votes * mean, 100.0)
    known = task.corrected(prior)
    assert task.corrected(prior, Lesson()) == pytest.approx(known)
    like = Lesson(
        our_calls * many,
        our_calls * many * our_spoilt,
        ours * many,
        ours * many * our_mean,
        *(900.0, our_calls * many),
    )
    both = task.corrected(prior, like)
    assert -1e-9 <= both <= 1 + 1e-9
    assert like.votes < 1 or task.corrected(prior, like._replace(score=like.votes)) >= both - 1e-9
    assert task.corrected(prior, like._replace(defects=like.calls)) <= both + 1e-9
    sure = Lesson(1e9, 1e9 * our_spoilt, 1e9, 1e9 * our_mean)
    assert task.corrected(prior, sure) == pytest.approx(our_mean * (1 - our_spoilt), abs=1e-5)
    assert 100.0 <= task.expected_output(like) <= 900.0
    assert task.expected_output(None) == task.expected_output(Lesson(calls=9)) == 100.0


def test_how_long_answers_are_is_weighed_by_those_of_which_it_is_known() -> None:
    """Calls that broke off say nothing of it, however many they are; where nothing is known of the task, its kind alone says it."""
    task = Lesson(calls=400, output=100.0, answers=400)
    like = Lesson(calls=400, defects=350, output=900.0, answers=50)
    assert task.expected_output(like) == pytest.approx(500.0)
    assert task.expected_output(like._replace(answers=0.0)) == pytest.approx(100.0)
    assert Lesson().expected_output(like) == 900.0


def test_calls_of_a_kind_go_where_that_kind_was_answered_well() -> None:
    """What is usual at the task decides for all others, and for kinds of which nothing was learned."""
    dear = contender("b", 1, output=8000)
    field = Field((contender("a"), dear), SCORES, [0, 1])
    lessons = {
        "a": {
            "coding": Lesson(400, 0, 400, 320, 100),
            "coding\x1f9h": Lesson(400, 0, 400, 120, 100),
        },
        "b": {"coding": Lesson(400, 0, 400, 320, 100)},
    }
    facts = Facts(1, lessons)
    for kind, first in (("coding\x1f9h", 1), ("coding\x1f9e", 0), ("coding", 0)):
        assert field.choose(call(task="coding", kind=kind), facts).first == first


def test_what_is_learned_changes_the_choice() -> None:
    """Votes against a model, longer answers than were assumed, a first byte after the deadline: another one is chosen."""
    field = field_of(contender("a", 0), contender("b", 1, input=1100, output=4400))
    assert first_of(field.choose(call(), NO_FACTS)).model == "a"
    disliked = Facts(1, lessons={"a": {"chat": Lesson(200, 0, 200, 20)}})
    assert first_of(field.choose(call(), disliked)).model == "b"
    longer = Facts(2, lessons={"a": {"chat": Lesson(10, output=2000)}})
    assert first_of(field.choose(call(), longer)).model == "b"
    late = Facts(3, ttft_us={"a": 5e6, "b": 1e5})
    soon = Wishes(deadline_ms=1000)
    choice = field.choose(call(wishes=soon), late)
    assert choice.tiers == bytes([LEFT_OUT, 0])
    nobody = Facts(4, ttft_us={"a": 5e6, "b": 6e6})
    assert first_of(field.choose(call(wishes=soon), nobody)).model == "a"


def test_trying_out_is_bounded() -> None:
    """Only when a request's turn has come, among those that are good enough, the least seen first; never premium, never where it is not wanted."""
    policy = Policy("cost_quality", levels=LEVELS, explore=0.05)
    field = field_of(
        contender("cheap", 0),
        contender("new", 1, input=1500),
        contender("bad", 2, quality={"": 0.1}, input=1),
        policy=policy,
    )
    seen = Facts(1, lessons={"cheap": {"chat": Lesson(100, output=500)}})
    tried = field.choose(call(explores=True), seen)
    assert first_of(tried).model == "new"
    assert tried.explored
    assert [one.lost for one in tried.scored()] == ["explored_another", "", "quality"]
    steady = {"wishes": Wishes(routing="steady")}
    for change in ({"explores": False}, {"level": PREMIUM}, steady):
        choice = field.choose(call(**{"explores": True} | change), seen)
        assert first_of(choice).model == "cheap"
        assert not choice.explored


def test_a_simple_call_gets_a_cheaper_model_than_a_complex_one() -> None:
    """The odds of a bad answer grow with complexity, so the same gap of quality weighs more."""
    field = field_of(
        contender("small", 0, quality={"": 0.80}),
        contender("large", 1, quality={"": 0.90}, input=9000, output=40_000),
    )
    chosen = [first_of(field.choose(call(complexity=c / 10), NO_FACTS)).model for c in range(11)]
    assert chosen == sorted(chosen, reverse=True)
    assert set(chosen) == {"small", "large"}


def test_more_wishes_than_are_kept_are_still_answered() -> None:
    """What is kept per wish is bounded, whatever callers make up."""
    field = field_of(contender("a"))
    for n in range(1200):
        assert field.fit(Wishes(max_price_nusd=10**12 + n)).models == (0,)
