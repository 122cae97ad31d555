"""What callers declare: nobody is more important than his key, and what is not understood is refused by name."""

from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from msgspec import Raw
from multidict import CIMultiDict, CIMultiDictProxy

from config.wishes import NO_WISHES, Wishes
from governance.identity import Caller
from proxy import declared
from proxy.declared import (
    LEVELS,
    declares,
    level_of,
    models_of,
    patience_s,
    wishes_of,
    without_hints,
)
from proxy.errors import BadRequest
from proxy.wire.look import BadField, Hints, hints_in


def heads(**said: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(
        CIMultiDict({name.replace("_", "-"): text for name, text in said.items()})
    )


def caller(level: str) -> Caller:
    return cast("Caller", SimpleNamespace(biz_level=level))


@pytest.mark.parametrize(
    "name", ["x-biz-level", "x-models", *(f"x-{name}" for name in declared.WISHES)]
)
def test_whatever_declares_is_seen_in_any_case(name: str) -> None:
    """The one look that spares all others misses no header of the table, however it is spelled."""
    for spelled in (name, name.title(), name.upper()):
        assert declares(heads(host="a", **{spelled: "1"}))
    assert not declares(heads(host="a", authorization="b", x_stainless_lang="python"))


@pytest.mark.parametrize("carried", LEVELS)
@pytest.mark.parametrize("said", LEVELS)
def test_a_call_is_never_above_its_key(carried: str, said: str) -> None:
    """A call may declare itself less important than its key, not more; header and metadata say the same."""
    wanted = max(LEVELS[carried], LEVELS[said])
    assert level_of(caller(carried), heads(x_biz_level=f" {said.upper()} "), None) == wanted
    assert level_of(caller(carried), heads(), Hints(biz_level=said)) == wanted
    assert level_of(caller(carried), heads(x_biz_level=said), Hints(biz_level="nonsense")) == wanted


def test_what_is_not_declared_is_as_the_key_says() -> None:
    """Silence, and metadata that speaks of something else, leave the key's level."""
    assert level_of(caller("economy"), heads(), None) == 3
    assert level_of(caller("premium"), heads(), Hints(prefer_cost="low")) == 1


@pytest.mark.parametrize(
    ("headers", "hints", "param"),
    [
        (heads(x_biz_level="vip"), None, "x-biz-level"),
        (heads(x_biz_level=""), None, "x-biz-level"),
        (heads(), Hints(biz_level="gold\n"), "metadata.biz_level"),
    ],
)
def test_an_unknown_level_is_refused_by_name(headers: Any, hints: Any, param: str) -> None:
    """The error names where it stands and what it can be, and repeats nothing unprintable."""
    with pytest.raises(BadRequest, match="premium, normal or economy") as caught:
        level_of(caller("normal"), headers, hints)
    assert caught.value.param == param
    assert caught.value.message.isprintable()


def wishing(wishes: Wishes = NO_WISHES) -> Caller:
    return cast("Caller", SimpleNamespace(wishes=wishes))


def test_a_deadline_bounds_the_wait_and_never_lengthens_it() -> None:
    """The shorter of the two holds; a call's own stands in place of its key's."""

    def patience(longest_s: float, carried_ms: int = 0, **said: str) -> float:
        caller = wishing(Wishes(deadline_ms=carried_ms))
        return patience_s(longest_s, wishes_of(caller, heads(**said), None))

    assert patience(1.0) == 1.0
    assert patience(1.0, x_deadline_ms="250") == 0.25
    assert patience(1.0, x_deadline_ms=" 60000 ") == 1.0
    assert patience(0.0, x_deadline_ms="250") == 0.0
    assert patience(1.0, 100) == 0.1
    assert patience(1.0, 100, x_deadline_ms="250") == 0.25


@pytest.mark.parametrize("said", ["", "0", "-1", "1.5", "soon", "٣", "1e3", "9" * 11, "9" * 5000])
def test_a_deadline_that_is_none_is_refused(said: str) -> None:
    """A number of milliseconds within a day, nothing else."""
    with pytest.raises(BadRequest, match="milliseconds") as caught:
        wishes_of(wishing(), heads(x_deadline_ms=said), None)
    assert caught.value.param == "x-deadline-ms"


# What is wished of the model...


def test_who_wishes_nothing_gets_what_the_key_carries() -> None:
    """The very object, so that the hot path sees at once that there is nothing to do; metadata about the level alone changes nothing."""
    carried = Wishes(prefer="high")
    assert wishes_of(wishing(carried), heads(), None) is carried
    assert wishes_of(wishing(carried), heads(), Hints(biz_level="economy")) == carried


def test_headers_and_metadata_say_the_same() -> None:
    """Every wish has both forms; where both are said the header holds."""
    said = {
        "prefer_cost": "low",
        "capabilities": "coding, vision",
        "max_price": "0.5",
        "min_quality": "0.7",
        "deadline_ms": "300",
        "pin": "m/a",
        "routing": "steady",
    }
    wanted = Wishes(
        prefer="low",
        capabilities=frozenset({"coding", "vision"}),
        max_price_nusd=500_000_000,
        min_quality=0.7,
        deadline_ms=300,
        pin="m/a",
        routing="steady",
    )
    hints = hints_in(Raw(orjson.dumps(said)))
    assert (
        wishes_of(wishing(), heads(**{f"x_{name}": text for name, text in said.items()}), None)
        == wanted
    )
    assert wishes_of(wishing(), heads(), hints) == wanted
    assert wishes_of(wishing(), heads(x_pin="other"), hints).pin == "other"
    numbers = {"max_price": 0.5, "min_quality": 0.7, "deadline_ms": 300, "capabilities": ["coding"]}
    as_numbers = wishes_of(wishing(), heads(), hints_in(Raw(orjson.dumps(numbers))))
    assert (as_numbers.max_price_nusd, as_numbers.deadline_ms) == (500_000_000, 300)


def test_a_call_can_lower_its_ceiling_and_narrow_its_regions_only() -> None:
    """What an organization rules out for a key, no header brings back."""
    carried = Wishes(max_price_nusd=10**9, regions=(frozenset({"eu", "ch"}),))
    higher = wishes_of(wishing(carried), heads(x_max_price="9", x_region="eu, us"), None)
    assert higher.max_price_nusd == 10**9
    assert higher.regions == (frozenset({"eu", "ch"}), frozenset({"eu", "us"}))
    assert wishes_of(wishing(carried), heads(x_max_price="0.1"), None).max_price_nusd == 10**8


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("x-prefer-cost", "cheap"),
        ("x-routing", "off"),
        ("x-capabilities", " , "),
        ("x-capabilities", ",".join("x" * 33)),
        ("x-region", ""),
        ("x-max-price", "-1"),
        ("x-max-price", "nan"),
        ("x-max-price", "1e9999999"),
        ("x-min-quality", "1.5"),
        ("x-min-quality", "good"),
    ],
)
def test_a_wish_that_is_none_is_refused_by_name(header: str, said: str) -> None:
    """The error names the header and what it can be."""
    with pytest.raises(BadRequest, match=r"it (is|can be)") as caught:
        wishes_of(wishing(), heads(**{header.replace("-", "_"): said}), None)
    assert (caught.value.param, caught.value.code) == (header, "invalid_value")


def test_a_list_of_models_is_the_bodys_and_what_the_header_adds() -> None:
    """The body's model comes first."""
    assert models_of("a", heads()) == "a"
    assert models_of("a", heads(x_models="b, c")) == "a,b, c"


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b'{"a":1, "metadata": {"biz_level":"premium"}}', b'{"a":1}'),
        (
            b'{"metadata":{"pin":"x","mine": 1.50 ,"routing":"full"},"a":1}',
            b'{"metadata":{"mine": 1.50},"a":1}',
        ),
        (b'{"labels":{"max_price":"2"},"contents":[]}', b'{"contents":[]}'),
        (
            b'{"metadata": null, "a": {"metadata":{"pin":"x"}}}',
            b'{"metadata": null, "a": {"metadata":{"pin":"x"}}}',
        ),
        (b'{"metadata": {}}', b'{"metadata": {}}'),
        (b'{"a":"metadata"}', b'{"a":"metadata"}'),
    ],
)
def test_what_is_said_to_the_gateway_is_taken_out_of_the_metadata(body: bytes, left: bytes) -> None:
    """And nothing else is touched, to the byte."""
    assert without_hints(body) == left


def test_metadata_that_stands_twice_is_refused() -> None:
    """Which of the two the vendor would read nobody knows."""
    with pytest.raises(BadField, match="pin"):
        without_hints(b'{"metadata":{"pin":"a","pin":"b"}}')
