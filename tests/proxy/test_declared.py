"""What callers declare: nobody is more important than his key, and what is not understood is refused by name."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from governance.identity import Caller
from proxy.declared import LEVELS, level_of, patience_s
from proxy.errors import BadRequest
from proxy.wire.look import Hints


def heads(**said: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(
        CIMultiDict({name.replace("_", "-"): text for name, text in said.items()})
    )


def caller(level: str) -> Caller:
    return cast("Caller", SimpleNamespace(biz_level=level))


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


def test_a_deadline_bounds_the_wait_and_never_lengthens_it() -> None:
    """The shorter of the two holds."""
    assert patience_s(1.0, heads()) == 1.0
    assert patience_s(1.0, heads(x_deadline_ms="250")) == 0.25
    assert patience_s(1.0, heads(x_deadline_ms=" 60000 ")) == 1.0
    assert patience_s(0.0, heads(x_deadline_ms="250")) == 0.0


@pytest.mark.parametrize("said", ["", "0", "-1", "1.5", "soon", "٣", "1e3", "9" * 11, "9" * 5000])
def test_a_deadline_that_is_none_is_refused(said: str) -> None:
    """A number of milliseconds within a day, nothing else."""
    with pytest.raises(BadRequest, match="milliseconds") as caught:
        patience_s(1.0, heads(x_deadline_ms=said))
    assert caught.value.param == "x-deadline-ms"
