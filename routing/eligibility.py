"""
Which deployments can serve a call, in which order.

A name is a model or a route; a route stands for its models in declared order.
Eligibility here is what does not change from call to call; limits, health and load are judged on exact shared state by `admit`.
"""

from dataclasses import dataclass
from datetime import datetime

from config.models import Config, PlacedDeployment, Provider
from routing.catalogue import Rates, from_config, provider_id_for, rates_for


class UnknownModel(Exception):
    """Nobody configured a model or route of this name."""


@dataclass(frozen=True, slots=True)
class Option:
    """
    One deployment as an answer to a name: `tier` is its model's place in the route, 0 first.

    `rates` is None when nobody knows its price; `max_output` is in tokens, None when nobody knows the ceiling.
    """

    placed: PlacedDeployment
    provider: Provider
    tier: int
    rates: Rates | None
    max_output: int | None
    context: int | None


class Pool:
    """Everything that can be asked for, by name, in one version of the configuration."""

    def __init__(self, config: Config, at: datetime) -> None:
        self._models: dict[str, list[Option]] = {name: [] for name in config.models}
        for placed in config.deployments.values():
            model = config.models[placed.model]
            provider = config.providers[placed.deployment.provider]
            listed = rates_for(
                placed.upstream_name, provider.catalogue or provider_id_for(provider.base_url), at
            )
            price = placed.deployment.price or model.price
            rates = from_config(price) if price is not None else listed
            self._models[placed.model].append(
                Option(
                    placed=placed,
                    provider=provider,
                    tier=0,
                    rates=rates,
                    max_output=model.max_output or (listed.max_output if listed else None),
                    context=model.context or (listed.context if listed else None),
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
            Option(
                placed=option.placed,
                provider=option.provider,
                tier=tier,
                rates=option.rates,
                max_output=option.max_output,
                context=option.context,
            )
            for tier, model in enumerate(models)
            for option in self._models[model]
        ]

    def next_price_change_us(self) -> int:
        """Return when a price list ends, in unix us; 0 when none does."""
        ends = [
            option.rates.until_us
            for options in self._models.values()
            for option in options
            if option.rates is not None and option.rates.until_us
        ]
        return min(ends, default=0)
