"""
The scenarios: what callers ask, how long it is, and how they behave.

Everything is drawn from a `random.Random` that the caller seeds, so that two runs with one seed ask the same questions in the same order.

Lengths are log-normal, which is what published chat traces look like (a short middle and a long tail), with medians of our own choosing:

| what | median tokens | sigma | bounds |
|---|---|---|---|
| prompt of a chat | 220 | 1.0 | 8 to 8,000 |
| answer of a chat | 180 | 0.8 | 1 to 1,024 |
| context of an agent | 6,000 | 0.5 | 1,500 to 24,000 |
| answer of an agent's turn | 60 | 0.6 | 4 to 256 |
| text to embed | 180 | 0.7 | 8 to 2,000 |

A prompt's token is counted as four bytes, as the mock vendor counts; answers are asked for by `max_tokens`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import exp, log
from random import Random
from typing import Any, NamedTuple

import msgspec

from loadtests.client import Call

LEVELS = ("premium", "normal", "economy")


class Length(NamedTuple):
    """A log-normal distribution of token counts, cut off at both ends."""

    median: int
    sigma: float
    least: int
    most: int

    def draw(self, random: Random) -> int:
        """Draw a number of tokens."""
        value = exp(random.gauss(log(self.median), self.sigma))
        return round(min(self.most, max(self.least, value)))


CHAT_PROMPT = Length(220, 1.0, 8, 8000)
CHAT_ANSWER = Length(180, 0.8, 1, 1024)
AGENT_CONTEXT = Length(6000, 0.5, 1500, 24000)
AGENT_ANSWER = Length(60, 0.6, 4, 256)
EMBEDDED = Length(180, 0.7, 8, 2000)


class BadTenants(ValueError):
    """A file of tenants cannot be used; the message lists what is wrong."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who asks: a name, a level, a share of the calls, and a key of its own where there is one."""

    name: str
    level: str
    weight: float
    key: str | None = None


# Without a file of tenants all use the one key, and differ by the `user` that their calls name.
DEFAULT_TENANTS = (
    Tenant("premium-1", "premium", 1),
    Tenant("normal-1", "normal", 3),
    Tenant("economy-1", "economy", 6),
)


def read_tenants(document: Any) -> tuple[Tenant, ...]:
    """
    Check a list of `{name, level, weight, key}` as it came from YAML.

    Raises `BadTenants` with every mistake in it.
    """
    if not isinstance(document, list) or not document:
        raise BadTenants("a list of tenants was expected, each with name, level, key and weight")
    mistakes, tenants = [], []
    for at, row in enumerate(document):
        if not isinstance(row, dict):
            mistakes.append(f"tenant {at + 1} is no mapping")
            continue
        unknown = sorted(set(row) - {"name", "level", "weight", "key"})
        mistakes += [f"tenant {at + 1}: unknown setting {name!r}" for name in unknown]
        name, level, weight = row.get("name"), row.get("level"), row.get("weight", 1)
        if not isinstance(name, str) or not name:
            mistakes.append(f"tenant {at + 1}: name is missing")
        if level not in LEVELS:
            mistakes.append(f"tenant {at + 1}: level {level!r} is none of {', '.join(LEVELS)}")
        if not isinstance(weight, int | float) or isinstance(weight, bool) or weight <= 0:
            mistakes.append(f"tenant {at + 1}: weight {weight!r} is no number above 0")
        key = row.get("key")
        if key is not None and not isinstance(key, str):
            mistakes.append(f"tenant {at + 1}: key is no text")
        if not mistakes:
            tenants.append(Tenant(str(name), str(level), float(weight), key))
    if mistakes:
        raise BadTenants("\n".join(mistakes))
    return tuple(tenants)


@dataclass(frozen=True, slots=True)
class Draw:
    """What a scenario draws from: chance, who asks, and the names of the models."""

    random: Random
    tenant: Tenant
    model: str
    embedding_model: str

    def text(self, tokens: int) -> str:
        """Make a text of so many tokens, four bytes each."""
        book, size = _book(), 4 * tokens
        begin = self.random.randrange(len(book) - size)
        return book[begin : begin + size]


@cache
def _book() -> str:
    """Give the text that all others are cut from: to choose their words one by one took a generator more time than to send them."""
    return " ".join(Random(1).choices(_WORDS, k=1 << 16))


_WORDS = (
    *("lake", "gate", "pipe", "flow", "head", "fall", "mill", "dam", "weir", "pond", "rain"),
    *("stone", "wheel", "valve", "spill", "river", "creek", "shaft", "crest", "basin", "level"),
)


def _chat_body(draw: Draw, *, stream: bool, prompt: int, answer: int) -> dict[str, Any]:
    return {
        "model": draw.model,
        "messages": [{"role": "user", "content": draw.text(prompt)}],
        "max_tokens": answer,
        "user": f"{draw.tenant.name}",
        **({"stream": True, "stream_options": {"include_usage": True}} if stream else {}),
    }


def _call(draw: Draw, scenario: str, path: str, body: dict[str, Any], **how: Any) -> Call:
    return Call(
        scenario=scenario,
        path=path,
        body=msgspec.json.encode(body),
        tenant=draw.tenant.level,
        level=draw.tenant.level,
        key=draw.tenant.key,
        stream=bool(body.get("stream")),
        **how,
    )


def chat_stream(draw: Draw) -> Call:
    """Ask for a chat completion as a stream."""
    prompt, answer = CHAT_PROMPT.draw(draw.random), CHAT_ANSWER.draw(draw.random)
    body = _chat_body(draw, stream=True, prompt=prompt, answer=answer)
    return _call(draw, "chat-stream", "/v1/chat/completions", body)


def chat(draw: Draw) -> Call:
    """Ask for a whole chat completion."""
    prompt, answer = CHAT_PROMPT.draw(draw.random), CHAT_ANSWER.draw(draw.random)
    body = _chat_body(draw, stream=False, prompt=prompt, answer=answer)
    return _call(draw, "chat", "/v1/chat/completions", body)


def messages_stream(draw: Draw) -> Call:
    """Ask for a stream in the manner of Anthropic."""
    body = {
        "model": draw.model,
        "max_tokens": CHAT_ANSWER.draw(draw.random),
        "messages": [{"role": "user", "content": draw.text(CHAT_PROMPT.draw(draw.random))}],
        "stream": True,
        "metadata": {"user_id": draw.tenant.name},
    }
    return _call(draw, "messages-stream", "/v1/messages", body, dialect="anthropic")


def embeddings(draw: Draw) -> Call:
    """Ask for the embeddings of one to eight texts."""
    count = draw.random.randint(1, 8)
    body = {
        "model": draw.embedding_model,
        "input": [draw.text(EMBEDDED.draw(draw.random)) for _ in range(count)],
    }
    return _call(draw, "embeddings", "/v1/embeddings", body)


_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"{words}, and nothing else.",
            "parameters": {
                "type": "object",
                "properties": {argument: {"type": "string", "description": f"The {argument}."}},
                "required": [argument],
            },
        },
    }
    for name, words, argument in (
        ("read_file", "Reads a file", "path"),
        ("write_file", "Writes a file", "path"),
        ("search", "Searches the sources", "pattern"),
        ("run_tests", "Runs the tests", "selection"),
        ("fetch_page", "Fetches a page", "address"),
        ("get_weather", "Tells the weather", "city"),
    )
]


def agent(draw: Draw) -> Call:
    """Take one turn of an agent: long context, tools, many earlier turns, a short streamed answer."""
    turns = draw.random.randint(3, 12)
    share = AGENT_CONTEXT.draw(draw.random) // (turns + 1)
    messages: list[dict[str, Any]] = [{"role": "system", "content": draw.text(share)}]
    for turn in range(turns):
        arguments = msgspec.json.encode({"pattern": draw.text(8)}).decode()
        called = {"name": "search", "arguments": arguments}
        messages += [
            {"role": "user", "content": draw.text(16)},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": f"call_{turn}", "type": "function", "function": called}],
            },
            {"role": "tool", "tool_call_id": f"call_{turn}", "content": draw.text(share)},
        ]
    body = {
        "model": draw.model,
        "messages": messages,
        "tools": _TOOLS,
        "max_tokens": AGENT_ANSWER.draw(draw.random),
        "user": draw.tenant.name,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return _call(draw, "agent", "/v1/chat/completions", body)


def slow_reader(draw: Draw) -> Call:
    """Ask for a stream and read it at 2 KB a second through a small window."""
    body = _chat_body(draw, stream=True, prompt=40, answer=CHAT_ANSWER.draw(draw.random))
    return _call(draw, "slow-reader", "/v1/chat/completions", body, slow_bytes_s=2000)


def leaver(draw: Draw) -> Call:
    """Ask for a stream and hang up after one to twenty events."""
    body = _chat_body(draw, stream=True, prompt=40, answer=512)
    after = draw.random.randint(1, 20)
    return _call(draw, "leaver", "/v1/chat/completions", body, leave_after=after)


def retry_storm(draw: Draw) -> Call:
    """Ask for a whole answer, and when refused ask again at once, five times, whatever `retry-after` says."""
    body = _chat_body(draw, stream=False, prompt=40, answer=32)
    return _call(draw, "retry-storm", "/v1/chat/completions", body, retries=5)


_MIXTURE = ((chat_stream, 55), (chat, 20), (embeddings, 15), (agent, 10))


def mixed(draw: Draw) -> Call:
    """Draw one of the well-behaved scenarios: 55 % chat streams, 20 % chats, 15 % embeddings, 10 % agents."""
    (build,) = draw.random.choices(
        [build for build, _ in _MIXTURE], weights=[weight for _, weight in _MIXTURE]
    )
    return build(draw)


_MISBEHAVING = ((mixed, 70), (slow_reader, 10), (leaver, 10), (retry_storm, 10))


def unruly(draw: Draw) -> Call:
    """Draw mixed traffic of which 30 % misbehaves: slow readers, leavers, retry storms."""
    (build,) = draw.random.choices(
        [build for build, _ in _MISBEHAVING], weights=[weight for _, weight in _MISBEHAVING]
    )
    return build(draw)


SCENARIOS: dict[str, Callable[[Draw], Call]] = {
    "chat-stream": chat_stream,
    "chat": chat,
    "messages-stream": messages_stream,
    "embeddings": embeddings,
    "agent": agent,
    "mixed": mixed,
    "slow-reader": slow_reader,
    "leaver": leaver,
    "retry-storm": retry_storm,
    "unruly": unruly,
}


def class_of(scenario: str) -> str:
    """Give the name of a scenario's class of Locust users: `ChatStreamUser` for `chat-stream`."""
    return "".join(word.capitalize() for word in scenario.split("-")) + "User"


def draw_tenant(random: Random, tenants: tuple[Tenant, ...]) -> Tenant:
    """Draw who asks, by their weights."""
    (tenant,) = random.choices(tenants, weights=[tenant.weight for tenant in tenants])
    return tenant
