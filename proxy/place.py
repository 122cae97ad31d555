"""
A deployment as the hot path uses it: where it is, each way to ask it, what it costs, and what is counted of it.

A `Place` is made once per configuration; a request only picks one, and the way that leads from its endpoint to the provider's.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from time import time_ns
from urllib.parse import quote, urlsplit

from config.dialects import Dialect
from config.providers import AwsCredentials, FirstToken, Provider
from config.vendors import bedrock_region, dialect_of, facts_of
from proxy.credentials import Head, SignedHead, TokenHead
from proxy.observe import Metrics
from proxy.passage import PASSING, PASSING_ARRAY, Passing, Translation
from proxy.tokens import Source, Token
from proxy.upstream.deadlines import Timeouts
from proxy.upstream.tls import Origin
from proxy.wire import translate
from proxy.wire.endpoints import ENDPOINTS, Endpoint
from proxy.wire.headers import RequestHead
from proxy.wire.translate.sigv4 import Credentials
from proxy.wire.vendors import Spoken, by_responses, spoken_by
from routing.eligibility import Option
from routing.rates import Rates

__all__ = [
    "UNPRICED",
    "USER_AGENT",
    "Place",
    "Way",
    "place_of",
    "secrets_of",
    "source_of",
    "spoken_of",
    "without",
]

USER_AGENT = "penstock/0.1.0"
# What chat completions can stand in for, in OpenAI's family.
STANDS_IN = frozenset({"openai.responses", "openai.completions"})
# A provider's header that is shorter than this holds no credentials.
SECRET_CHARS = 12
UNPRICED = Rates(0, 0, 0, 0, 0, 0, 0)


class Tally:
    """The metric objects of one deployment, made once."""

    __slots__ = (
        "between",
        "cached",
        "cost",
        "duration",
        "input",
        "ok",
        "output",
        "reasoning",
        "ttft",
    )

    def __init__(self, metrics: Metrics, model: str, deployment: str) -> None:
        self.ok = metrics.counter("penstock_attempts_total", model, deployment, "ok")
        self.cost = metrics.counter("penstock_cost_nusd_total", model, deployment)
        self.input = metrics.counter("penstock_tokens_total", model, "input")
        self.cached = metrics.counter("penstock_tokens_total", model, "cached")
        self.output = metrics.counter("penstock_tokens_total", model, "output")
        self.reasoning = metrics.counter("penstock_tokens_total", model, "reasoning")
        self.ttft = metrics.histogram("penstock_ttft_seconds", model)
        self.duration = metrics.histogram("penstock_duration_seconds", model)
        self.between = metrics.histogram("penstock_time_between_chunks_seconds", model)


@dataclass(frozen=True, slots=True)
class Way:
    """How a deployment is asked what a caller asks for: by which endpoint of its provider's, and under which head."""

    endpoint: Endpoint
    head: Head
    cap_field: str
    target: translate.Target
    """What is known of the model there."""
    translation: Translation | None = None
    """Where the caller's protocol is another one than the provider's."""
    passage: Passing = PASSING
    """How bytes go where both speak the same."""
    streamed: "Way | None" = None
    """Where a stream is asked for in another way than a whole answer."""
    instead: "Way | None" = None
    """What can stand in for it at a server that may not have it, as nobody knows of it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A deployment as the exchange uses it: where it is, how to ask, what it costs."""

    id: str
    model: str
    provider: str
    upstream_name: str
    origin: Origin
    ways: dict[Endpoint, Way]
    """By the endpoint that a caller asks; one that is not there cannot be served."""
    timeouts: Timeouts
    connect_timeout_s: float
    stream_usage: bool
    rates: Rates
    about: bytes
    """What answers say of it: header lines, up to the reason of the choice."""
    first_token: FirstToken | None
    """How long a stream's first token may take, where that depends on its prompt."""
    context: int
    """Tokens of input and output together, 0 when nobody knows."""
    effort: str
    """How much its model is to think, empty where nobody says."""
    secrets: tuple[bytes, ...] = field(repr=False)
    """What is sent to it and shown to nobody: its key, and the values of its own headers."""
    tally: Tally
    token: Token | None = field(default=None, repr=False)

    def holds_more(self, other: "Place") -> bool:
        """Whether it may take what was too long for another one."""
        if self.context and other.context:
            return self.context > other.context
        return self.model != other.model

    def without_secrets(self, text: bytes) -> bytes:
        """Return words of the vendor's in which nothing that we sent it is repeated."""
        secrets, token = self.secrets, self.token
        if token is not None:
            session = "" if token.key is None else token.key.token or ""
            secrets = (*secrets, token.value, session.encode())
        return without(secrets, text)


def without(secrets: Iterable[bytes], text: bytes) -> bytes:
    """Return a text in which no secret is repeated."""
    for secret in secrets:
        if secret and secret in text:
            text = text.replace(secret, b"***")
    return text


def place_of(
    option: Option,
    metrics: Metrics,
    origin: Origin,
    token_of: Callable[[Source], Token],
) -> Place:
    """Make the place of a deployment; `origin` is its provider's."""
    provider, placed = option.provider, option.placed
    dialect = facts_of(provider)
    spoken = spoken_of(provider)
    if placed.deployment.responses_only:
        spoken = by_responses(spoken)
    source = source_of(provider)
    token = None if source is None else token_of(source)
    return Place(
        id=placed.id,
        model=placed.model,
        provider=placed.deployment.provider,
        upstream_name=placed.upstream_name,
        origin=origin,
        ways=_ways(option, spoken, dialect, _Heads(option, spoken, origin, token)),
        timeouts=Timeouts(
            first_byte_s=provider.first_byte_timeout_s,
            idle_s=provider.idle_timeout_s,
            total_s=provider.total_timeout_s,
        ),
        connect_timeout_s=provider.connect_timeout_s,
        stream_usage=dialect.stream_options,
        rates=option.rates or UNPRICED,
        about=(
            f"x-penstock-deployment: {placed.id}\r\nx-penstock-model: {placed.model}\r\n"
            f"x-penstock-route: model={placed.model}; deployment={placed.id}; reason="
        ).encode(),
        first_token=provider.first_token_timeout,
        context=option.context or 0,
        effort=option.effort,
        secrets=secrets_of(provider),
        tally=Tally(metrics, placed.model, placed.id),
        token=token,
    )


class _Heads:
    """Makes the heads of requests to one deployment."""

    def __init__(self, option: Option, spoken: Spoken, origin: Origin, token: Token | None) -> None:
        provider = option.provider
        parts = urlsplit(provider.base_url)
        base = parts.path.rstrip("/")
        for ending in spoken.protocol.bases:
            base = base.removesuffix(ending)
        self._base = base
        self._host = parts.netloc
        self._bare_host = origin.host
        self._token = token
        self._provider = provider
        self._protocol = spoken.protocol
        self._model = quote(option.placed.upstream_name, safe=spoken.protocol.plain)
        # What a caller says for itself, and what is sent where it does not: twice would be no value.
        said = {name for name, _ in spoken.protocol.defaults}
        self._extra = {
            name: value for name, value in provider.headers.items() if name.lower() not in said
        }

    def __call__(self, endpoint: Endpoint) -> Head:
        """Make the head of requests at this row of the provider's."""
        provider = self._provider
        path = self._base + endpoint.path.format(model=self._model, version=provider.api_version)
        key = provider.api_key
        head = RequestHead(
            path=path,
            host=self._host,
            user_agent=USER_AGENT,
            credentials=None if key is None else self._protocol.credential(key.reveal()),
            extra={"accept": "*/*" if endpoint.opaque else self._protocol.accept} | self._extra,
            typed=endpoint.look_form is None,
        )
        aws = provider.aws
        if aws is None:
            return head if self._token is None else TokenHead(head, self._token)
        return SignedHead(
            head,
            credentials=_access_key(aws) if self._token is None else self._token,
            host=self._host,
            path=path,
            region=aws.region or bedrock_region(self._bare_host),
            clock=_unix_s,
        )


def _unix_s() -> float:
    return time_ns() / 1e9


def _ways(option: Option, spoken: Spoken, dialect: Dialect, head: _Heads) -> dict[Endpoint, Way]:
    """Return how a deployment is asked what callers may ask: at the same endpoint, or at the one that translations lead to."""
    facts = translate.Target(
        model=option.placed.upstream_name, max_output=option.max_output, dialect=dialect
    )
    made: dict[Endpoint, Way] = {}

    def way(row: Endpoint) -> Way:
        if row not in made:
            made[row] = Way(row, head(row), row.cap_field or dialect.cap, facts)
        return made[row]

    ways: dict[Endpoint, Way] = {}
    for asked in ENDPOINTS:
        pair = None if asked.word in dialect.missing else spoken.passing.get(asked)
        if pair is not None:
            whole, streamed = map(way, pair)
            if not asked.path:
                # It is not asked of providers as it is of us.
                whole = streamed = replace(whole, passage=PASSING_ARRAY)
        elif asked.translation is not None and asked.kind in spoken.targets:
            whole, streamed = (
                _translated(way(row), asked.translation) for row in spoken.targets[asked.kind]
            )
        else:
            continue
        ways[asked] = whole if whole == streamed else replace(whole, streamed=streamed)
        if pair is not None and asked.word in STANDS_IN and dialect.name == "compatible":
            row, _ = spoken.targets[asked.kind]
            if row is pair[0]:
                continue
            assert asked.translation is not None
            other = _translated(way(row), asked.translation)
            ways[asked] = replace(ways[asked], instead=other)
    return ways


def _translated(way: Way, caller: translate.Vendor) -> Way:
    """Return the same way for callers of another protocol."""
    vendor = way.endpoint.translation
    assert vendor is not None
    assert isinstance(caller, translate.Protocol)
    return replace(way, translation=Translation(caller=caller, vendor=vendor, target=way.target))


def secrets_of(provider: Provider) -> tuple[bytes, ...]:
    """Return what is sent to a provider and shown to nobody: its keys, and the values of its own headers."""
    said = [value for value in provider.headers.values() if len(value) >= SECRET_CHARS]
    said += [secret.reveal() for secret in provider.secrets()]
    return tuple(secret.encode() for secret in said)


def source_of(provider: Provider) -> Source | None:
    """Return where what a provider is shown comes from, if it does not last."""
    return provider.aws if provider.aws is not None and provider.aws.role else provider.token


def _access_key(aws: AwsCredentials) -> Credentials:
    assert aws.access_key_id is not None
    assert aws.secret_access_key is not None
    token = aws.session_token
    return Credentials(
        aws.access_key_id,
        aws.secret_access_key.reveal(),
        None if token is None else token.reveal(),
    )


def spoken_of(provider: Provider) -> Spoken:
    """Return what a provider can be asked, by what the configuration or its host says of it."""
    return spoken_by(
        provider.protocol, dialect_of(provider), versioned=provider.api_version is not None
    )
