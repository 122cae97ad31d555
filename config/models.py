"""
The configuration as Penstock holds it: frozen, typed, and with every setting described once.

The descriptions in `Field` are the documentation: `docs/configuration.md` and the schema for
editors are made from them. Two steps keep apart what was written and what was checked:
`config.loader` reads the YAML and says what is wrong with it, and only then is there a `Config`.

What refers to something else (a deployment to its provider, a key to its models) is checked by
`config.references`, because those mistakes need the whole document; a `Config` that came from the
loader has no dangling reference.

Money is USD here, as people write it (`Decimal`, at most nine decimals); `_nusd` properties give
the integers that everything else computes with.
"""

from collections.abc import Iterator
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from config.scalars import (
    ANY_NAME,
    PLAIN_NAME,
    BaseUrl,
    Flag,
    Listen,
    Moment,
    Money,
    Number,
    StoreUrl,
    Text,
    TimeZone,
    Whole,
    Word,
)
from config.secrets import CallerKeyRule, Secret, SharedSecretRule

DAY_S = 86_400
HIGHEST_CONCURRENCY = 10**6
HIGHEST_BUDGET_USD = 9_000_000  # nano-USD must stay exact in a Lua number: 9e15 < 2**53
HIGHEST_PRICE_USD = 100_000
HIGHEST_UNIT_USD = 1_000
NANO = 10**9

Protocol = Literal["openai", "anthropic", "gemini", "bedrock", "cohere"]
Dialect = Literal[
    "openai",
    "compatible",
    "azure",
    "deepseek",
    "qwen",
    "glm",
    "kimi",
    "minimax",
    "mistral",
    "groq",
    "xai",
    "openrouter",
    "vllm",
    "sglang",
    "ollama",
    "vertex",
]
Period = Literal["day", "week", "month", "quarter", "total"]
Mode = Literal["strict", "soft"]
BizLevel = Literal["premium", "normal", "economy"]
PreferCost = Literal["low", "high"]
OutputCap = Literal["max_tokens", "max_completion_tokens"]
WhenDown = Literal["share", "closed"]
Probe = Literal["models", "connect", "call", "off"]
Sticky = Literal["caller", "user", "session", "request"]
Routing = Literal["full", "steady", "declared"]
RoutePolicy = Literal["declared", "cost_quality"]
Effort = Literal["minimal", "low", "medium", "high"]
Part = Annotated[float, Number(0, 1)]

Name = Annotated[str, ANY_NAME]
PlainName = Annotated[str, PLAIN_NAME]
Label = Annotated[str, Text()]
# The name of one, or `<model>/<provider>#2`.
DeploymentId = Annotated[str, Text(longest=300, what="the id of a deployment")]
Seconds = Annotated[float, Number(0, DAY_S, above=True)]
Share = Annotated[float, Number(0, 1)]
Usd = Annotated[Decimal, Money(HIGHEST_BUDGET_USD, above=True)]
UsdPerMillion = Annotated[Decimal, Money(HIGHEST_PRICE_USD, above=False)]
UsdPerUnit = Annotated[Decimal, Money(HIGHEST_UNIT_USD, above=False)]


class Section(BaseModel):
    """What all sections share: frozen, no unknown field, and an empty value means the default."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        # In YAML a field has one name (the loader sees to it); code may use the attribute's.
        validate_by_name=True,
        validate_by_alias=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, data: Any) -> Any:
        if not isinstance(data, dict) or None not in data.values():
            return data
        optional = {
            name
            for attribute, field in cls.model_fields.items()
            if not field.is_required()
            for name in (attribute, field.validation_alias)
        }
        return {
            name: value for name, value in data.items() if value is not None or name not in optional
        }


# Where things are kept and who listens where...


# As many as anybody runs nodes for; each costs every edge two connections.
MOST_CELLS = 16


class StoreSettings(Section):
    """Where state is kept."""

    redis: Annotated[
        str,
        StoreUrl(),
    ] = Field(
        default="embedded",
        repr=False,
        description="The Redis or Valkey that all replicas share: `embedded` (started and kept by"
        " Penstock), one server (`redis://host:port/db`, `unix:///path`), the primary that Sentinels"
        " name (`redis+sentinel://host1:port,host2:port,host3:port/SERVICE/db`), or a cluster"
        " (`redis+cluster://host1:port,host2:port`); `rediss` for `redis` is TLS."
        " Limits, budgets, health and the live configuration live there.",
    )
    ledger: Annotated[
        str,
        Text(
            r"sqlite:[^\x00]+",
            longest=2048,
            what="sqlite:PATH",
            remedy="a relative path begins at the checkout, e.g. sqlite:var/ledger.db",
        ),
    ] = Field(
        default="sqlite:var/ledger.db",
        repr=False,
        description="The database that keeps the ledger, one row per attempt.",
    )
    admit_timeout_ms: Annotated[int, Whole(10, 60_000)] = Field(
        default=1000,
        description="How long an admission may wait for Redis before it is judged without it.",
    )
    when_down: Annotated[WhenDown, Word.of(WhenDown)] = Field(
        default="share",
        description="What limits and soft budgets that do not say it themselves do while Redis does"
        " not answer: `share` goes on at their share per live replica, `closed` refuses with 503."
        " Strict budgets are closed in any case.",
    )
    cells: Annotated[int, Whole(1, MOST_CELLS)] = Field(
        default=1,
        description="Over how many cells tenants are spread. Each is admitted by one script in one slot; in a"
        " cluster each may lie on a node of its own. Limits of models, deployments and providers are"
        " then divided into shares, and those have no budgets. Changes only while no edge runs.",
    )


class EdgeSettings(Section):
    """The data plane: where it listens, what it accepts and how long it waits."""

    listen: Annotated[str, Listen()] = Field(
        default="127.0.0.1:8080",
        description="Address of the data port; an IPv6 address stands in brackets.",
    )
    workers: Annotated[int | Literal["auto"], Whole(1, 1024, or_word="auto")] = Field(
        default="auto",
        description="Edge processes on this machine, which share the port; `auto` is one per"
        " available core.",
    )
    max_body_mb: Annotated[int, Whole(1, 1024)] = Field(
        default=32, description="Largest request body, in MiB; a larger one is refused with 413."
    )
    head_timeout_s: Seconds = Field(
        default=10, description="How long a caller may take to send the head of a request."
    )
    body_timeout_s: Seconds = Field(
        default=60, description="How long a caller may take to send the body of a request."
    )
    idle_timeout_s: Seconds = Field(
        default=75, description="How long an idle keep-alive connection is kept."
    )
    total_timeout_s: Seconds = Field(
        default=3600, description="How long an exchange may take from first to last byte."
    )
    realtime_idle_timeout_s: Seconds = Field(
        default=600,
        description="How long a realtime session may go on in which neither side says anything.",
    )
    drain_timeout_s: Annotated[float, Number(0, DAY_S)] = Field(
        default=30,
        description="How long open streams may go on after SIGTERM; 0 ends them at once.",
    )
    liveness_timeout_s: Annotated[float, Number(0, DAY_S)] = Field(
        default=10,
        description="How long an edge that runs may answer nobody (stopped, or stuck) before `up`"
        " kills it and starts another; 0 leaves it alone. Read at the start.",
    )
    access_log: Annotated[str, Text(longest=1024, what="stdout, off or a path")] = Field(
        default="stdout",
        description="Where the JSON access line of every exchange goes: `stdout`, `off`, or the"
        " path of a file.",
    )
    assumed_output_tokens: Annotated[int, Whole(1, 10_000_000)] = Field(
        default=1024,
        description="Output tokens that are reserved for a request that names no cap, where the"
        " model's `max_output` is not known to be lower; settled to the truth afterwards.",
    )
    queue_timeout_ms: Annotated[int, Whole(0, 60_000)] = Field(
        default=1000,
        description="How long a call may wait for a place when every deployment that could serve it"
        " is at a limit of its own; 0 refuses at once. A caller's `x-deadline-ms` shortens it.",
    )
    max_attempts: Annotated[int, Whole(1, 20)] = Field(
        default=3, description="Most deployments that one exchange may try before its first byte."
    )
    retry_ratio: Annotated[float, Number(0, 1)] = Field(
        default=0.2,
        description="Most second tries per request over ten seconds, so that an outage is not"
        " answered with more load; each edge makes ten in any case. 0 makes none.",
    )


class AdminSettings(Section):
    """The operator's door: API, metrics and health; it serves no completion."""

    listen: Annotated[str, Listen()] = Field(
        default="127.0.0.1:8081",
        description="Address of the admin port; beyond the own machine it needs a `token`.",
    )
    token: Annotated[Secret, SharedSecretRule()] | None = Field(
        default=None,
        description="What an operator presents as `Authorization: Bearer …`; at least 16"
        " characters.",
    )


# What is bought and sold...


# The most that a limit may be, by its window.
RequestsPerSecond = Annotated[int, Whole(1, 10**6)]
RequestsPerMinute = Annotated[int, Whole(1, 10**7)]
RequestsPerHour = Annotated[int, Whole(1, 10**9)]
RequestsPerDay = Annotated[int, Whole(1, 10**10)]
TokensPerMinute = Annotated[int, Whole(1, 10**10)]
TokensPerDay = Annotated[int, Whole(1, 10**13)]


class Burst(Section):
    """How much the bucket of a rate holds, where it is not the amount of one window."""

    rps: RequestsPerDay | None = Field(default=None, description="Most at once under `rps`.")
    rpm: RequestsPerDay | None = Field(default=None, description="Most at once under `rpm`.")
    rph: RequestsPerDay | None = Field(default=None, description="Most at once under `rph`.")
    rpd: RequestsPerDay | None = Field(default=None, description="Most at once under `rpd`.")
    tpm: TokensPerDay | None = Field(default=None, description="Most at once under `tpm`.")
    tpd: TokensPerDay | None = Field(default=None, description="Most at once under `tpd`.")
    itpm: TokensPerDay | None = Field(default=None, description="Most at once under `itpm`.")
    itpd: TokensPerDay | None = Field(default=None, description="Most at once under `itpd`.")
    otpm: TokensPerDay | None = Field(default=None, description="Most at once under `otpm`.")
    otpd: TokensPerDay | None = Field(default=None, description="Most at once under `otpd`.")


class Limits(Section):
    """Limits of one scope; what is absent is not limited there."""

    rps: RequestsPerSecond | None = Field(default=None, description="Requests per second.")
    rpm: RequestsPerMinute | None = Field(default=None, description="Requests per minute.")
    rph: RequestsPerHour | None = Field(default=None, description="Requests per hour.")
    rpd: RequestsPerDay | None = Field(
        default=None,
        description="Requests per day: a bucket that refills evenly over 24 hours, not at midnight.",
    )
    tpm: TokensPerMinute | None = Field(
        default=None, description="Tokens per minute, input and output together."
    )
    tpd: TokensPerDay | None = Field(
        default=None, description="Tokens per day, input and output together; refills as `rpd`."
    )
    itpm: TokensPerMinute | None = Field(default=None, description="Input tokens per minute.")
    itpd: TokensPerDay | None = Field(
        default=None, description="Input tokens per day; refills as `rpd`."
    )
    otpm: TokensPerMinute | None = Field(default=None, description="Output tokens per minute.")
    otpd: TokensPerDay | None = Field(
        default=None, description="Output tokens per day; refills as `rpd`."
    )
    concurrency: Annotated[int, Whole(1, HIGHEST_CONCURRENCY)] | None = Field(
        default=None, description="Exchanges that may be open at the same time."
    )
    when_store_is_down: Annotated[WhenDown, Word.of(WhenDown)] | None = Field(
        default=None,
        description="What these limits do while Redis does not answer: `share` goes on at limit /"
        " live replicas on each of them, `closed` refuses with 503; by default `store.when_down`.",
    )
    burst: Burst = Field(
        default_factory=Burst,
        description="How much of a rate may be used at once, e.g. `{rpm: 20}`; by default the whole"
        " amount of its window.",
    )


class Raise(Section):
    """Another amount for a budget, for a time."""

    usd: Usd = Field(description="The amount that holds until then, instead of the budget's.")
    until: Annotated[str, Moment()] = Field(
        description="When it ends: `2026-12-24`, `2026-12-24T18:00` (in the budget's time zone), or"
        " with an offset, `2026-12-24T18:00+01:00`."
    )


class Budget(Section):
    """Money that one scope may spend in a period."""

    usd: Usd = Field(description="The amount in USD, exact to nine decimals.")
    per: Annotated[Period, Word.of(Period)] = Field(
        description="The period after which it begins anew, by the calendar of `time_zone`; a week"
        " begins on Monday, a `total` never begins anew."
    )
    mode: Annotated[Mode, Word.of(Mode)] = Field(
        default="soft",
        description="`strict` reserves the highest possible cost beforehand and is never overshot;"
        " `soft` refuses once it is spent, so that what is under way may overshoot it.",
    )
    when_store_is_down: Annotated[WhenDown, Word.of(WhenDown)] | None = Field(
        default=None,
        description="What it does while Redis does not answer: `share` lets an outage cost a"
        " twentieth of it at most, `closed` refuses with 503; by default `store.when_down`."
        " A strict budget is always closed.",
    )
    time_zone: Annotated[str, TimeZone()] | None = Field(
        default=None,
        description="IANA name of the time zone whose calendar ends its periods, e.g."
        " `Europe/Berlin`; by default the organization's, or else UTC.",
    )
    alerts_at: tuple[Annotated[int, Whole(1, 200)], ...] = Field(
        default=(50, 80, 100),
        description="Percents of the amount; when what is spent reaches one there is an event, once"
        " per period.",
    )
    raised: Raise | None = Field(
        default=None,
        validation_alias="raise",
        description="Another amount for a time.",
    )

    @property
    def limit_nusd(self) -> int:
        """The amount in nano-USD, when it is not raised."""
        return int(self.usd * NANO)


class OneOrMore:
    """Metadata for a tuple that may be written as a single entry without a list."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Make a list of what is none."""
        return core_schema.no_info_before_validator_function(
            lambda value: [value] if isinstance(value, dict | BaseModel) else value, handler(source)
        )

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Tell editors of both forms."""
        listed = handler(core)
        return {"anyOf": [listed["items"], listed]}


Budgets = Annotated[tuple[Budget, ...], OneOrMore()]
BUDGET_TEXT = "One budget, or a list of them; each holds on its own."


class Alone:
    """Metadata for a section that may be written as the value of one of its fields alone."""

    def __init__(self, field: str) -> None:
        self.field = field

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Make a section of what is none."""
        return core_schema.no_info_before_validator_function(
            lambda value: (
                value if isinstance(value, dict | BaseModel | list) else {self.field: value}
            ),
            handler(source),
        )

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Tell editors of both forms."""
        section = handler(core)
        alone = handler.resolve_ref_schema(section)["properties"][self.field]
        (value,) = (each for each in alone["anyOf"] if each.get("type") != "null")
        return {"anyOf": [value, section]}


class OneForAll:
    """Metadata for a mapping that may be written as one value, which then stands under `default`."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Make a mapping of what is none."""
        return core_schema.no_info_before_validator_function(
            lambda value: value if isinstance(value, dict) else {"default": value}, handler(source)
        )

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Tell editors of both forms."""
        mapping = handler(core)
        (each,) = (
            mapping.get("patternProperties") or {"": mapping["additionalProperties"]}
        ).values()
        return {"anyOf": [each, mapping]}


ImagePrices = Annotated[
    dict[
        Annotated[
            str,
            Text(
                r"[a-z0-9_.-]+(/[a-z0-9_.-]+)?",
                what="default, a quality, a size, or quality/size",
            ),
        ],
        UsdPerUnit,
    ],
    OneForAll(),
]
# What may be sold by itself; a price that says one of these need not speak of tokens.
UNIT_PRICES = (
    *("per_image", "per_second", "per_second_output", "per_character", "per_search_unit"),
    "per_request",
)


def _without_required(schema: dict[str, Any]) -> None:
    """Let editors accept a price that sells no tokens."""
    required = schema.pop("required", [])
    sold = [{"required": [name]} for name in UNIT_PRICES]
    schema["anyOf"] = [{"required": required}, *sold]


class Price(Section):
    """What a model costs: tokens in USD per million, other things in USD each; it overrides the catalogue."""

    model_config = ConfigDict(json_schema_extra=_without_required)

    since: Annotated[str, Moment()] | None = Field(
        default=None,
        validation_alias="from",
        description="From when on, in a list of prices: `2027-01-01` or `2027-01-01T12:00` (UTC), or"
        " with an offset; before the first of them the catalogue's price holds.",
    )
    input: UsdPerMillion = Field(
        description="Input tokens; together with `output` it may be left out where something else is sold."
    )
    output: UsdPerMillion = Field(description="Output tokens, reasoning included.")
    cached_input: UsdPerMillion | None = Field(
        default=None, description="Input tokens read from the vendor's cache; as `input` if absent."
    )
    cache_write: UsdPerMillion | None = Field(
        default=None,
        description="Input tokens written to the vendor's cache; as `input` if absent.",
    )
    cache_write_1h: UsdPerMillion | None = Field(
        default=None,
        description="Those of them that are to live for an hour; as `cache_write` if absent.",
    )
    audio_input: UsdPerMillion | None = Field(
        default=None, description="Audio input tokens; as `input` if absent."
    )
    audio_output: UsdPerMillion | None = Field(
        default=None, description="Audio output tokens; as `output` if absent."
    )
    reasoning: UsdPerMillion | None = Field(
        default=None, description="Reasoning tokens; as `output` if absent."
    )
    image_input: UsdPerMillion | None = Field(
        default=None, description="Image input tokens; as `input` if absent."
    )
    image_output: UsdPerMillion | None = Field(
        default=None, description="Image output tokens; as `output` if absent."
    )
    per_image: ImagePrices | None = Field(
        default=None,
        description="USD for an image that is made: one price, or a mapping of `default`, a quality, a"
        " size or `quality/size` to prices, of which the most exact holds.",
    )
    per_second: UsdPerUnit | None = Field(
        default=None, description="USD for a second of audio that is sent, as of a transcription."
    )
    per_second_output: UsdPerUnit | None = Field(
        default=None, description="USD for a second of audio that is made."
    )
    per_character: UsdPerUnit | None = Field(
        default=None, description="USD for a character that is spoken."
    )
    per_search_unit: UsdPerUnit | None = Field(
        default=None, description="USD for a search unit of a rerank."
    )
    per_request: UsdPerUnit | None = Field(
        default=None, description="USD for each attempt that the vendor served, whatever it holds."
    )

    @model_validator(mode="before")
    @classmethod
    def _need_not_sell_tokens(cls, data: Any) -> Any:
        if not isinstance(data, dict) or {"input", "output"} & data.keys():
            return data
        sells = any(data.get(name) is not None for name in UNIT_PRICES)
        return {"input": 0, "output": 0} | data if sells else data


class AwsCredentials(Section):
    """Whose requests to Amazon are: an access key, with which each of them is signed."""

    role: Annotated[bool, Flag()] = Field(
        default=False,
        description="`true` takes the access key of the role that this machine, container or pod"
        " has, and renews it before it ends.",
    )
    access_key_id: Annotated[str, Text(r"[A-Za-z0-9_-]+", what="an access key's id")] | None = (
        Field(
            default=None,
            description="Id of an access key that lasts, e.g. `${AWS_ACCESS_KEY_ID}`.",
        )
    )
    secret_access_key: Secret | None = Field(
        default=None, description="Its secret; write it as `${AWS_SECRET_ACCESS_KEY}`."
    )
    session_token: Secret | None = Field(
        default=None, description="The session's token, of an access key that is temporary."
    )
    region: Annotated[str, Text(r"[a-z0-9-]+", what="a region")] | None = Field(
        default=None,
        description="Region that signatures are for; by default the one in the host of `base_url`.",
    )


Prices = Annotated[tuple[Price, ...], OneOrMore()]


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


class HealthProbe(Section):
    """How a provider is probed; once for the whole fleet, by the control that leads."""

    probe: Annotated[Probe, Word.of(Probe)] | None = Field(
        default=None,
        description="`models` asks for its list of models, `connect` only for a connection, `call`"
        " each deployment for one token, which costs what it costs and stands in the ledger under"
        " the key `probe`; `off` probes nothing. By default `models`; but `connect` to Bedrock, Cohere,"
        " Vertex AI, Azure with an `api_version`, and where there is a `token`: those cannot be asked.",
    )
    interval_s: Annotated[float, Number(1, DAY_S)] = Field(
        default=30, description="Pause between two probes."
    )
    timeout_s: Seconds = Field(default=5, description="How long a probe may take.")


class FirstToken(Section):
    """How long the first token of a stream may take, by the size of its prompt."""

    base_s: Seconds = Field(description="How long that of an empty prompt may take.")
    per_1k_tokens_s: Annotated[float, Number(0, DAY_S)] = Field(
        default=0.5, description="How much longer for each thousand tokens of input."
    )
    times: Annotated[float, Number(1, 1000)] = Field(
        default=4,
        description="Never less than so many times the latency that all replicas see at the"
        " deployment.",
    )


class TokenSource(Section):
    """Where a provider's access token comes from, that does not last: one of these."""

    service_account: Annotated[str, Text(longest=1024, what="a path")] | None = Field(
        default=None,
        description="Path of a Google service account's key in JSON, with which tokens are bought.",
    )
    metadata: Annotated[bool, Flag()] = Field(
        default=False,
        description="`true` asks Google's metadata server for the machine's own account (on GCE, on"
        " GKE with workload identity, on Cloud Run).",
    )
    file: Annotated[str, Text(longest=1024, what="a path")] | None = Field(
        default=None,
        description="Path of a file that somebody else keeps a token in; it is read every minute.",
    )


class Provider(Section):
    """A vendor or server that speaks a protocol at a base URL."""

    protocol: Annotated[Protocol, Word.of(Protocol)] = Field(
        description="What it speaks: `bedrock` is Amazon's Converse, `cohere` its rerank and embed; all vendors that are compatible"
        " with OpenAI speak `openai`."
    )
    dialect: Annotated[Dialect, Word.of(Dialect)] | None = Field(
        default=None,
        description="How its server differs from OpenAI's, of those that speak `openai`; `vertex` of"
        " those that speak `gemini` or `anthropic` at Google's Vertex AI. By default it is known by the"
        " host of `base_url`, or is `compatible`.",
    )
    base_url: Annotated[str, BaseUrl()] = Field(
        description="Where its paths begin, e.g. `https://api.openai.com/v1` or"
        " `https://api.anthropic.com`; no user, query or fragment."
    )
    api_key: Secret | None = Field(
        default=None,
        description="Sent as the protocol has it: `Authorization: Bearer …`, `x-api-key` to"
        " Anthropic, `x-goog-api-key` to Google. Write it as `${VARIABLE}`: then it is in no file and not in Redis.",
    )
    api_version: Annotated[str, Text(r"[A-Za-z0-9._-]+", what="a version")] | None = Field(
        default=None,
        description="Version of Azure's API that is asked by deployment"
        " (`/openai/deployments/…?api-version=…`); without one `base_url` ends with `/openai/v1`.",
    )
    aws: AwsCredentials | None = Field(
        default=None,
        description="With what requests to `bedrock` are signed, where it has no `api_key`.",
    )
    token: TokenSource | None = Field(
        default=None,
        description="Where its access token comes from, in place of an `api_key`: it is sent as a"
        " bearer, and renewed before it ends.",
    )
    headers: Annotated[
        dict[
            Annotated[str, Text(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", what="a header name")],
            Annotated[str, Text(r"[\x20-\x7e]+", longest=4096, what="a header value in ASCII")],
        ],
        Field(max_length=64),
    ] = Field(
        default_factory=dict,
        repr=False,
        description="Headers that are added to every request to it. Headers that frame a message"
        " or that the gateway owns are refused.",
    )
    connect_timeout_s: Seconds = Field(
        default=5, description="How long a connection may take to open, TLS included."
    )
    first_byte_timeout_s: Seconds = Field(
        default=60, description="How long the first byte of an answer may take."
    )
    health: HealthProbe = Field(default_factory=HealthProbe, description="How it is probed.")
    first_token_timeout: FirstToken | None = Field(
        default=None,
        description="How long the first token of a stream may take, where that is to depend on its"
        " prompt; `first_byte_timeout_s` is the most. Not for models that think before they speak.",
    )
    idle_timeout_s: Seconds = Field(
        default=60, description="How long the pause between two chunks of an answer may be."
    )
    total_timeout_s: Seconds = Field(
        default=600, description="How long an attempt may take from first to last byte."
    )
    ca_file: Annotated[str, Text(longest=1024, what="a path")] | None = Field(
        default=None,
        description="PEM file with the authorities to trust instead of the system's; for private"
        " servers. Certificates are always verified.",
    )
    stream_usage: Annotated[bool, Flag()] | None = Field(
        default=None,
        description="Whether it understands `stream_options.include_usage`; `false` for servers"
        " that refuse it, whose streams are then counted by Penstock. By default as its `dialect` has it.",
    )
    output_cap: Annotated[OutputCap, Word.of(OutputCap)] | None = Field(
        default=None,
        description="The field that carries an output cap that Penstock adds; by default the one"
        " that the caller used, or else the one that its `dialect` has.",
    )
    catalogue: Name | None = Field(
        default=None,
        description="Id of the provider in the price catalogue (genai-prices); by default it is"
        " found by the host of `base_url`.",
    )
    files: Annotated[bool, Flag()] = Field(
        default=False,
        description="Whether callers may keep files and run batches there; it has to speak `openai`.",
    )
    batch_percent: Annotated[int, Whole(0, 100)] = Field(
        default=50, description="What a call in a batch costs there, in percent of its usual price."
    )
    limits: Limits = Field(
        default_factory=Limits, description="Limits over all its deployments together."
    )
    budgets: Budgets = Field(default=(), validation_alias="budget", description=BUDGET_TEXT)

    def secrets(self) -> Iterator[Secret]:
        """Yield what is sent to it and shown to nobody."""
        if self.api_key is not None:
            yield self.api_key
        if self.aws is not None:
            for secret in (self.aws.secret_access_key, self.aws.session_token):
                if secret is not None:
                    yield secret


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
    hedge: Hedge | None = Field(
        default=None,
        description="A second attempt at streams that are late; both are paid for, one is heard.",
    )
    deployments: Annotated[tuple[Deployment, ...], Field(min_length=1)] = Field(
        description="The places that serve it; at least one."
    )


class Within(Section):
    """How much less than the best predicted quality is good enough, by the cost preference of a call."""

    low: Part | None = Field(default=None, description="For calls with `prefer_cost: low`.")
    high: Part | None = Field(default=None, description="For calls with `prefer_cost: high`.")


class RouteLevel(Section):
    """What a route does for calls of one business level."""

    within: Within = Field(
        default_factory=Within,
        description="How much less than the best predicted quality is good enough; the cheapest of"
        " the models that are is chosen. By default 0.03 and 0.01 for premium, 0.10 and 0.05 for"
        " normal, 0.25 and 0.12 for economy (low, high); calls without a preference get the middle.",
    )
    min_quality: Part | None = Field(
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


# What is tried out...

Percent = Annotated[float, Number(0, 100)]


_TO_MODEL = "The model or route that serves them; absent: what was asked for."
_TO_DEPLOYMENT = "The one deployment that serves them, in the place of `model`."


class Arm(Section):
    """One arm of an A/B test; without `model` and `deployment` its calls go where they always went."""

    model: Name | None = Field(default=None, description=_TO_MODEL)
    deployment: DeploymentId | None = Field(default=None, description=_TO_DEPLOYMENT)
    weight: Annotated[int, Whole(0, 10**6)] = Field(
        default=1, description="Its share of the calls, relative to the other arms'."
    )


class Guards(Section):
    """How much worse a canary may be than what it would replace."""

    error_rate: Annotated[float, Number(0, 1)] = Field(
        default=0.02,
        description="How much higher the share of tries that fail may be; with 1 it does not matter.",
    )
    ttft: Annotated[float, Number(0, 100)] = Field(
        default=0.5,
        description="How much longer the first byte may take; 0.5 is half as long again.",
    )
    cost: Annotated[float, Number(0, 100)] | None = Field(
        default=None,
        description="How much dearer a call may be; 0.2 is a fifth. It is not judged unless it is said.",
    )
    quality: Annotated[float, Number(0, 1)] = Field(
        default=0.05,
        description="How much lower the quality of its answers may be, as their outcomes tell it"
        " (cut off, refused, JSON that is none); with 1 it does not matter.",
    )


class Canary(Section):
    """A change that is tried on a share of the calls, which grows step by step, and taken back when it does harm."""

    model: Name | None = Field(default=None, description=_TO_MODEL)
    deployment: DeploymentId | None = Field(default=None, description=_TO_DEPLOYMENT)
    steps: Annotated[tuple[Percent, ...], Field(min_length=1, max_length=20)] = Field(
        default=(1, 5, 25, 50, 100), description="The percents of the calls, one after another."
    )
    step: Annotated[int, Whole(0, 19)] = Field(
        default=0, description="The step that runs, counted from 0; the control raises it."
    )
    since: Annotated[str, Moment()] | None = Field(
        default=None,
        description="When that step began: what was served before is not judged. The control says it.",
    )
    step_s: Seconds = Field(default=600, description="How long a step takes at least.")
    min_samples: Annotated[int, Whole(10, 10**6)] = Field(
        default=100, description="Calls of each arm without which nothing is judged."
    )
    confidence: Annotated[float, Number(0.5, 0.9999)] = Field(
        default=0.95,
        description="How sure a rollback must be: a harmless canary survives all of its steps with"
        " this probability at least, however often it is looked at.",
    )
    guards: Guards = Field(
        default_factory=Guards, description="How much worse it may be before it is taken back."
    )


class Point(Section):
    """A share of the calls at a moment."""

    at: Annotated[str, Moment()] = Field(description="The moment, in UTC where it names no offset.")
    percent: Percent = Field(description="The percent of the calls that are led there by then.")


class Migration(Section):
    """A change from one model to another, by weight over time."""

    model: Name | None = Field(default=None, description=_TO_MODEL)
    deployment: DeploymentId | None = Field(default=None, description=_TO_DEPLOYMENT)
    schedule: Annotated[tuple[Point, ...], Field(min_length=1, max_length=100)] = Field(
        description="Moments with their percents, in order of time; between two of them the share"
        " grows evenly. Before the first one nothing is led there."
    )


class ShadowTest(Section):
    """Copies of calls to another model, beside the answer that callers get; no caller pays or waits for one."""

    model: Name | None = Field(default=None, description=_TO_MODEL)
    deployment: DeploymentId | None = Field(default=None, description=_TO_DEPLOYMENT)
    percent: Percent = Field(default=100, description="The percent of the calls that are copied.")
    max_body_kb: Annotated[int, Whole(1, 32 * 1024)] = Field(
        default=256, description="Larger requests are not copied; in KiB."
    )
    concurrency: Annotated[int, Whole(1, HIGHEST_CONCURRENCY)] = Field(
        default=8,
        description="Copies that may be under way at the same time, on all edges together.",
    )
    budgets: Annotated[Budgets, Field(min_length=1)] = Field(
        validation_alias="budget",
        description="What the copies may cost: they are charged to this and to nobody else.",
    )


class Experiment(Section):
    """
    A change that is tried out behind a name, with callers untouched.

    One of `arms`, `canary`, `migration` and `shadow` says what kind it is.
    """

    asked: Name = Field(description="The model or route whose calls take part.")
    sticky: Annotated[Sticky, Word.of(Sticky)] = Field(
        default="caller",
        description="What stays in one arm: the `caller` (a key), the `user` that a request names,"
        " the `session` (`x-session-id`, `metadata.session_id` or `prompt_cache_key`), or nothing"
        " beyond the `request`. Where a request names none, its key counts.",
    )
    stopped: Annotated[str, Text(longest=500)] | None = Field(
        default=None,
        description="Why it is stopped; while this stands, calls go as if it were not there."
        " A canary that does harm is stopped so by the control.",
    )
    arms: Annotated[dict[PlainName, Arm], Field(min_length=2, max_length=20)] | None = Field(
        default=None, description="An A/B test: its arms by name."
    )
    canary: Canary | None = Field(default=None, description="A canary.")
    migration: Migration | None = Field(default=None, description="A weighted migration.")
    shadow: ShadowTest | None = Field(default=None, description="Shadow traffic.")


# Who calls...


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


# The whole...


class PlacedDeployment(NamedTuple):
    """A deployment with what its place in the document says about it."""

    id: str
    model: str
    upstream_name: str
    deployment: Deployment


class PlacedOrganization(NamedTuple):
    """
    An organization with what its place in the document says about it.

    `id` is its path, `acme/emea`; `above` is what it is a part of; `time_zone` is that of its budgets.
    """

    id: str
    above: "PlacedOrganization | None"
    time_zone: str
    organization: Organization

    @property
    def chain(self) -> "tuple[PlacedOrganization, ...]":
        """Itself and all that it is a part of, itself first."""
        return (self, *(() if self.above is None else self.above.chain))


class PlacedKey(NamedTuple):
    """A key with what its place in the document says about it; `id` is `org/team/name`."""

    id: str
    organization: str
    team: str
    name: str
    key: Key
    place: PlacedOrganization


class Config(Section):
    """The whole configuration."""

    store: StoreSettings = Field(default_factory=StoreSettings, description="Where state is kept.")
    edge: EdgeSettings = Field(default_factory=EdgeSettings, description="The data plane.")
    admin: AdminSettings = Field(default_factory=AdminSettings, description="The operator's door.")
    providers: dict[Name, Provider] = Field(
        default_factory=dict, description="Vendors and servers by name."
    )
    models: dict[Name, Model] = Field(
        default_factory=dict, description="Models by the name that callers ask for."
    )
    routes: dict[Name, Route] = Field(
        default_factory=dict, description="Virtual models by the name that callers ask for."
    )
    experiments: dict[PlainName, Experiment] = Field(
        default_factory=dict, description="What is tried out, by name."
    )
    organizations: dict[PlainName, Organization] = Field(
        default_factory=dict, description="Organizations by name."
    )

    @cached_property
    def deployments(self) -> dict[str, PlacedDeployment]:
        """Every deployment by its id, in the order of the document."""
        return {
            deployment_id: PlacedDeployment(deployment_id, name, placed.name or name, placed)
            for name, model in self.models.items()
            for deployment_id, placed in zip(
                deployment_ids(name, [(each.provider, each.id) for each in model.deployments]),
                model.deployments,
                strict=True,
            )
        }

    def placed_organizations(self) -> Iterator[PlacedOrganization]:
        """Give every organization, each before its parts, in the order of the document."""
        yield from _placed(self.organizations, None)

    def placed_keys(self) -> Iterator[PlacedKey]:
        """Give every caller key with its organization and team, in the order of the document."""
        for place in self.placed_organizations():
            for team_name, team in place.organization.teams.items():
                for name, key in team.keys.items():
                    key_id = f"{place.id}/{team_name}/{name}"
                    yield PlacedKey(key_id, place.id, team_name, name, key, place)


def _placed(
    organizations: dict[str, Organization], above: PlacedOrganization | None
) -> Iterator[PlacedOrganization]:
    path, zone = ("", "UTC") if above is None else (f"{above.id}/", above.time_zone)
    for name, organization in organizations.items():
        place = PlacedOrganization(path + name, above, organization.time_zone or zone, organization)
        yield place
        yield from _placed(organization.organizations, place)


def deployment_ids(model: str, deployments: list[tuple[str, str | None]]) -> list[str]:
    """
    Name the deployments of a model, given as (provider, explicit id or None).

    Without an explicit id it is `<model>/<provider>`, and `<model>/<provider>#2` for the second one
    at the same provider; explicit ids do not count as repeats.
    """
    seen: dict[str, int] = {}
    ids = []
    for provider, explicit in deployments:
        if explicit is None:
            seen[provider] = seen.get(provider, 0) + 1
            nth = seen[provider]
            ids.append(f"{model}/{provider}" + (f"#{nth}" if nth > 1 else ""))
        else:
            ids.append(explicit)
    return ids


PROTOCOLS: tuple[str, ...] = get_args(Protocol)
