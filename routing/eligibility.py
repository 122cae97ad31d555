"""
Which deployments can serve a call, in which order.

What is asked for is a model, a route, a route and a tag that its models must have (`auto/coding`), or a list of them.
A route stands for its models in declared order. `auto` need not be configured: then it is every model with the tag `chat`.
Eligibility here is what does not change from call to call; limits, health and load are judged on exact shared state by `admit`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from config.models import Config, PlacedDeployment
from config.offers import Model
from config.providers import Provider
from config.routes import Route
from routing.catalogue import from_config, in_force, provider_id_for, rates_for
from routing.experiments import Arm
from routing.listing import TASKS, Listed, listed
from routing.rates import Rates

_NOTHING: Mapping[str, float] = MappingProxyType({})

AUTO = "auto"
MOST_ASKED = 16


class UnknownModel(Exception):
    """Nobody configured a model or route of this name."""


@dataclass(frozen=True, slots=True)
class Option:
    """
    One deployment as an answer to a name: `tier` is its model's place in the route, 0 first.

    `rates` is None when nobody knows its price; `max_output` is in tokens, None when nobody knows the ceiling.
    `tags`, `quality` (0 to 1 by task of `routing.listing.TASKS`) and the modalities of `input` and `output` are the
    configuration's, else the listing's, else empty: an empty modality is one that nobody knows.
    `effort` is how much its model is to think, empty where nobody says. `degraded`: it serves only where none of its route's models can.
    """

    placed: PlacedDeployment
    provider: Provider
    tier: int
    rates: Rates | None
    max_output: int | None
    context: int | None
    tags: frozenset[str]
    quality: Mapping[str, float]
    input: frozenset[str]
    output: frozenset[str]
    effort: str = ""
    degraded: bool = False


class Asked(NamedTuple):
    """
    What a caller's words stand for: deployments with their tiers, and the route whose policy decides, None for none.

    `names` are the models and routes that the key must be allowed.
    """

    options: list[Option]
    route: Route | None
    names: tuple[str, ...]


def rates_of(config: Config, placed: PlacedDeployment, at: datetime) -> Rates | None:
    """Return what a deployment costs at a moment, None where no price is known."""
    return _priced(config, placed, at)[0]


def _priced(
    config: Config, placed: PlacedDeployment, at: datetime
) -> tuple[Rates | None, Rates | None, int]:
    """Return what a deployment costs, what its vendor sells it for, and when the configuration's price changes (us)."""
    provider = config.providers[placed.deployment.provider]
    sold = rates_for(
        placed.upstream_name, provider.catalogue or provider_id_for(provider.base_url), at
    )
    price, changes_us = in_force(placed.deployment.prices or config.models[placed.model].prices, at)
    return from_config(price) if price is not None else sold, sold, changes_us


class Pool:
    """Everything that can be asked for, by name, in one version of the configuration."""

    def __init__(self, config: Config, at: datetime) -> None:
        self._models: dict[str, list[Option]] = {name: [] for name in config.models}
        self._price_changes_us: list[int] = []
        for placed in config.deployments.values():
            model = config.models[placed.model]
            provider = config.providers[placed.deployment.provider]
            rates, sold, changes_us = _priced(config, placed, at)
            self._price_changes_us += [
                us for us in (changes_us, rates.until_us if rates is not None else 0) if us
            ]
            known = listed(placed.upstream_name, placed.model)
            sizes = _Sizes.of(sold, known)
            self._models[placed.model].append(
                Option(
                    placed=placed,
                    provider=provider,
                    tier=0,
                    rates=rates,
                    max_output=model.max_output or sizes.max_output,
                    context=model.context or sizes.context,
                    tags=frozenset(model.tags or (known.tags if known else ())),
                    quality=_quality(model, known),
                    input=frozenset(known.input if known else ()),
                    output=frozenset(known.output if known else ()),
                    effort=model.effort or "",
                )
            )
        self._routes = dict(config.routes)

    def names(self) -> list[str]:
        """Return every name that can be asked for, models first."""
        return [*self._models, *self._routes]

    def is_route(self, name: str) -> bool:
        """Whether the name stands for several models."""
        return name in self._routes

    def options(self, name: str) -> list[Option]:
        """Return the deployments behind a name, best tier first. Raises `UnknownModel`."""
        if name in self._models:
            return self._models[name]
        route = self._routes.get(name)
        if route is None:
            raise UnknownModel(name)
        return self._of_route(route)

    def everybody(self) -> list[Option]:
        """Return every deployment."""
        return self._in_order(self._models)

    def _of_route(self, route: Route) -> list[Option]:
        """Return who serves a route's calls, and behind them who does when none of these can."""
        own = self._in_order(route.models)
        return [
            *own,
            *(
                replace(option, tier=len(route.models) + option.tier, degraded=True)
                for option in self._in_order(route.degrade)
                if option.placed.model not in route.models
            ),
        ]

    def _in_order(self, models: Iterable[str]) -> list[Option]:
        return [
            replace(option, tier=tier)
            for tier, model in enumerate(models)
            for option in self._models[model]
        ]

    def asked(self, words: str, allowed: Callable[[str], bool]) -> Asked:
        """
        Return what a caller's words stand for; `allowed` tells which models and routes its key may name.

        Raises `UnknownModel`, with the name that nobody knows.
        """
        if words in self._models or words in self._routes or "," not in words:
            return self._one(words, allowed)
        options: list[Option] = []
        names: list[str] = []
        seen: set[str] = set()
        last = 0
        listed = list(dict.fromkeys(part for each in words.split(",") if (part := each.strip())))
        if not listed or len(listed) > MOST_ASKED:
            raise UnknownModel(words)
        for name in listed:
            found = self._one(name, allowed)
            names += found.names
            for option in found.options:
                if option.placed.id not in seen:
                    seen.add(option.placed.id)
                    options.append(replace(option, tier=last + option.tier))
            last = max((option.tier for option in options), default=-1) + 1
        return Asked(options, None, tuple(names))

    def _one(self, name: str, allowed: Callable[[str], bool]) -> Asked:
        if name in self._models or name in self._routes:
            return Asked(self.options(name), self._routes.get(name), (name,))
        base, _, tag = name.rpartition("/")
        if not base:
            base, tag = name, ""
        route = self._routes.get(base)
        if route is not None:
            options = self._of_route(route)
            names: tuple[str, ...] = (base,)
        elif base == AUTO:
            models = [
                model
                for model, options in self._models.items()
                if options and "chat" in options[0].tags and (allowed(AUTO) or allowed(model))
            ]
            if not models:
                raise UnknownModel(name)
            options, names = self._in_order(models), ()
            route = Route(models=tuple(models), policy="cost_quality")
        else:
            raise UnknownModel(name)
        if tag and not any(tag in option.tags for option in options):
            raise UnknownModel(name)
        # A tag that is no task says what is needed, not what the call is about.
        task = route.task or (tag if tag in TASKS else None)
        return Asked(
            options,
            route.model_copy(
                update={"tags": (*route.tags, *((tag,) if tag else ())), "task": task}
            ),
            names,
        )

    def led(self, options: list[Option], arm: Arm, *, alone: bool) -> list[Option]:
        """Return who serves the calls of an arm that leads elsewhere, its own places first, then those that `options` are; `alone`: its own only."""
        own = self._own(arm)
        if alone and own:
            return own
        known = {option.placed.id for option in own}
        last = 1 + max((option.tier for option in own), default=0)
        return [
            *own,
            *(
                replace(option, tier=last + option.tier)
                for option in options
                if option.placed.id not in known
            ),
        ]

    def route_of(self, arm: Arm) -> Route | None:
        """Return the route that an arm leads to, None where it leads to a model or a deployment."""
        try:
            return self._one(arm.model, lambda _: True).route if arm.model else None
        except UnknownModel:
            return None

    def is_own(self, option: Option, arm: Arm) -> bool:
        """Whether a place is one that an arm leads to; every place is that of an arm which leads nowhere else."""
        return not arm.leads or any(each.placed.id == option.placed.id for each in self._own(arm))

    def _own(self, arm: Arm) -> list[Option]:
        if arm.model:
            try:
                return self._one(arm.model, lambda _: True).options
            except UnknownModel:
                # A tag that no model has (`auto/coding`): its last resort is left.
                return []
        return [
            option
            for options in self._models.values()
            for option in options
            if option.placed.id == arm.deployment
        ]

    def next_price_change_us(self) -> int:
        """Return when a price list ends, in unix us; 0 when none does."""
        return min(self._price_changes_us, default=0)


class _Sizes(NamedTuple):
    """
    How much a deployment takes and gives, in tokens, as far as somebody says it.

    A server of one's own may well hold more than those who sell the model, or less: of it nothing is known.
    """

    context: int | None
    max_output: int | None

    @classmethod
    def of(cls, sold: Rates | None, known: Listed | None) -> "_Sizes":
        """Take what the price list says, else what is listed of a model that its provider sells."""
        if sold is None:
            return cls(None, None)
        return cls(
            sold.context or (known.context if known is not None else None),
            sold.max_output or (known.max_output if known is not None else None),
        )


def _quality(model: Model, known: Listed | None) -> Mapping[str, float]:
    """Return how good a model is at each task: what was said of the task, then of all tasks, then what is listed."""
    said = {} if model.quality is None else model.quality.by_task()
    overall = said.pop("overall", None)
    listed_as = known.quality if known is not None else _NOTHING
    found = listed_as if overall is None else dict.fromkeys(TASKS, overall)
    return MappingProxyType({**found, **said})
