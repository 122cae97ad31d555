"""The sections of processes: where things are kept, and who listens where."""

from typing import Annotated, Literal

from pydantic import Field

from config.scalars import Listen, Number, StoreUrl, Text, Whole, Word
from config.secrets import Secret, SharedSecretRule
from config.section import DAY_S, MOST_CELLS, Seconds, Section, WhenDown


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
