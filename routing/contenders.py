"""Models as the scorer sees them, and policies as it applies them: made once per caller, name and version of the configuration."""

from collections.abc import Sequence
from typing import Final

from config.routes import Route, RouteLevel
from config.wishes import nusd_of
from routing.eligibility import Option
from routing.scoring import (
    DELTAS,
    UNKNOWN_QUALITY,
    AtLevel,
    Contender,
    Field,
    Policy,
    blended_nusd,
)

__all__ = ["UNBOUNDED", "field_of", "policy_of"]

_TAKES: Final = {"vision": "image", "audio": "audio", "video": "video", "pdf": "pdf"}
"""The tags of what a request may hold, and the modality that a model must take for it."""
UNBOUNDED: Final = 2**40
"""A context that nobody knows the end of, in tokens."""


def policy_of(route: Route | None, assumed_output: int) -> Policy:
    """Return how a route chooses; a name that is none has the declared order. `assumed_output` in tokens."""
    if route is None:
        return Policy(assumed_output=assumed_output)
    levels = (route.levels.premium, route.levels.normal, route.levels.economy)
    return Policy(
        name=route.policy,
        levels={
            number: _at(level, *DELTAS[number]) for number, level in enumerate(levels, start=1)
        },
        tags=frozenset(route.tags),
        task=route.task or "",
        explore=route.explore if route.policy != "declared" else 0.0,
        assumed_output=assumed_output,
    )


def _at(level: RouteLevel, low: float, high: float) -> AtLevel:
    within = level.within
    return AtLevel(
        low=low if within.low is None else within.low,
        high=high if within.high is None else within.high,
        min_quality=level.min_quality or 0.0,
        max_price_nusd=0 if level.max_price is None else nusd_of(level.max_price),
        max_output=level.max_output or 0,
        effort=level.effort or "",
    )


def field_of(options: Sequence[Option], policy: Policy, most_output: int) -> Field:
    """
    Return the contenders behind deployments, in the order of the plan; a model's prices are its dearest deployment's.

    `most_output` is what a model may give, in tokens, when nobody knows its ceiling.
    """
    places: dict[str, list[int]] = {}
    for number, option in enumerate(options):
        places.setdefault(option.placed.model, []).append(number)
    return Field(
        [_contender(model, numbers, options, most_output) for model, numbers in places.items()],
        policy,
        [option.tier for option in options],
    )


def _contender(
    model: str, numbers: list[int], options: Sequence[Option], most_output: int
) -> Contender:
    own = [options[number] for number in numbers]
    rates = [option.rates for option in own if option.rates is not None]
    known = len(rates) == len(own)
    dearest_in = max((one.input_nusd_per_ktok for one in rates), default=0)
    dearest_out = max((one.output_nusd_per_ktok for one in rates), default=0)
    first = own[0]
    known_of = first.input | first.tags
    return Contender(
        model=model,
        tags=first.tags,
        lacks=frozenset(
            tag
            for tag, modality in _TAKES.items()
            if known_of and tag not in first.tags and modality not in first.input
        ),
        # A task that nobody has measured is taken for a chat.
        quality={"": first.quality.get("chat", UNKNOWN_QUALITY), **first.quality}
        if first.quality
        else {},
        input=dearest_in,
        output=dearest_out,
        request=max((one.request_nusd for one in rates), default=0),
        price_nusd=blended_nusd(dearest_in, dearest_out) if known else None,
        context=first.context or UNBOUNDED,
        max_output=first.max_output or most_output,
        places=tuple(numbers),
        ids=tuple(option.placed.id for option in own),
        regions=tuple(option.placed.deployment.region or "" for option in own),
    )
