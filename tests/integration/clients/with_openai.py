"""OpenAI's client, Chat Completions and Responses."""

import json
from typing import Any

from openai import OpenAI
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
RESPONSES_TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": CITY,
    "strict": False,
}


def by_chat(client: OpenAI, model: str) -> dict[str, Any]:
    """Ask everything by Chat Completions."""
    chat = client.chat.completions

    def ask(text: str, **more: Any) -> Any:
        return chat.create(model=model, messages=[{"role": "user", "content": text}], **more)

    whole = ask(HELLO)
    chunks = list(ask(HELLO, stream=True, stream_options={"include_usage": True}))
    called = ask(WEATHER, tools=[TOOL])
    message = called.choices[0].message
    with chat.stream(
        model=model, messages=[{"role": "user", "content": WEATHER}], tools=[TOOL]
    ) as stream:
        streamed = stream.get_final_completion().choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": REPORT} for call in message.tool_calls
    ]
    asked: list[Any] = [{"role": "user", "content": WEATHER}, message, *results]
    answered = chat.create(model=model, messages=asked, tools=[TOOL])
    planned = chat.parse(
        model=model, messages=[{"role": "user", "content": JOURNEY}], response_format=Journey
    )
    thoughtful = ask(THINK).choices[0].message
    then = chat.create(
        model=model,
        messages=[
            {"role": "user", "content": THINK},
            thoughtful,
            {"role": "user", "content": HELLO},
        ],
    )
    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    plan = planned.choices[0].message.parsed
    assert plan is not None
    return {
        "said": whole.choices[0].message.content,
        "usage": [whole.usage.prompt_tokens, whole.usage.completion_tokens],
        "streamed": "".join(said),
        "in pieces": len(said) > 3,
        "stream's usage": [chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens],
        "calls": [_call(call.function) for call in message.tool_calls],
        "streamed calls": [_call(call.function) for call in streamed.tool_calls or ()],
        "answered": answered.choices[0].message.content,
        "planned": plan.model_dump(),
        "thought": thoughtful.reasoning_content,
        "then": then.choices[0].message.content,
        "down": raised(lambda: chat.create(model=f"{model}-down", messages=asked[:1])),
        "cut": raised(
            lambda: list(chat.create(model=f"{model}-cut", messages=asked[:1], stream=True))
        ),
        "missing": raised(lambda: chat.create(model="nobody", messages=asked[:1])),
    }


def by_responses(client: OpenAI, model: str) -> dict[str, Any]:
    """Ask everything by Responses."""
    ask: Any = client.responses.create
    whole = ask(model=model, input=HELLO)
    events = list(ask(model=model, input=HELLO, stream=True))
    ended = events[-1].response
    called = ask(model=model, input=WEATHER, tools=[RESPONSES_TOOL])
    with client.responses.stream(model=model, input=WEATHER, tools=[RESPONSES_TOOL]) as stream:
        streamed = stream.get_final_response()
    calls = [item for item in called.output if item.type == "function_call"]
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": REPORT}
        for call in calls
    ]
    asked = [{"role": "user", "content": WEATHER}, *called.output, *results]
    answered = ask(model=model, input=asked, tools=[RESPONSES_TOOL])
    planned = client.responses.parse(model=model, input=JOURNEY, text_format=Journey)
    plan = planned.output_parsed
    assert plan is not None
    thoughtful = ask(model=model, input=THINK)
    then = ask(
        model=model,
        input=[
            {"role": "user", "content": THINK},
            *thoughtful.output,
            {"role": "user", "content": HELLO},
        ],
    )
    said = [event.delta for event in events if event.type == "response.output_text.delta"]
    return {
        "said": whole.output_text,
        "usage": [whole.usage.input_tokens, whole.usage.output_tokens],
        "streamed": "".join(said),
        "in pieces": len(said) > 3,
        "stream's usage": [ended.usage.input_tokens, ended.usage.output_tokens],
        "calls": [_call(call) for call in calls],
        "streamed calls": [_call(item) for item in streamed.output if item.type == "function_call"],
        "answered": answered.output_text,
        "planned": plan.model_dump(),
        "thought": thoughtful.output[0].summary[0].text,
        "then": then.output_text,
        "down": raised(lambda: ask(model=f"{model}-down", input=HELLO)),
        "cut": raised(lambda: list(ask(model=f"{model}-cut", input=HELLO, stream=True))),
        "missing": raised(lambda: ask(model="nobody", input=HELLO)),
    }


def _call(function: Any) -> list[Any]:
    return [function.name, json.loads(function.arguments)]


def main() -> None:
    """Tell both, of every model."""
    with OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0) as client:
        told = {f"chat, {model}": by_chat(client, model) for model in MODELS}
        told |= {f"responses, {model}": by_responses(client, model) for model in MODELS}
        told |= {
            f"vectors, {model}": [
                one.embedding for one in client.embeddings.create(model=model, input=EMBED).data
            ]
            for model in VECTORS
        }
    tell(told)


main()
