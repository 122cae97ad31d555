"""The sections of providers: what they speak, how they are asked, and what shows them who asks."""

from collections.abc import Iterator
from typing import Annotated, Literal, get_args

from pydantic import Field

from config.quotas import BUDGET_TEXT, Budgets, Limits
from config.scalars import BaseUrl, Flag, Number, Text, Whole, Word
from config.secrets import Secret
from config.section import DAY_S, Name, Seconds, Section

Protocol = Literal["openai", "anthropic", "gemini", "bedrock", "cohere", "ollama"]
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
OutputCap = Literal["max_tokens", "max_completion_tokens"]
Probe = Literal["models", "connect", "call", "off"]


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


class HealthProbe(Section):
    """How a provider is probed; once for the whole fleet, by the control that leads."""

    probe: Annotated[Probe, Word.of(Probe)] | None = Field(
        default=None,
        description="`models` asks for its list of models, `connect` only for a connection, `call`"
        " each deployment for 16 tokens at most, which costs what it costs and stands in the ledger under"
        " the key `probe`; `off` probes nothing. By default `models`; but `connect` to Bedrock, Cohere,"
        " Vertex AI, and where there is a `token`: those cannot be asked.",
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
        description="What it speaks: `bedrock` is Amazon's Converse, `cohere` its rerank and embed, `ollama` the API of"
        " Ollama's own; all vendors that are compatible with OpenAI speak `openai`."
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
        description="Whether callers may keep files and run batches there; it has to speak `openai`, without"
        " `api_version` and `token`.",
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


PROTOCOLS: tuple[str, ...] = get_args(Protocol)
