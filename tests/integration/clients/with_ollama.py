"""Ollama's client."""

from typing import Any

from ollama import Client
from story import (
    CITY,
    EMBED,
    HELLO,
    JOURNEY,
    KEY,
    MODELS,
    REPORT,
    THINK,
    URL,
    VECTORS,
    WEATHER,
    Journey,
    raised,
    tell,
)

TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}


def story(client: Client, model: str) -> dict[str, Any]:
    """Ask everything of one model."""

    def ask(text: str, named: str = model, **more: Any) -> Any:
        return client.chat(model=named, messages=[{"role": "user", "content": text}], **more)

    whole = ask(HELLO)
    lines = list(ask(HELLO, stream=True))
    called = ask(WEATHER, tools=[TOOL])
    streamed = ask(WEATHER, tools=[TOOL], stream=True)
    results = [
        {"role": "tool", "tool_name": call.function.name, "content": REPORT}
        for call in called.message.tool_calls
    ]
    conversation = [{"role": "user", "content": WEATHER}, called.message, *results]
    answered = client.chat(model=model, messages=conversation, tools=[TOOL])
    planned = ask(JOURNEY, format=Journey.model_json_schema())
    generated = client.generate(model=model, prompt=HELLO)
    thoughtful = ask(THINK).message
    turns = [{"role": "user", "content": THINK}, thoughtful, {"role": "user", "content": HELLO}]
    then = client.chat(model=model, messages=turns)
    pieces = [line.message.content for line in lines if line.message.content]
    assert generated.response == whole.message.content
    return {
        "said": whole.message.content,
        "usage": [whole.prompt_eval_count, whole.eval_count],
        "streamed": "".join(pieces),
        "in pieces": len(pieces) > 3,
        "stream's usage": [lines[-1].prompt_eval_count, lines[-1].eval_count],
        "calls": _calls([called]),
        "streamed calls": _calls(streamed),
        "answered": answered.message.content,
        "thought": thoughtful.thinking,
        "then": then.message.content,
        "planned": Journey.model_validate_json(planned.message.content).model_dump(),
        "down": raised(lambda: ask(HELLO, f"{model}-down")),
        "cut": raised(lambda: list(ask(HELLO, f"{model}-cut", stream=True))),
        "missing": raised(lambda: ask(HELLO, "nobody")),
    }


def _calls(answers: Any) -> list[Any]:
    return [
        [call.function.name, call.function.arguments]
        for answer in answers
        for call in answer.message.tool_calls or ()
    ]


def main() -> None:
    """Tell of every model."""
    client = Client(host=URL, headers={"authorization": f"Bearer {KEY}"})
    listed = {model.model for model in client.list().models}
    assert listed.issuperset(MODELS)
    told: dict[str, Any] = {model: story(client, model) for model in MODELS}
    for model in VECTORS:
        vectors = client.embed(model=model, input=EMBED).embeddings
        told[f"vectors, {model}"] = [list(vector) for vector in vectors]
    tell(told)


main()
