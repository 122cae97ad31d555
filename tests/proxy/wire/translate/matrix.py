"""
What every protocol can ask of every vendor, found out by asking.

Each feature is a conversation that has it. A caller's protocol can ask for it if it survives being written
and read there; a vendor's protocol translates it, drops and declares it, or refuses it. `page` is what
`docs/translations.md` holds; it is written again by

    python -m tests.proxy.wire.translate.matrix
"""

from pathlib import Path

import msgspec

from config.dialects import COMPATIBLE, DIALECTS, OPENAI, Dialect
from proxy.wire.translate.core import (
    CannotExpress,
    Conversation,
    Media,
    OutputFormat,
    Reasoning,
    Sampling,
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from proxy.wire.translate.embeddings import EMBEDDERS, Embedding
from proxy.wire.translate.protocols import PROTOCOLS, VENDORS
from proxy.wire.translate.rerank import RERANKERS, Reranking
from tests.proxy.wire.translate.samples import PIXEL, WEATHER

PAGE = Path(__file__).parents[4] / "docs" / "translations.md"

HI = Turn("user", (Text("hi"),))
ASK = Conversation(model="m", turns=(HI,), max_tokens=30000)
LOOP = (
    HI,
    Turn("assistant", (ToolCall("c1", "weather", "{}"), ToolCall("c2", "weather", "{}"))),
    Turn("user", (ToolResult("c1", (Text("a"),)), ToolResult("c2", (Text("b"),)))),
)
PICTURE = Media("image", "image/png", data=PIXEL)
TOOLS = (WEATHER, Tool("other"))


def asking(*turns: Turn, **members: object) -> Conversation:
    return msgspec.structs.replace(ASK, turns=turns or ASK.turns, **members)


def thought(part: Reasoning) -> Conversation:
    call, result = ToolCall("c", "weather", "{}"), ToolResult("c", (Text("a"),))
    return asking(HI, Turn("assistant", (part, call)), Turn("user", (result,)), tools=(WEATHER,))


FEATURES = {
    "text": asking(),
    "system prompt": asking(system=(Text("Be brief."),)),
    "instructions in the middle": asking(HI, Turn("system", (Text("Now in French."),)), HI),
    "names of participants": asking(Turn("user", (Text("hi"),), "ann")),
    "image by its data": asking(Turn("user", (PICTURE,))),
    "image by its address": asking(Turn("user", (Media("image", url="https://x/y.png"),))),
    "PDF by its data": asking(
        Turn("user", (Media("document", "application/pdf", data="AA==", name="a.pdf"),))
    ),
    "audio by its data": asking(Turn("user", (Media("audio", "audio/wav", data="AA=="),))),
    "tools": asking(tools=(WEATHER,), tool_choice=ToolChoice("auto")),
    "parallel calls and results": asking(*LOOP, tools=(WEATHER,)),
    "a result that failed": asking(
        HI,
        Turn("assistant", (ToolCall("c", "weather", "{}"),)),
        Turn("user", (ToolResult("c", (Text("gone"),), failed=True),)),
        tools=(WEATHER,),
    ),
    "an image in a result": asking(
        HI,
        Turn("assistant", (ToolCall("c", "weather", "{}"),)),
        Turn("user", (ToolResult("c", (PICTURE,)),)),
        tools=(WEATHER,),
    ),
    "a call that must be made": asking(tools=TOOLS, tool_choice=ToolChoice("required")),
    "a tool that must be called": asking(
        tools=TOOLS, tool_choice=ToolChoice("required", ("weather",))
    ),
    "some of the tools": asking(tools=TOOLS, tool_choice=ToolChoice("auto", ("weather",))),
    "one call at a time": asking(tools=TOOLS, parallel_tool_calls=False),
    "tools that take free text": asking(tools=(Tool("free", custom=True),)),
    "JSON": asking(output=OutputFormat("json")),
    "JSON by a schema": asking(output=OutputFormat("json_schema", {"type": "object"}, "n")),
    "how much to think": asking(thinking=Thinking("high")),
    "no thinking": asking(thinking=Thinking(off=True)),
    "reasoning sent back": thought(Reasoning("hm")),
    "reasoning signed by Anthropic": thought(Reasoning("hm", "s", maker="anthropic")),
    "reasoning signed by Google": thought(Reasoning("", "gs", maker="google")),
    "reasoning sealed by OpenAI": thought(Reasoning("hm", redacted="x", maker="openai")),
    "stop sequences": asking(stop=("END",)),
    "several answers": asking(n=2),
    "temperature": asking(sampling=Sampling(temperature=0.5)),
    "top_p": asking(sampling=Sampling(top_p=0.5)),
    "top_k": asking(sampling=Sampling(top_k=5)),
    "penalties": asking(sampling=Sampling(frequency_penalty=0.5, presence_penalty=0.5)),
    "seed": asking(sampling=Sampling(seed=1)),
    "log probabilities": asking(sampling=Sampling(logprobs=True)),
    "cache marks": asking(Turn("user", (Text("long", "1h"),))),
    "end user": asking(user="u-1"),
    "service tier": asking(service_tier="flex"),
    "verbosity": asking(verbosity="low"),
}

# A model of each vendor's that does what its models can, as a request for it is written.
MODELS = {
    "openai.chat": "gpt-4.1",
    "openai.responses": "gpt-4.1",
    "anthropic.messages": "claude-sonnet-4-5",
    "gemini.generate": "gemini-3-flash",
    "ollama.chat": "qwen3",
    "bedrock.converse": "anthropic.claude-sonnet-4-5-v1:0",
}
# Who thinks among OpenAI's: the others are not asked to.
THINKERS = {"openai.chat": "gpt-5", "openai.responses": "gpt-5"}


def outcome(vendor: str, feature: str, dialect: Dialect = OPENAI) -> str:
    """Say what becomes of a feature on the way to a vendor: translated, dropped or refused."""
    conversation = FEATURES[feature]
    models = MODELS | (THINKERS if "think" in feature or "reasoning" in feature else {})
    target = Target(model=models[vendor], max_output=32000, dialect=dialect)
    try:
        written = VENDORS[vendor].write_request(
            msgspec.structs.replace(conversation, family="none"), target
        )
    except CannotExpress:
        return "refused"
    return "dropped" if written.dropped else "translated"


def can_ask(caller: str, feature: str) -> bool:
    """Say whether a caller of a protocol can ask for a feature: whether it survives there."""
    if outcome(caller, feature, DIALECTS["openrouter"]) != "translated":
        return False
    target = Target(model=MODELS[caller], max_output=32000, dialect=DIALECTS["openrouter"])
    protocol = PROTOCOLS[caller]
    protocol.read_request(protocol.write_request(FEATURES[feature], target).body)
    return True


TEXTS = Embedding(model="m", texts=("a", "b"))
VECTORS = {
    "texts": TEXTS,
    "what the vectors are for": msgspec.structs.replace(TEXTS, task="query"),
    "how alike two texts are": msgspec.structs.replace(TEXTS, task="similarity"),
    "dimensions": msgspec.structs.replace(TEXTS, dimensions=256),
    "base64": msgspec.structs.replace(TEXTS, as_base64=True),
    "a title": msgspec.structs.replace(TEXTS, title="t"),
    "cutting what is too long": msgspec.structs.replace(TEXTS, truncate=True),
    "end user": msgspec.structs.replace(TEXTS, user="u-1"),
    "what only the caller's protocol knows": msgspec.structs.replace(TEXTS, extra={"x": 1}),
}
QUERY = Reranking(model="m", query="q", documents=("a", "b"))
ORDERS = {
    "texts": QUERY,
    "the best of them": msgspec.structs.replace(QUERY, top_n=1),
    "texts in the answer": msgspec.structs.replace(QUERY, with_documents=True),
    "cutting what is too long": msgspec.structs.replace(QUERY, max_tokens_per_doc=9),
    "what only the caller's protocol knows": msgspec.structs.replace(QUERY, extra={"x": 1}),
}


def outcome_of_one(vendor: str, asked: Embedding | Reranking, family: str = "none") -> str:
    """Say what becomes of texts that are to be embedded or put in order on the way to a vendor."""
    spoken = (EMBEDDERS if isinstance(asked, Embedding) else RERANKERS)[vendor]
    written = spoken.write_request(  # type: ignore[call-overload, operator, arg-type]
        msgspec.structs.replace(asked, family=family), "served"
    )
    return "dropped" if written.dropped else "translated"


def table(columns: dict[str, dict[str, str]]) -> str:
    """Write a table: a row for each feature, a column for each name."""
    features = next(iter(columns.values()))
    head = "| | " + " | ".join(columns) + " |"
    rule = "|---|" + "---|" * len(columns)
    rows = [
        f"| {feature} | " + " | ".join(cells[feature] for cells in columns.values()) + " |"
        for feature in features
    ]
    return "\n".join([head, rule, *rows])


def page() -> str:
    """Write the page."""
    vendors = {
        f"`{name}`": {feature: outcome(name, feature) for feature in FEATURES} for name in VENDORS
    }
    dialects = {
        name: {feature: outcome("openai.chat", feature, dialect) for feature in FEATURES}
        for name, dialect in DIALECTS.items()
        if dialect not in (OPENAI, COMPATIBLE)
    }
    callers = {
        f"`{name}`": {feature: "yes" if can_ask(name, feature) else "no" for feature in FEATURES}
        for name in PROTOCOLS
    }
    vectors = {
        f"`{name}`": {feature: outcome_of_one(name, asked) for feature, asked in VECTORS.items()}
        for name in EMBEDDERS
    }
    orders = {
        f"`{name}`": {feature: outcome_of_one(name, asked) for feature, asked in ORDERS.items()}
        for name in RERANKERS
    }
    return f"""# Translations

Where caller and vendor speak the same protocol, everything passes as it came, whatever it is.
Where they differ, a request is translated, and this page says what becomes of each feature on its way.
It is made by the tests, by asking for each feature and looking at what is written: `tests/proxy/wire/translate/matrix.py`.

- **translated**: the vendor is asked for the same, in its own words.
- **dropped**: the vendor has no word for it, and the answer is of the same kind without; its name stands in `x-penstock-dropped`.
- **refused**: the answer would be another one without it; the caller gets a 400 that names the field and says what to do, or another deployment is asked.

## What vendors are asked

By a caller of any other protocol, for a model that can do it.

{table(vendors)}

## What the vendors of OpenAI's family are asked

A dialect is a row of facts in `config/dialects.py`.
A server that says nothing of itself is asked as vLLM is, without what only vLLM knows.

{table(dialects)}

## What callers can ask for

{table(callers)}

What a protocol's answers can say follows the same rule.
Text, reasoning, calls, refusals, why it ended, usage and errors are carried into every protocol, streamed and whole.
Reasoning that its maker signed is carried so that it can be sent back, except through Ollama, whose answers have no field for a signature.
Citations, log probabilities and what a vendor's own tools did are not translated.

## Embeddings and rerank

What vendors are asked by callers of any other protocol; vectors, scores, usage and errors are carried into every one.
Inputs that are tokens or images, and vectors of other kinds than floats, are refused.

{table(vectors)}

{table(orders)}
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
