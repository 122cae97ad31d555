"""The sections of what is offered: models, and the deployments that serve them."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from config.forms import Alone
from config.prices import Prices
from config.quotas import BUDGET_TEXT, Budgets, Limits
from config.scalars import Flag, Number, Text, Whole, Word
from config.section import Label, Name, Section, Share

Effort = Literal["minimal", "low", "medium", "high"]


class Quality(Section):
    """How good a model's answers are by task, from 0 to 1; a number alone is `overall`."""

    alone: ClassVar[str] = "overall"

    overall: Share | None = Field(
        default=None,
        description="For every task that is not named; where this is absent too, the catalogue's.",
    )
    chat: Share | None = Field(default=None, description="Conversation and general questions.")
    coding: Share | None = Field(default=None, description="Writing and reading code.")
    reasoning: Share | None = Field(default=None, description="Questions that need many steps.")
    math: Share | None = Field(default=None, description="Mathematics.")
    multilingual: Share | None = Field(
        default=None, description="Prompts in other languages than English."
    )
    long_context: Share | None = Field(
        default=None, validation_alias="long-context", description="Long inputs."
    )
    tools: Share | None = Field(default=None, description="Calling tools.")
    extraction: Share | None = Field(
        default=None, description="Structured answers from given text."
    )

    def by_task(self) -> dict[str, float]:
        """Give what is said, by the task's name; `overall` is among them where it is said."""
        said = {name.replace("_", "-"): getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in said.items() if value is not None}


class Deployment(Section):
    """One place that serves a model."""

    provider: Name = Field(description="Name of the provider, from `providers`.")
    name: Annotated[str, Text(longest=256)] | None = Field(
        default=None, description="What the provider calls the model; by default the model's name."
    )
    id: Name | None = Field(
        default=None,
        description="Name of the deployment in metrics, ledger and commands; by default"
        " `<model>/<provider>`, with `#2`, `#3` … for repeats.",
    )
    region: Label | None = Field(default=None, description="Where it runs, e.g. `eu`.")
    weight: Annotated[int, Whole(1, 1000)] = Field(
        default=1, description="Its share of the load relative to the model's other deployments."
    )
    limits: Limits = Field(
        default_factory=Limits, description="What the vendor grants there; never exceeded."
    )
    budgets: Budgets = Field(default=(), validation_alias="budget", description=BUDGET_TEXT)
    drained: Annotated[bool, Flag()] = Field(
        default=False, description="`true` gives it no new attempts; those under way go on."
    )
    responses_only: Annotated[bool, Flag()] = Field(
        default=False,
        description="Whether the model is known to OpenAI's Responses only, as some are; whatever else"
        " callers ask for is translated to them. The provider has to speak `openai`.",
    )
    prices: Prices = Field(
        default=(),
        validation_alias="price",
        description="What tokens cost there, where it differs from the model's; one price, or a list"
        " of them with `from`.",
    )


class Hedge(Section):
    """A second attempt at a stream that is late; whichever speaks first has the call."""

    after_ms: Annotated[int, Whole(1, 600_000)] = Field(
        description="How late the first token must be at least."
    )
    times: Annotated[float, Number(0, 1000)] = Field(
        default=2,
        description="And so many times the latency that all replicas see at the deployment.",
    )
    max_share: Annotated[float, Number(0, 0.5)] = Field(
        default=0.02,
        description="Most second attempts per call over ten seconds, at each edge; one is made in"
        " any case.",
    )


class Model(Section):
    """What callers may ask for by name."""

    tags: tuple[Label, ...] = Field(
        default=(),
        description="Capability tags, e.g. `[chat, coding, long-context]`; by default the catalogue's.",
    )
    quality: Annotated[Quality, Alone("overall")] | None = Field(
        default=None,
        description="How good its answers are, from 0 to 1: one number, or one per task; by default"
        " the catalogue's.",
    )
    context: Annotated[int, Whole(1, 10**9)] | None = Field(
        default=None,
        description="Most tokens of input and output together; by default the catalogue's.",
    )
    max_output: Annotated[int, Whole(1, 10**9)] | None = Field(
        default=None, description="Most output tokens; by default the catalogue's."
    )
    prices: Prices = Field(
        default=(),
        validation_alias="price",
        description="What tokens cost: one price, or a list of them with `from`; by default the"
        " catalogue's.",
    )
    limits: Limits = Field(
        default_factory=Limits, description="Limits over all callers and deployments together."
    )
    budgets: Budgets = Field(default=(), validation_alias="budget", description=BUDGET_TEXT)
    prefix_affinity: Annotated[bool, Flag()] = Field(
        default=True,
        description="Whether long prompts that begin alike go to one of its deployments, as far as"
        " load allows, because it has most likely kept what it computed of that beginning.",
    )
    effort: Annotated[Effort, Word.of(Effort)] | None = Field(
        default=None,
        description="Reasoning effort of its calls that name none, in the words of its vendor. Several"
        " models may be one of a vendor's, each with an effort: a route chooses among them by what each"
        " costs and gets.",
    )
    hedge: Hedge | None = Field(
        default=None,
        description="A second attempt at streams that are late; both are paid for, one is heard.",
    )
    deployments: Annotated[tuple[Deployment, ...], Field(min_length=1)] = Field(
        description="The places that serve it; at least one."
    )
