"""Laws of choices that were made before: none differs from what the scorer would choose now."""

from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from config.wishes import Wishes
from routing.alike import KEPT_MODELS, Choices, rounded_complexity, rounded_tokens
from routing.scoring import LEFT_OUT, NO_FACTS, Call, Choice, Facts, Field, Lesson, NoneFits, chosen
from tests.routing.test_scoring import call, calls, contender, field_of, fields

RESORT = field_of(contender("last", 0, context=3_000))


def alike(one: Call) -> Call:
    return one._replace(
        input_tokens=rounded_tokens(one.input_tokens),
        complexity=rounded_complexity(one.complexity),
    )


def judged(choose: Callable[..., Choice], *said: object) -> dict[str, Any]:
    """Return all that is chosen, or why nobody is."""
    try:
        choice = choose(*said)
    except NoneFits as none:
        return {"reasons": none.reasons}
    return {name: getattr(choice, name) for name in Choice.__slots__}


def scored(field: Field, resort: Field | None, one: Call, facts: Facts) -> Choice:
    """Choose by the scorer alone: by the rounded size, unless a context may be too small."""
    with suppress(NoneFits):
        choice = chosen(field, resort, alike(one), facts)
        if not choice.overflows:
            return choice
    return chosen(field, resort, alike(one)._replace(input_tokens=one.input_tokens), facts)


@given(fields(), st.lists(calls, min_size=1, max_size=6), st.booleans(), st.integers(0, 2))
def test_what_was_chosen_before_is_what_would_be_chosen_now(
    field: Field, several: list[Call], is_behind: bool, changes: int
) -> None:
    """Whatever was asked before, and whatever the facts were."""
    resort = RESORT if is_behind else None
    kept = Choices(field, resort)
    for version in range(changes + 1):
        facts = Facts(version, lessons={"m0": {"chat": Lesson(50, 25.0 * version)}})
        for one in (*several, *several):
            found = judged(kept.choose, alike(one), facts, one.input_tokens)
            assert found == judged(scored, field, resort, one, facts)


@given(fields(), calls)
@example(field_of(contender("m0", context=2_000)), call(input_tokens=1450))
@example(field_of(contender("m0", context=2_000), contender("m1", 1)), call(input_tokens=1450))
def test_a_context_is_judged_by_the_size_that_a_call_has(field: Field, one: Call) -> None:
    """Nobody falls out, or stays in, because a size was rounded."""
    exact = judged(chosen, field, None, one, NO_FACTS)
    found = judged(Choices(field).choose, alike(one), NO_FACTS, one.input_tokens)
    assert found.get("reasons") == exact.get("reasons")
    assert [tier == LEFT_OUT for tier in found.get("tiers", b"")] == [
        tier == LEFT_OUT for tier in exact.get("tiers", b"")
    ]


def test_alike_calls_share_a_choice_while_the_facts_hold() -> None:
    """Also calls whose wishes are equal, but not the same; new facts begin anew."""
    choices = Choices(field_of(contender("a", 0), contender("b", 1)))
    first = choices.choose(call(wishes=Wishes(prefer="low")), NO_FACTS, 1000)
    assert choices.choose(call(wishes=Wishes(prefer="low")), NO_FACTS, 990) is first
    assert choices.choose(call(wishes=Wishes(prefer="high")), NO_FACTS, 1000) is not first
    again = choices.choose(call(wishes=Wishes(prefer="low")), Facts(1), 1000)
    assert again is not first
    assert again.version == 1


def test_what_is_kept_is_bounded() -> None:
    """By the models that stand in it, whatever callers send."""
    choices = Choices(field_of(*(contender(f"m{n}", n) for n in range(200))))
    first = choices.choose(call(cap=1), NO_FACTS, 1000)
    most = KEPT_MODELS // 200
    for cap in range(2, most + 1):
        choices.choose(call(cap=cap), NO_FACTS, 1000)
    assert choices.choose(call(cap=1), NO_FACTS, 1000) is first
    choices.choose(call(cap=most + 1), NO_FACTS, 1000)
    assert choices.choose(call(cap=1), NO_FACTS, 1000) is not first


@given(st.integers(0, 10**9))
def test_a_size_is_rounded_up_by_little(tokens: int) -> None:
    """By less than 64 tokens or an eighth, and what is larger is never rounded to less."""
    rounded = rounded_tokens(tokens)
    assert tokens <= rounded < tokens + max(64, tokens / 8)
    assert rounded_tokens(rounded) == rounded
    assert rounded_tokens(tokens + 1) >= rounded


def test_few_sizes_and_complexities_are_told_apart() -> None:
    """Eight sizes for each doubling, and eleven complexities in their order."""
    assert len({rounded_tokens(tokens) for tokens in range(4096, 8192)}) <= 9
    complexities = [rounded_complexity(n / 1000) for n in range(1001)]
    assert all(left <= right for left, right in pairwise(complexities))
    assert len(set(complexities)) == 11
