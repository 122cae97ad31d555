"""Anthropic's client."""

from typing import Any

from anthropic import Anthropic, beta_tool
from story import (
    CITY,
    HELLO,
    JOURNEY,
    KEY,
    MODELS,
    REPORT,
    THINK,
    URL,
    WEATHER,
    Journey,
    raised,
    tell,
)

TOOL: Any = {"name": "get_weather", "input_schema": CITY}


@beta_tool
def get_weather(city: str) -> str:
    """Say what the weather is in a city."""
    return f"{city}: {REPORT}"


def story(client: Anthropic, model: str) -> dict[str, Any]:
    """Ask everything of one model."""
    messages = client.messages

    def said(text: str, **more: Any) -> dict[str, Any]:
        asked = [{"role": "user", "content": text}]
        return {"model": model, "max_tokens": 500, "messages": asked} | more

    whole = messages.create(**said(HELLO))
    with messages.stream(**said(HELLO)) as stream:
        pieces = list(stream.text_stream)
        ended = stream.get_final_message()
    called = messages.create(**said(WEATHER, tools=[TOOL]))
    with messages.stream(**said(WEATHER, tools=[TOOL])) as stream:
        streamed = stream.get_final_message()
    calls = [block for block in called.content if block.type == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": REPORT} for call in calls]
    conversation = [
        {"role": "user", "content": WEATHER},
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": results},
    ]
    answered = messages.create(**said(WEATHER, tools=[TOOL], messages=conversation))
    planned = messages.parse(**said(JOURNEY), output_format=Journey)
    thoughtful = messages.create(**said(THINK))
    conversation = [
        {"role": "user", "content": THINK},
        {"role": "assistant", "content": thoughtful.content},
        {"role": "user", "content": HELLO},
    ]
    then = messages.create(**said(HELLO, messages=conversation))
    asked: Any = [{"role": "user", "content": HELLO}]
    counted = messages.count_tokens(model=f"{model}-talks", messages=asked)
    # aimock keeps no threads, which its own clients take for granted; where nobody does, they are told.
    more = {"thread": False} if model == "claude" else {}
    runner = client.beta.messages.tool_runner(**said(WEATHER, tools=[get_weather]), **more)
    return {
        "run by the client": runner.until_done().content[0].text,
        "counted": counted.input_tokens > 0,
        "said": whole.content[0].text,
        "usage": [whole.usage.input_tokens, whole.usage.output_tokens],
        "streamed": "".join(pieces),
        "in pieces": len(pieces) > 3,
        "stream's usage": [ended.usage.input_tokens, ended.usage.output_tokens],
        "calls": [[call.name, call.input] for call in calls],
        "streamed calls": [
            [block.name, block.input] for block in streamed.content if block.type == "tool_use"
        ],
        "answered": answered.content[0].text,
        "thought": thoughtful.content[0].thinking,
        "then": then.content[0].text,
        "planned": planned.parsed_output.model_dump(),
        "down": raised(lambda: messages.create(**said(HELLO, model=f"{model}-down"))),
        "cut": raised(
            lambda: list(messages.create(**said(HELLO, model=f"{model}-cut", stream=True)))
        ),
        "missing": raised(lambda: messages.create(**said(HELLO, model="nobody"))),
    }


def main() -> None:
    """Tell of every model."""
    with Anthropic(base_url=URL, api_key=KEY, max_retries=0) as client:
        tell({model: story(client, model) for model in MODELS})


main()
