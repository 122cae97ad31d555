"""The sections of who calls: keys, teams, users, organizations, and what is declared for their calls."""

from typing import Annotated, Literal

from pydantic import Field

from config.quotas import BUDGET_TEXT, Budgets, Limits
from config.scalars import Number, Text, TimeZone, Whole, Word
from config.secrets import CallerKeyRule, Secret
from config.section import MOST_CELLS, Label, Name, PlainName, Section, UsdPerMillion

BizLevel = Literal["premium", "normal", "economy"]
PreferCost = Literal["low", "high"]
Routing = Literal["full", "steady", "declared"]


class Declares(Section):
    """What calls declare where they do not say it themselves; a key has what its team says, a team what its organization says."""

    files: Name | None = Field(
        default=None,
        description="The provider that keeps files and runs batches, one with `files: true`; where"
        " nobody says it, the only one that has it.",
    )
    biz_level: Annotated[BizLevel, Word.of(BizLevel)] | None = Field(
        default=None,
        description="Business level of calls that declare none, and the highest that they may"
        " declare; `normal` where nobody says it.",
    )
    prefer_cost: Annotated[PreferCost, Word.of(PreferCost)] | None = Field(
        default=None,
        description="Cost preference of calls that declare none: `low` gives up more quality for a"
        " lower cost, `high` less.",
    )
    capabilities: tuple[Label, ...] | None = Field(
        default=None,
        description="Tags that a model must have to serve calls that name none, e.g. `[coding]`.",
    )
    max_price: UsdPerMillion | None = Field(
        default=None,
        description="Price ceiling: no model dearer than so many USD per million tokens, three of"
        " input for one of output. The lowest holds of the organization's, the team's, the key's and"
        " the call's.",
    )
    min_quality: Annotated[float, Number(0, 1)] | None = Field(
        default=None,
        description="Quality floor of calls that declare none: no model below this, from 0 to 1.",
    )
    deadline_ms: Annotated[int, Whole(1, 86_400_000)] | None = Field(
        default=None,
        description="Within how many milliseconds the answer should begin, where the call does not"
        " say it.",
    )
    pin: Name | None = Field(
        default=None,
        description="The one model or deployment that serves calls which pin none.",
    )
    regions: tuple[Label, ...] | None = Field(
        default=None,
        description="Where data may go: only deployments whose `region` is one of these. Whoever is"
        " further in, and the call, can only leave regions out.",
    )
    routing: Annotated[Routing, Word.of(Routing)] | None = Field(
        default=None,
        description="How models are chosen for calls that do not say it: `full` by the route's"
        " policy, `steady` without trying models out, `declared` in the declared order alone.",
    )


class Key(Declares):
    """A caller's key, and what is known of who calls with it."""

    key: Annotated[Secret, CallerKeyRule()] = Field(
        description="The key that the caller presents: `${VARIABLE}` or text of at least 16"
        " characters, or `sha256:<64 hex>` of it. Only a keyed hash is kept."
    )
    application: Annotated[str, Text()] = Field(
        default="", description="The application that calls, for the ledger."
    )
    business_line: Annotated[str, Text()] = Field(
        default="", description="The business line that pays, for the ledger."
    )
    user: Annotated[str, Text()] = Field(
        default="", description="The user on whose behalf it calls, for the ledger."
    )
    models: tuple[Name, ...] = Field(
        default=(), description="Models and routes that it may ask for; empty means all."
    )
    limits: Limits = Field(default_factory=Limits, description="Limits of this key.")
    budgets: Budgets = Field(default=(), validation_alias="budget", description=BUDGET_TEXT)


class Team(Declares):
    """A team of an organization."""

    limits: Limits = Field(default_factory=Limits, description="Limits over all its keys.")
    budgets: Budgets = Field(default=(), validation_alias="budget", description=BUDGET_TEXT)
    weight: Annotated[int, Whole(1, 1000)] = Field(
        default=1,
        description="How much it gets of deployments that are full, beside other teams whose calls"
        " of the same business level wait for them.",
    )
    keys: dict[PlainName, Key] = Field(default_factory=dict, description="Its keys by name.")


class Member(Section):
    """A user, an application or a business line of an organization."""

    limits: Limits = Field(default_factory=Limits, description="Its limits.")
    budgets: Budgets = Field(default=(), validation_alias="budget", description=BUDGET_TEXT)


Members = dict[Annotated[str, Text(".+", what="a name")], Member]
# How deep organizations may lie in organizations, the outermost counted.
MOST_LEVELS = 4
# Under this name stands what holds for each that has no entry of its own.
DEFAULT_MEMBER = "default"


class Organization(Declares):
    """An organization, or a part of one; what holds for it holds for all its parts together."""

    time_zone: Annotated[str, TimeZone()] | None = Field(
        default=None,
        description="IANA name of the time zone of its budgets, e.g. `Europe/Berlin`; by default"
        " that of the organization that it is a part of, or else UTC.",
    )
    cell: Annotated[int, Whole(0, MOST_CELLS - 1)] | None = Field(
        default=None,
        description="The cell in which it lies with all its parts, from 0 to `store.cells` - 1; by default"
        " its name decides. Changes only while no edge runs.",
    )
    limits: Limits = Field(
        default_factory=Limits, description="Limits over all its teams and parts."
    )
    budgets: Budgets = Field(default=(), validation_alias="budget", description=BUDGET_TEXT)
    users: Members = Field(
        default_factory=dict,
        description="Limits of users, by the name that a request or its key gives; `default` is"
        " what each user gets who is not named here.",
    )
    applications: Members = Field(
        default_factory=dict,
        description="Limits of applications, by the name that keys give; `default` is what each"
        " application gets that is not named here.",
    )
    business_lines: Members = Field(
        default_factory=dict,
        description="Limits of business lines, by the name that keys give; `default` is what each"
        " one gets that is not named here.",
    )
    teams: dict[PlainName, Team] = Field(default_factory=dict, description="Its teams by name.")
    organizations: "dict[PlainName, Organization]" = Field(
        default_factory=dict,
        description="Its parts by name, up to four levels in all, each with its own teams.",
    )
