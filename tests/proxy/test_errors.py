"""What a caller is told: each class of error with its status, its envelope and its headers, and what the official client makes of it."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest

from proxy import errors
from proxy.errors import GatewayError
from tests.proxy.edge_rig import Edge, Rig
from tests.proxy.partners import CALLER_KEY, chat, request

# Class: status, type in the envelope, code by default, x-should-retry, and whose fault it is.
CLASSES: dict[type[GatewayError], tuple[int, str, str, bool]] = {
    errors.BadRequest: (400, "invalid_request_error", "bad_request", False),
    errors.Unauthorized: (401, "authentication_error", "unauthorized", False),
    errors.Forbidden: (403, "permission_error", "forbidden", False),
    errors.NotFound: (404, "invalid_request_error", "not_found", False),
    errors.Conflict: (409, "invalid_request_error", "conflict", False),
    errors.QuotaExceeded: (429, "rate_limit_error", "quota_exceeded", True),
    errors.QuotaTooSmall: (429, "rate_limit_error", "quota_exceeded", False),
    errors.BudgetExhausted: (402, "insufficient_quota", "budget_exhausted", False),
    errors.NoDeployment: (503, "api_error", "no_deployment", True),
    errors.UpstreamFailed: (502, "api_error", "upstream_failed", True),
    errors.UpstreamRefused: (502, "api_error", "upstream_failed", False),
    errors.StoreGone: (503, "api_error", "store_unavailable", True),
    errors.ShuttingDown: (503, "api_error", "shutting_down", True),
    errors.Internal: (500, "api_error", "internal", True),
}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_class_carries_what_the_caller_needs(kind: type[GatewayError]) -> None:
    """Status, type, code and whether to try again."""
    error = kind("why")
    found = (error.http_status, error.type, error.code, error.should_retry)
    assert found == CLASSES[kind]
    assert (error.message, str(error), error.param) == ("why", "why", None)
    assert error.retry_after_us is None


def test_every_class_is_in_the_table() -> None:
    """A new one needs a row."""

    def below(kind: type[GatewayError]) -> set[type[GatewayError]]:
        return {kind}.union(*(below(each) for each in kind.__subclasses__()))

    assert below(GatewayError) - {GatewayError} == set(CLASSES)


def test_words_for_metrics_are_few() -> None:
    """A class is a word; the message is not."""
    assert (
        len({kind.metric for kind in CLASSES}) == len(CLASSES) - 2
    )  # a quota is a quota, a provider a provider


# On the wire, and in the official client's hands...

HELLO = {"role": "user", "content": "x"}
LIMITED = {"limits": {"rpm": 1, "tpm": 100_000}}
MODELS: dict[str, Any] = {
    "m": ["sim;tokens=1"],
    "other": ["sim"],
    "down": ["sim;status=503"],
    "gone": ["sim;reset=1"],
    "silent": ["sim;hang=head"],
    "full": ["sim;status=429;retry_after=2"],
    "picky": ["sim;status=422"],
    "busy": [{"provider": "mock", "name": "sim;ttft_ms=300", "limits": {"concurrency": 1}}],
    "off": [{"provider": "mock", "name": "sim", "drained": True}],
}


@pytest.fixture
async def client() -> AsyncIterator[Callable[[Rig], openai.AsyncOpenAI]]:
    """Make official clients of a rig, that try twice without a pause of their own."""
    made: list[openai.AsyncOpenAI] = []

    def make(rig: Rig, **said: Any) -> openai.AsyncOpenAI:
        host, port = rig.edge.address
        options = {"api_key": CALLER_KEY, "max_retries": 1} | said
        made.append(openai.AsyncOpenAI(base_url=f"http://{host}:{port}/v1", **options))
        return made[-1]

    yield make
    for each in made:
        await each.close()


# Model, what is asked, what the client raises, code, and how often it asks.
CASES: dict[str, tuple[dict[str, Any], type[openai.APIStatusError], int, str | None, int]] = {
    "a bad field": ({"model": "m", "n": 0}, openai.BadRequestError, 400, "invalid_value", 1),
    "an unknown model": ({"model": "x"}, openai.NotFoundError, 404, "model_not_found", 1),
    "a forbidden model": (
        {"model": "other"},
        openai.PermissionDeniedError,
        403,
        "model_not_allowed",
        1,
    ),
    "the vendor's refusal": ({"model": "picky"}, openai.UnprocessableEntityError, 422, None, 1),
    "a vendor that is down": (
        {"model": "down"},
        openai.InternalServerError,
        503,
        "upstream_refused",
        2,
    ),
    "a vendor that is gone": (
        {"model": "gone"},
        openai.InternalServerError,
        502,
        "upstream_lost",
        2,
    ),
    "a silent vendor": (
        {"model": "silent"},
        openai.InternalServerError,
        504,
        "first_byte_timed_out",
        2,
    ),
    "a model out of service": (
        {"model": "off"},
        openai.InternalServerError,
        503,
        "no_deployment",
        2,
    ),
    "more than the limit allows": (
        {"model": "m", "messages": [{"role": "user", "content": "x " * 300_000}]},
        openai.RateLimitError,
        429,
        "request_too_large",
        1,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_the_official_client_raises_its_own_class(
    edge: Edge, client: Callable[..., openai.AsyncOpenAI], case: tuple[Any, ...]
) -> None:
    """And tries again where we let it, and nowhere else."""
    said, kind, status, code, asks = case
    rig = await edge(
        models=MODELS,
        key={"models": [name for name in MODELS if name != "other"], "limits": {"tpm": 100_000}},
        provider={"first_byte_timeout_s": 0.1},
    )
    theirs = client(rig)
    with pytest.raises(kind) as caught:
        await theirs.chat.completions.create(**({"messages": [HELLO]} | said))
    error = caught.value
    assert (error.status_code, error.code) == (status, code)
    assert error.request_id is not None
    assert rig.edge.server.requests_count == asks
    # openai reads the envelope: message, type, param and code are there for whoever catches it.
    assert isinstance(error.body, dict)
    assert set(error.body) >= {"message", "type", "param", "code"}


async def test_an_unknown_key_is_an_authentication_error(
    edge: Edge, client: Callable[..., openai.AsyncOpenAI]
) -> None:
    """On every route that asks for a key."""
    rig = await edge(models=MODELS)
    theirs = client(rig, api_key="sk-nobody-knows-this-one")
    with pytest.raises(openai.AuthenticationError):
        await theirs.models.list()
    with pytest.raises(openai.AuthenticationError):
        await theirs.embeddings.create(model="m", input="x")
    assert rig.edge.server.requests_count == 2


async def test_a_spent_budget_is_not_asked_for_again(
    edge: Edge, client: Callable[..., openai.AsyncOpenAI]
) -> None:
    """402, and `x-should-retry: false` is obeyed."""
    rig = await edge(models=MODELS, key={"budget": {"usd": 0.000001, "per": "day"}})
    theirs = client(rig)
    await theirs.chat.completions.create(model="m", messages=[HELLO])
    with pytest.raises(openai.APIStatusError) as caught:
        await theirs.chat.completions.create(model="m", messages=[HELLO])
    assert caught.value.status_code == 402
    assert rig.edge.server.requests_count == 2


async def test_the_client_waits_as_long_as_it_is_told(
    edge: Edge, client: Callable[..., openai.AsyncOpenAI], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor's 429 becomes ours, with the vendor's time; the client sleeps that long and no other."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("openai._base_client.anyio.sleep", sleep)
    rig = await edge(models=MODELS)
    with pytest.raises(openai.RateLimitError) as caught:
        await client(rig).chat.completions.create(model="full", messages=[HELLO])
    assert len(slept) == 1
    assert 1.5 < slept[0] <= 2
    assert caught.value.response.headers["retry-after"] in {"1", "2"}


async def test_a_quota_says_what_is_left_and_when(edge: Edge) -> None:
    """The headers of an answer that passed, and of the one that did not."""
    rig = await edge(models=MODELS, key=LIMITED)
    passed = await rig.ask(chat())
    assert passed.header("x-ratelimit-limit-requests") == "1"
    assert passed.header("x-ratelimit-remaining-requests") == "0"
    reset = float((passed.header("x-ratelimit-reset-requests") or "").removesuffix("s"))
    assert 59 <= reset <= 60
    assert passed.header("x-ratelimit-limit-tokens") == "100000"
    assert int(passed.header("x-ratelimit-remaining-tokens") or 0) > 90_000
    denied = await rig.ask(chat())
    assert (denied.status, denied.error["code"]) == (429, "requests_limit")
    assert denied.error["type"] == "rate_limit_error"
    seconds, milliseconds = (
        int(denied.header(name) or 0) for name in ("retry-after", "retry-after-ms")
    )
    assert 58_000 <= milliseconds <= 60_000
    assert seconds == -(-milliseconds // 1000)
    assert denied.header("x-ratelimit-remaining-requests") == "0"
    assert denied.header("x-should-retry") == "true"


async def test_a_full_deployment_is_a_limit_too(edge: Edge) -> None:
    """All candidates at their limits, and nobody is to wait: 429, with a reason for each."""
    rig = await edge(models=MODELS, edge={"queue_timeout_ms": 0})
    caller = await rig.caller()
    await caller.send(request(chat("busy")))
    await rig.mock.until(lambda books: books.totals.in_flight == 1)
    answer = await rig.ask(chat("busy"))
    assert (answer.status, answer.error["code"]) == (429, "no_deployment")
    assert "busy/mock: concurrency" in answer.error["message"]
    assert (await caller.answer()).status == 200


async def test_a_failure_of_ours_is_told_and_logged(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 in the envelope with the id under which the log has more; the lease is settled; the worker serves on."""
    rig = await edge(models=MODELS)

    def broken(*_: object, **__: object) -> bytes:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patched:
        patched.setattr("proxy.relay.Attempt._converse", broken)
        answer = await rig.ask(chat())
    rig.expected_alarms = 1
    assert (answer.status, answer.error["code"], answer.error["type"]) == (
        500,
        "internal",
        "api_error",
    )
    assert (answer.header("x-request-id") or "?") in answer.error["message"]
    assert answer.header("connection") == "close"
    assert await rig.outcomes() == ["internal"]
    assert (await rig.ask(chat())).status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_at_the_end_of_an_answer_holds_nobody_up(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """What fails where the answer ends is told to whoever waits for it: the exchange ends, and the worker serves on."""
    rig = await edge(models=MODELS)
    with monkeypatch.context() as patched:
        patched.setattr("proxy.relay.Attempt.answer_head", lambda *_: {}["a fault of ours"])
        answer = await rig.ask(chat(stream=stream))
    rig.expected_alarms = 1
    assert answer.status == 500
    assert await rig.outcomes() == ["internal"]
    assert (await rig.ask(chat())).status == 200


async def test_the_envelope_is_openais(edge: Edge) -> None:
    """Byte for byte what their clients parse: four members, and no others."""
    rig = await edge(models=MODELS)
    answer = await rig.ask(chat("nobody"))
    assert json.loads(answer.body) == {
        "error": {
            "message": "The model 'nobody' does not exist here."
            " GET /v1/models lists what this key may use.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
