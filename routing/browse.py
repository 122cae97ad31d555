"""
Models to choose among by eye: what is configured, or all that is listed, narrowed by what one looks for.

Prices here are for people who compare: one blended price, three tokens of input for one of output.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from config.models import Config
from routing.catalogue import rates_for
from routing.eligibility import Option, Pool
from routing.listing import TASKS, Listed, Prior, listed, listing, sources
from routing.rates import Rates
from routing.scoring import blended_nusd

__all__ = ["CONFIGURED", "Offered", "Wanted", "all_listed", "as_json", "configured", "matching"]

CONFIGURED = Prior(0.0, "configuration", "")
"""Stands for the source of what the configuration says; its value means nothing."""


@dataclass(frozen=True, slots=True)
class Offered:
    """
    A model with what is known of it, and where it is served.

    `providers` are the names of the configuration, or the seller's id in the price catalogue where nothing is
    configured; `priors` say where the qualities come from, which are by task.
    """

    name: str
    vendor: str
    tags: frozenset[str]
    input: frozenset[str]
    output: frozenset[str]
    context: int | None
    max_output: int | None
    rates: Rates | None
    quality: Mapping[str, float]
    priors: Mapping[str, Prior]
    providers: tuple[str, ...]
    deployments: tuple[str, ...]
    listed_as: str

    @property
    def blended_nusd(self) -> int | None:
        """The price of a million tokens, three of input for one of output, None where it is unknown."""
        if self.rates is None:
            return None
        return blended_nusd(self.rates.input_nusd_per_ktok, self.rates.output_nusd_per_ktok)


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What one looks for; what is empty or None is not asked.

    All of `tags`; a blended price of `max_price_nusd` per million tokens at most (an unknown price is no low one);
    a quality of `min_quality` at least at `task`.
    """

    tags: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()
    vendor: str = ""
    max_price_nusd: int | None = None
    min_context: int = 0
    task: str = ""
    min_quality: float = 0.0

    def fits(self, model: Offered) -> bool:
        """Say whether a model is what is looked for."""
        price = model.blended_nusd
        return (
            self.tags <= model.tags
            and (not self.providers or not self.providers.isdisjoint(model.providers))
            and (not self.vendor or self.vendor == model.vendor)
            and (
                self.max_price_nusd is None or (price is not None and price <= self.max_price_nusd)
            )
            and (model.context or 0) >= self.min_context
            and model.quality.get(self.task or TASKS[0], 0.0) >= self.min_quality
        )


def configured(config: Config, at: datetime) -> Iterator[Offered]:
    """Give the models of a configuration in its order, each with the price of its first deployment that has one."""
    pool = Pool(config, at)
    for name, model in config.models.items():
        options: list[Option] = pool.options(name)
        first = options[0]
        known = listed(first.placed.upstream_name, name)
        said = {} if model.quality is None else model.quality.by_task()
        priors = {} if known is None else known.priors
        yield Offered(
            name=name,
            vendor=known.vendor if known is not None else "",
            tags=first.tags,
            input=first.input,
            output=first.output,
            context=first.context,
            max_output=first.max_output,
            rates=next((each.rates for each in options if each.rates is not None), None),
            quality=first.quality,
            priors={
                task: CONFIGURED if task in said or "overall" in said else priors[task]
                for task in first.quality
            },
            providers=tuple(dict.fromkeys(each.placed.deployment.provider for each in options)),
            deployments=tuple(each.placed.id for each in options),
            listed_as=known.id if known is not None else "",
        )


def all_listed(at: datetime) -> Iterator[Offered]:
    """Give every model of the listing, at the price of the seller that it names."""
    for each in listing():
        yield _from_listing(each, at)


def _from_listing(known: Listed, at: datetime) -> Offered:
    rates = rates_for(known.id, known.seller, at)
    return Offered(
        name=known.id,
        vendor=known.vendor,
        tags=frozenset(known.tags),
        input=frozenset(known.input),
        output=frozenset(known.output),
        context=known.context or (rates.context if rates is not None else None),
        max_output=known.max_output,
        rates=rates,
        quality=known.quality,
        priors=MappingProxyType(known.priors),
        providers=(known.seller,),
        deployments=(),
        listed_as=known.id,
    )


def matching(models: Iterable[Offered], wanted: Wanted) -> list[Offered]:
    """Return those that are looked for: in their order, or the best at `wanted.task` first where one is said."""
    found = [each for each in models if wanted.fits(each)]
    if wanted.task:
        found.sort(key=lambda each: -each.quality.get(wanted.task, 0.0))
    return found


def as_json(model: Offered) -> dict[str, Any]:
    """Return a model as the API says it; prices in USD per million tokens, as text."""
    rates, blended = model.rates, model.blended_nusd
    known = sources()
    return {
        "name": model.name,
        "vendor": model.vendor,
        "tags": sorted(model.tags),
        "input": sorted(model.input),
        "output": sorted(model.output),
        "context": model.context,
        "max_output": model.max_output,
        "price": None
        if rates is None or blended is None
        else {
            "input_usd": _usd(rates.input_nusd_per_ktok * 1000),
            "output_usd": _usd(rates.output_nusd_per_ktok * 1000),
            "cached_input_usd": _usd(rates.cached_nusd_per_ktok * 1000),
            "blended_usd": _usd(blended),
            "version": rates.version,
        },
        "quality": {
            task: {
                "value": value,
                "source": model.priors[task].source,
                "read": model.priors[task].read,
                "url": known[model.priors[task].source].url
                if model.priors[task].source in known
                else "",
            }
            for task, value in model.quality.items()
        },
        "providers": list(model.providers),
        "deployments": list(model.deployments),
        "listed_as": model.listed_as,
    }


def _usd(nusd: int) -> str:
    whole, part = divmod(nusd, 10**9)
    return f"{whole}.{f'{part:09d}'.rstrip('0'):0<2}"
