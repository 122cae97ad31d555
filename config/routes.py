"""The sections of routes: names that stand for several models, and how each level of calls is served."""

from typing import Annotated, Literal

from pydantic import Field

from config.offers import Effort, Hedge
from config.scalars import Number, Whole, Word
from config.section import Label, Name, Section, Share, UsdPerMillion

RoutePolicy = Literal["declared", "cost_quality"]


class Within(Section):
    """How much less than the best predicted quality is good enough, by the cost preference of a call."""

    low: Share | None = Field(default=None, description="For calls with `prefer_cost: low`.")
    high: Share | None = Field(default=None, description="For calls with `prefer_cost: high`.")


class RouteLevel(Section):
    """What a route does for calls of one business level."""

    within: Within = Field(
        default_factory=Within,
        description="How much less than the best predicted quality is good enough; the cheapest of"
        " the models that are is chosen. By default 0.03 and 0.01 for premium, 0.10 and 0.05 for"
        " normal, 0.25 and 0.12 for economy (low, high); calls without a preference get the middle.",
    )
    min_quality: Share | None = Field(
        default=None, description="Quality floor: no model below this is asked."
    )
    max_price: UsdPerMillion | None = Field(
        default=None,
        description="Price ceiling in USD per million tokens, three of input for one of output.",
    )
    max_output: Annotated[int, Whole(1, 10**7)] | None = Field(
        default=None, description="Output cap of calls that name none."
    )
    effort: Annotated[Effort, Word.of(Effort)] | None = Field(
        default=None,
        description="Reasoning effort of calls that name none and are not complex, at models with"
        " the tag `reasoning`.",
    )


class RouteLevels(Section):
    """What a route does by business level."""

    premium: RouteLevel = Field(default_factory=RouteLevel, description="For premium calls.")
    normal: RouteLevel = Field(default_factory=RouteLevel, description="For normal calls.")
    economy: RouteLevel = Field(default_factory=RouteLevel, description="For economy calls.")


class Route(Section):
    """A virtual model: callers ask for it by name, and it chooses among models."""

    models: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(
        description="The models to choose among, in order of preference."
    )
    degrade: tuple[Name, ...] = Field(
        default=(),
        description="Models that serve its calls when none of `models` can, in order of preference,"
        " before a call waits or is refused.",
    )
    policy: Annotated[RoutePolicy, Word.of(RoutePolicy)] = Field(
        default="declared",
        description="`declared` takes the first that can serve; `cost_quality` the cheapest whose"
        " predicted quality is good enough for the call's level, and the others in its wake.",
    )
    tags: tuple[Label, ...] = Field(
        default=(), description="Tags that a model must have to serve calls of this route."
    )
    task: Label | None = Field(
        default=None,
        description="The kind of task of its calls, e.g. `coding`; by default each call is looked at.",
    )
    explore: Annotated[float, Number(0, 0.05)] = Field(
        default=0.01,
        description="Share of calls that try a model of which little is known, among those that are"
        " good enough; never premium ones, nor calls that ask for `steady` routing.",
    )
    hedge: Hedge | None = Field(
        default=None,
        description="A second attempt at streams of this route that are late; by default none.",
    )
    levels: RouteLevels = Field(
        default_factory=RouteLevels, description="What it does for calls of each business level."
    )
