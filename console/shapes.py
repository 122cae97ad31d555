"""
What goes in and out of the admin API, as schemas: they check what comes in, and OpenAPI is made from them.

What is configured (a provider, a limit, a budget) is checked by the configuration's own reader and
not here, so that its mistakes are said in the same words wherever they are made.
Money is USD, times are RFC 3339 in UTC, durations are milliseconds.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

# Stands in a schema for a reference to a section of the configuration, which pydantic does not know there
SECTION = "x-section"
LONGEST_WAIT_MS = 30_000
LONGEST_WHY = 500
LARGEST_VERSION = 2**53


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("no control characters and no line breaks")
    if not text.strip():
        raise ValueError("some words")
    return text


class Shape(BaseModel):
    """What all shapes share: no unknown member, and no type is bent into another."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


Words = Annotated[str, Field(min_length=1, max_length=LONGEST_WHY), AfterValidator(_printable)]
Number = Annotated[int, Field(ge=1, le=LARGEST_VERSION)]
Limits = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "description": "Members of `Limits`; null takes a limit away, what is absent stays.",
        }
    ),
]
Budgets = Annotated[
    list[dict[str, Any]],
    WithJsonSchema({"type": "array", "items": {SECTION: "Budget"}}),
]


def section_of(name: str) -> Any:
    """Give the type of a section that the configuration's reader checks; `name` is its schema."""
    return Annotated[dict[str, Any], WithJsonSchema({SECTION: name})]


# What comes in...


class Change(Shape):
    """What every change says besides what it changes."""

    why: Words = Field(description="A sentence for the history.")
    expected: Number | None = Field(
        default=None,
        description="The version that the change was made from, also said by If-Match. If another"
        " one is live the answer is 409; without it the change is made to whatever is live.",
    )
    wait_ms: Annotated[int, Field(ge=0, le=LONGEST_WAIT_MS)] = Field(
        default=0,
        description="Answer only when every live replica runs the new version, or this time is over.",
    )


class Replacement(Change):
    """A change that takes the place of a whole, and would undo what it does not know of."""

    expected: Number = Field(
        description="The version that the change was made from, also said by If-Match."
    )


class Apply(Replacement):
    """A whole configuration."""

    document: str = Field(description="The configuration as YAML; `***` keeps what is live there.")


class Compare(Shape):
    """A configuration to compare with the live one."""

    document: str = Field(description="The configuration as YAML.")


class Rollback(Replacement):
    """A version to go back to."""

    version: Number = Field(description="The version whose document becomes live again.")


class PutProvider(Replacement):
    """A provider."""

    provider: section_of("Provider")  # type: ignore[valid-type]


class PutModel(Replacement):
    """A model with its deployments."""

    model: section_of("Model")  # type: ignore[valid-type]


class PutRoute(Replacement):
    """A route."""

    route: section_of("Route")  # type: ignore[valid-type]


class PutExperiment(Replacement):
    """An experiment."""

    experiment: section_of("Experiment")  # type: ignore[valid-type]


class PutOrganization(Replacement):
    """An organization; it keeps its teams unless others are said."""

    organization: section_of("Organization")  # type: ignore[valid-type]


class PutTeam(Replacement):
    """A team; it keeps its keys unless others are said."""

    team: section_of("Team")  # type: ignore[valid-type]


class CreateKey(Change):
    """A new key of a team; the key itself is made by the gateway."""

    organization: str
    team: str
    name: str
    application: str | None = None
    business_line: str | None = None
    user: str | None = None
    biz_level: str | None = None
    prefer_cost: str | None = None
    capabilities: list[str] | None = None
    max_price: float | None = None
    min_quality: float | None = None
    deadline_ms: int | None = None
    pin: str | None = None
    regions: list[str] | None = None
    routing: str | None = None
    models: list[str] | None = None
    limits: Limits | None = None
    budgets: Budgets | None = None


class PutQuota(Change):
    """What changes of a scope's limits and budgets."""

    limits: Limits | None = None
    budgets: Budgets | None = Field(
        default=None, description="All budgets of the scope; an empty list takes them away."
    )


class PutRaise(Change):
    """Another amount for a budget, for a time."""

    per: str = Field(description="The period of the budget, as in `month`.")
    usd: Any = Field(
        description="The amount that holds until then; null ends the raise.",
        json_schema_extra={"type": ["number", "null"]},
    )
    until: str | None = Field(
        default=None,
        description="When it ends: `2026-12-24`, `2026-12-24T18:00` (in the budget's time zone), or with an offset.",
    )


class PatchDeployment(Change):
    """What changes of a deployment; null takes a setting back to its default."""

    drained: Any = Field(default=None, json_schema_extra={"type": ["boolean", "null"]})
    weight: Any = Field(default=None, json_schema_extra={"type": ["integer", "null"]})
    limits: Limits | None = None


# What goes out...


class ProblemShape(Shape):
    """One mistake; line and column are 0 where there is no text."""

    source: str
    path: str
    line: int
    column: int
    message: str
    found: str
    expected: str
    nearest: str
    remedy: str
    severity: str


class DifferenceShape(Shape):
    """One change: what stood and what stands at a path; null is nothing, secrets are masked."""

    path: str
    before: Any
    after: Any


class ErrorShape(Shape):
    """An error."""

    code: str
    message: str
    problems: list[ProblemShape] = Field(default=[], description="Every mistake, at once.")
    expected: int | None = Field(default=None, description="The version that was expected.")
    current: int | None = Field(default=None, description="The version that is live.")
    changes: list[DifferenceShape] | None = Field(
        default=None,
        description="What changed since the expected version; null if it is forgotten.",
    )
    version: int | None = Field(default=None, description="The version that was published.")


class Failure(Shape):
    """The envelope of an error."""

    error: ErrorShape


class NoteShape(Shape):
    """What the history says of a version."""

    version: int
    by: str
    why: str
    kind: str
    at: str
    digest: str


class History(Shape):
    """The versions that are kept, the live one first."""

    versions: list[NoteShape]


class VersionShape(NoteShape):
    """A version with its document; secrets that stand in it in clear are `***`."""

    document: str


class PastVersion(VersionShape):
    """A version, and what it changed; null where the one before is forgotten."""

    changes: list[DifferenceShape] | None


class Comparison(Shape):
    """What applying a document would change."""

    version: int = Field(description="The live version that was compared with.")
    changes: list[DifferenceShape]
    warnings: list[ProblemShape]


class ReplicaShape(Shape):
    """What a replica said last."""

    replica: str
    role: Literal["edge", "control"]
    live: bool | None = Field(description="Whether it beats; null for another control.")
    version: int | None
    error: str | None = Field(description="Why it could not take a version.")
    age_ms: int | None = Field(description="How long ago it said so.")
    current: bool = Field(description="Whether it runs the live version.")


class Status(Shape):
    """Which replica runs which version."""

    version: int
    at: str
    by: str
    everywhere: bool = Field(description="Whether all live replicas run the live version.")
    replicas: list[ReplicaShape]


class Changed(NoteShape):
    """What a change did; `published` is false when there was nothing to change."""

    published: bool
    changes: list[DifferenceShape]
    warnings: list[ProblemShape]
    everywhere: bool | None = Field(
        description="Whether every live replica runs it; null unless it was waited for."
    )
    waiting_for: list[str] = Field(description="Live replicas that do not run it yet.")


class NewKey(Changed):
    """A key that was made; it is shown this once."""

    id: str
    key: str


class KeyShape(Shape):
    """A key without the key."""

    id: str
    fingerprint: str
    settings: dict[str, Any]


class Keys(Shape):
    """Keys by id."""

    version: int
    keys: list[KeyShape]


class OneKey(KeyShape):
    """One key."""

    version: int


class RateShape(Shape):
    """A limit and what is left of it."""

    limit: int
    burst: int = Field(description="Most at once: what its bucket holds.")
    remaining: int | None
    resets_in_ms: int | None = Field(description="When the bucket is full again.")


class BudgetShape(Shape):
    """A budget and what is left of it in its current period."""

    usd: float
    per: str
    mode: str
    time_zone: str
    raised_usd: float | None = Field(description="The amount until `raised_until`.")
    raised_until: str | None
    spent_usd: str
    held_usd: str
    remaining_usd: str
    resets_at: str | None = Field(description="When its period ends; null for a total.")


class ShareShape(Shape):
    """What one cell has of limits that are divided over cells."""

    cell: str = Field(description="As in `c1`.")
    limits: dict[str, int]
    in_flight: int


class Quota(Shape):
    """Limits and budgets of a scope, and what they hold right now."""

    scope: str
    seeded: bool = Field(description="Whether the store knows its limits.")
    in_flight: int
    limits: dict[str, RateShape]
    budgets: list[BudgetShape]
    shares: list[ShareShape] = Field(
        description="What each cell has of it, where `store.cells` divides it; empty otherwise."
    )


class OneQuota(Quota):
    """One scope."""

    version: int


class Quotas(Shape):
    """Every scope that has a limit or a budget."""

    version: int
    quotas: list[Quota]


class ChangedQuota(Changed):
    """What a change did, and what the scope holds now."""

    quota: Quota


class EventShape(Shape):
    """A threshold of a budget that was reached."""

    id: str
    at: str
    scope: str
    per: str
    period: int = Field(description="Number of the period, as the store counts.")
    percent: int
    amount_usd: str = Field(description="What the budget allowed then, raised or not.")
    spent_usd: str
    mode: str


class Events(Shape):
    """The latest events of budgets, the newest first."""

    events: list[EventShape]


class DeploymentShape(Shape):
    """A deployment as configured, and what is under way there."""

    id: str
    model: str
    settings: dict[str, Any]
    drained: bool
    weight: int
    in_flight: int
    failures: int = Field(description="Failures in a row.")
    cooling: bool = Field(description="Whether it is passed over for a while after failures.")
    throttled: bool = Field(description="Whether the vendor told us to wait.")


class Deployments(Shape):
    """Every deployment."""

    version: int
    deployments: list[DeploymentShape]


class OneDeployment(DeploymentShape):
    """One deployment."""

    version: int


class LeftShape(Shape):
    """What a vendor still lets pass."""

    amount: int
    resets_us: int = Field(description="Until its window ends.")


class ProbeShape(Shape):
    """The last active probe of a deployment."""

    at_us: int = Field(description="Unix microseconds.")
    fine: bool
    failures: int = Field(description="Failures in a row.")
    why: str = Field(description="`answered`, `no_connection`, `timed_out`, `status_503`, …")
    took_us: int


class HealthShape(Shape):
    """The health of a deployment, as all replicas know it."""

    id: str
    model: str
    state: str = Field(description="`healthy`, `unknown` or `offline`.")
    kinds: dict[str, str] = Field(
        description="The same for calls that want a `whole` answer, a `stream`, or bring `tools`."
    )
    breaker: dict[str, str] = Field(
        description="Of kinds that failed of late: `closed`, `open`, `half_open`, `returning`."
    )
    latency_us: int = Field(description="To the first byte, 0 when not known.")
    failures: int = Field(description="Failures in a row.")
    throttled_us: int = Field(description="For how long the vendor wants to be left alone.")
    left: dict[str, LeftShape] = Field(
        description="Of `requests` and `tokens`, where the vendor says that few are left."
    )
    probe: ProbeShape | None


class Healths(Shape):
    """The health of every deployment."""

    version: int
    deployments: list[HealthShape]


class Sections(Shape):
    """Sections by name, secrets masked."""

    version: int
    sections: dict[str, Any]


class OneSection(Shape):
    """One section, secrets masked."""

    version: int
    name: str
    section: dict[str, Any]


class ModelRow(Shape):
    """One model in one task, as `GET /v1/usage/models` judges it."""

    task: str = Field(description="The task, empty where it is not known.")
    model: str
    verdict: str = Field(
        description="`best`, `bargain` (nearly as good at half the price or less), `fair`, `dear`"
        " (another one is at least as good for less), or `unrated`."
    )
    requests: int
    attempts: int
    errors: int
    cost_nusd: int
    cost_usd: str
    ttft_us: int = Field(description="Mean first-byte time of what was served.")
    quality: float | None
    worth: float | None = Field(description="Quality times the share of tries answered.")
    price_nusd: int | None = Field(description="For a thousand mean calls of the task.")
    price_usd: str | None
    instead: str = Field(description="The model that is at least as good and costs less.")
    could_save_nusd: int = Field(description="What its calls would have cost less there.")
    could_save_usd: str


class BestSingle(Shape):
    """The best single model, and what everything would have cost there."""

    model: str
    worth: float
    cost_nusd: int
    cost_usd: str


class ModelsReport(Shape):
    """Which models are worth what they cost, and what choosing among them saved."""

    version: int
    rows: list[ModelRow]
    cost_nusd: int
    cost_usd: str
    best: BestSingle | None
    saved_nusd: int | None = Field(description="Negative when routing cost more.")
    saved_usd: str | None
    worth: float | None = Field(description="What was served was worth, weighed by calls.")


class ListPrice(Shape):
    """What a million tokens cost, in USD."""

    input_usd: str
    output_usd: str
    cached_input_usd: str
    blended_usd: str = Field(description="Three tokens of input for one of output.")
    version: str = Field(description="The price list.")


class ListedQuality(Shape):
    """How good a model is at a task, and where that is from."""

    value: float
    source: str = Field(description="As docs/catalogue.md names them, or `configuration`.")
    read: float | str = Field(description="What the source says.")
    url: str = Field(description="Where the source is published, empty for the configuration.")


class CatalogueModel(Shape):
    """A model with what is known of it, and where it is served."""

    name: str
    vendor: str
    tags: list[str]
    input: list[str] = Field(description="Modalities that it takes, empty where nobody knows.")
    output: list[str]
    context: int | None
    max_output: int | None
    price: ListPrice | None
    quality: dict[str, ListedQuality] = Field(description="By task.")
    providers: list[str]
    deployments: list[str]
    listed_as: str = Field(description="Its name in the listing, empty where it is not listed.")


class Catalogue(Shape):
    """Models by what they cost, hold and are good at."""

    version: int
    models: list[CatalogueModel]


# The reader of bodies gives numbers with all their digits.
Share = Annotated[float, Field(ge=0, le=1, strict=False)]


class DescribedCall(Shape):
    """A call to simulate."""

    model: str = Field(description="What is asked for: a model, a route, or several with commas.")
    input_tokens: Annotated[int, Field(ge=0, le=10**8)] = 1000
    output_tokens: Annotated[int, Field(ge=0, le=10**8)] | None = Field(
        default=None, description="By default what is to be expected of each model."
    )
    max_tokens: Annotated[int, Field(ge=0, le=10**8)] = Field(default=0, description="0: no cap.")
    key: str | None = Field(default=None, description="Whose defaults and models hold.")
    level: Literal["premium", "normal", "economy"] = "normal"
    prefer_cost: Literal["low", "high"] | None = None
    capabilities: list[str] | None = None
    max_price: Annotated[Decimal, Field(ge=0, le=100_000, strict=False)] | None = Field(
        default=None, description="USD per million tokens, three of input for one of output."
    )
    min_quality: Share | None = None
    regions: list[str] | None = None
    pin: str | None = None
    task: str = "chat"
    complexity: Share = 0.5
    needs: list[str] = Field(default=[], description="`vision`, `audio`: what the request holds.")
    budget_pressure: Share = 0.0


class Simulate(Shape):
    """What to simulate: a described call, one of the ledger, or its last ones."""

    request: DescribedCall | None = None
    request_id: str | None = Field(default=None, description="The `x-request-id` of an answer.")
    last: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="How many of the last calls that were served."
    )
    overlay: dict[str, Any] | None = Field(
        default=None,
        description="What differs from the live configuration: mappings are merged, null takes away.",
    )
    document: str | None = Field(default=None, description="Another configuration, as YAML.")


class WouldCandidate(Shape):
    """What is to be expected of a model, and why it would not be the first."""

    model: str
    quality: float
    cost_nusd: int
    latency_us: int
    lost: str


class Would(Shape):
    """What would be chosen."""

    policy: str
    model: str
    deployment: str = Field(description="Among equal ones the first; load cannot be told.")
    quality: float | None = Field(description="Expected, from 0 to 1; null where nobody knows.")
    cost_nusd: int | None = Field(description="Null without a price.")
    latency_us: int
    delta: float
    board: int = Field(description="The version of the facts that it was reckoned with.")
    candidates: list[WouldCandidate]
    refused: str = Field(description="Why nothing would be chosen; empty where something is.")


class WasShape(Shape):
    """What a call was."""

    request_id: str
    model: str
    deployment: str
    cost_nusd: int
    quality: float | None = Field(description="As it is to be expected by the same facts.")


class Replayed(Shape):
    """A call that would be led elsewhere."""

    was: WasShape
    would: Would


class SimulationSums(Shape):
    """All calls together; costs and qualities over those that have both sides."""

    calls: int
    changed: int
    refused: int
    compared: int
    was_cost_nusd: int
    would_cost_nusd: int
    was_quality: float | None
    would_quality: float | None


class Simulation(Shape):
    """What would be chosen, beside what was."""

    version: int
    changed: bool = Field(description="Whether the policy is another one than the live one.")
    would: Would | None
    calls: list[Replayed] = Field(description="Those that would be led elsewhere, at most 200.")
    sums: SimulationSums | None


class ArmShape(Shape):
    """What an arm of an experiment did."""

    arm: str
    share: float | None = Field(description="Of the calls, from 0 to 1.")
    tries: int
    errors: int = Field(description="Tries that failed, or that its own places could not take.")
    ttft_us: int | None = Field(description="Geometric mean of the first-byte times.")
    cost_nusd: int | None = Field(description="Mean cost of an answer.")
    faults: float | None = Field(description="What was wrong with its answers, from 0 to 1.")


class FindingShape(Shape):
    """What a guard of a canary says."""

    guard: str
    canary: float
    control: float
    allowed: float
    excess: float = Field(description="By how much the canary seems worse than is allowed.")
    at_least: float = Field(description="The lower bound of that; above 0 it does harm.")


class Results(Shape):
    """What an experiment has shown."""

    version: int
    name: str
    kind: Literal["arms", "canary", "migration", "shadow"]
    asked: str
    state: str = Field(description="What a canary waits for, or why the experiment is stopped.")
    arms: list[ArmShape]
    findings: list[FindingShape]


class CandidateShape(Shape):
    """A candidate of an attempt."""

    deployment: str
    model: str = Field(description="Empty where nobody knows it any more.")
    fate: Literal["chosen", "before", "at", "behind", "beside"] = Field(
        description="`chosen`; out `before` or `at` admission; ranked `behind`; as good, `beside` it."
    )
    why: str
    tier: int | None = Field(description="Its rank for the call, 0 first; null where it was out.")
    quality: float | None = Field(description="Expected, from 0 to 1; null: nothing was scored.")
    cost_nusd: int | None = Field(description="Expected, of the whole call.")
    latency_us: int | None = Field(description="Expected, to its end; 0 where nothing is known.")


class AttemptShape(Shape):
    """One attempt of a call."""

    attempt: int
    deployment: str
    model: str
    reason: str
    outcome: str
    status: int
    cost_nusd: int
    cost_usd: str
    ttft_us: int
    duration_us: int
    experiment: str
    policy: str
    made_from: dict[str, Any] = Field(
        description="Level, preference, task, complexity, budget pressure, delta and the board's"
        " version; empty where nothing was scored."
    )
    candidates: list[CandidateShape]
    problem: str


class Explanation(Shape):
    """Why a call went where it went, attempt by attempt."""

    request_id: str
    asked: str
    cost_nusd: int
    cost_usd: str
    attempts: list[AttemptShape]


class Word(Shape):
    """Whether the role lives or is ready."""

    status: str
    reason: str | None = None


class Anything(BaseModel):
    """An answer that is described elsewhere."""

    model_config = ConfigDict(extra="allow")
