"""
Which deployments can serve a call, in which order.

A name is a model or a route; a route stands for its models in declared order.
Eligibility here is what does not change from call to call; limits, health and load are judged on exact shared state by `admit`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

from config.models import Config, Model, PlacedDeployment, Provider
from routing.catalogue import Rates, from_config, in_force, provider_id_for, rates_for
from routing.experiments import Arm
from routing.listing import TASKS, Listed, listed

_NOTHING: Mapping[str, float] = MappingProxyType({})


class UnknownModel(Exception):
    """Nobody configured a model or route of this name."""


@dataclass(frozen=True, slots=True)
class Option:
    """
    One deployment as an answer to a name: `tier` is its model's place in the route, 0 first.

    `rates` is None when nobody knows its price; `max_output` is in tokens, None when nobody knows the ceiling.
    `tags`, `quality` (0 to 1 by task of `routing.listing.TASKS`) and the modalities of `input` and `output` are the
    configuration's, else the listing's, else empty: an empty modality is one that nobody knows.
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


class Pool:
    """Everything that can be asked for, by name, in one version of the configuration."""

    def __init__(self, config: Config, at: datetime) -> None:
        self._models: dict[str, list[Option]] = {name: [] for name in config.models}
        self._price_changes_us: list[int] = []
        for placed in config.deployments.values():
            model = config.models[placed.model]
            provider = config.providers[placed.deployment.provider]
            sold = rates_for(
                placed.upstream_name, provider.catalogue or provider_id_for(provider.base_url), at
            )
            price, changes_us = in_force(placed.deployment.prices or model.prices, at)
            rates = from_config(price) if price is not None else sold
            self._price_changes_us += [
                us for us in (changes_us, rates.until_us if rates is not None else 0) if us
            ]
            known = listed(placed.upstream_name, placed.model)
            self._models[placed.model].append(
                Option(
                    placed=placed,
                    provider=provider,
                    tier=0,
                    rates=rates,
                    max_output=model.max_output
                    or (sold.max_output if sold else None)
                    # A server of one's own may well give more than those who sell the model.
                    or (known.max_output if known and sold else None),
                    context=model.context
                    or (sold.context if sold else None)
                    or (known.context if known else None),
                    tags=frozenset(model.tags or (known.tags if known else ())),
                    quality=_quality(model, known),
                    input=frozenset(known.input if known else ()),
                    output=frozenset(known.output if known else ()),
                )
            )
        self._routes = {name: route.models for name, route in config.routes.items()}

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
        models = self._routes.get(name)
        if models is None:
            raise UnknownModel(name)
        return [
            replace(option, tier=tier)
            for tier, model in enumerate(models)
            for option in self._models[model]
        ]

    def led(self, options: list[Option], arm: Arm, *, alone: bool) -> list[Option]:
        """Return who serves the calls of an arm, its own places first, then those that `options` are; `alone`: its own only."""
        if not arm.leads:
            return options
        own = self._own(arm)
        if alone:
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

    def is_own(self, option: Option, arm: Arm) -> bool:
        """Whether a place is one that an arm leads to; every place is that of an arm which leads nowhere else."""
        return not arm.leads or any(each.placed.id == option.placed.id for each in self._own(arm))

    def _own(self, arm: Arm) -> list[Option]:
        if arm.model:
            return self.options(arm.model)
        return [
            option
            for options in self._models.values()
            for option in options
            if option.placed.id == arm.deployment
        ]

    def next_price_change_us(self) -> int:
        """Return when a price list ends, in unix us; 0 when none does."""
        return min(self._price_changes_us, default=0)


def _quality(model: Model, known: Listed | None) -> Mapping[str, float]:
    """Return how good a model is at each task: what was said of the task, then of all tasks, then what is listed."""
    said = {} if model.quality is None else model.quality.by_task()
    overall = said.pop("overall", None)
    listed_as = known.quality if known is not None else _NOTHING
    found = listed_as if overall is None else dict.fromkeys(TASKS, overall)
    return MappingProxyType({**found, **said})
