"""LangChain's classes for OpenAI and Anthropic: the same questions by either, and by OpenAI's two protocols."""

from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from story import (
    EMBED,
    HELLO,
    JOURNEY,
    KEY,
    MODELS,
    REPORT,
    URL,
    VECTORS,
    WEATHER,
    Journey,
    raised,
    tell,
)


class get_weather(BaseModel):  # noqa: N801 - the name is the tool's
    """Say what the weather is."""

    city: str


def made(kind: str, model: str) -> Any:
    """Make the class as its users do."""
    if kind == "anthropic":
        return ChatAnthropic(
            model_name=model, base_url=URL, api_key=KEY, max_retries=0, max_tokens_to_sample=500
        )
    return ChatOpenAI(
        model=model,
        base_url=f"{URL}/v1",
        api_key=KEY,
        max_retries=0,
        use_responses_api=kind == "responses",
        stream_usage=True,
    )


def story(kind: str, model: str) -> dict[str, Any]:
    """Ask everything of one model."""
    chat = made(kind, model)
    whole = chat.invoke(HELLO)
    chunks = list(chat.stream(HELLO))
    put_together = chunks[0]
    for chunk in chunks[1:]:
        put_together += chunk
    armed = chat.bind_tools([get_weather])
    called = armed.invoke(WEATHER)
    streamed = None
    for chunk in armed.stream(WEATHER):
        streamed = chunk if streamed is None else streamed + chunk
    results = [ToolMessage(REPORT, tool_call_id=call["id"]) for call in called.tool_calls]
    answered = armed.invoke([HumanMessage(WEATHER), called, *results])
    ways = ("function_calling",) if kind == "anthropic" else ("function_calling", "json_schema")
    plans = [
        chat.with_structured_output(Journey, method=way).invoke(JOURNEY).model_dump()
        for way in ways
    ]
    assert all(plan == plans[0] for plan in plans)
    return {
        "said": whole.text,
        "usage": _usage(whole),
        "streamed": put_together.text,
        "in pieces": len(chunks) > 3,
        "stream's usage": _usage(put_together),
        "calls": _calls(called),
        "streamed calls": _calls(streamed),
        "answered": answered.text,
        "planned": plans[0],
        "down": raised(lambda: made(kind, f"{model}-down").invoke(HELLO)),
        "cut": raised(lambda: list(made(kind, f"{model}-cut").stream(HELLO))),
        "missing": raised(lambda: made(kind, "nobody").invoke(HELLO)),
    }


def _usage(message: Any) -> list[int]:
    return [message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]]


def _calls(message: Any) -> list[Any]:
    return [[call["name"], call["args"]] for call in message.tool_calls]


def main() -> None:
    """Tell of every class and model."""
    told: dict[str, Any] = {
        f"{kind}, {model}": story(kind, model)
        for kind in ("chat", "responses", "anthropic")
        for model in MODELS
    }
    for model in VECTORS:
        # Which would else count tokens with a vocabulary that it fetches.
        embeddings = OpenAIEmbeddings(
            model=model, base_url=f"{URL}/v1", api_key=KEY, check_embedding_ctx_length=False
        )
        told[f"vectors, {model}"] = embeddings.embed_documents(EMBED)
    tell(told)


main()
