"""Google's client."""

from typing import Any

from google import genai
from google.genai import types
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

TOOLS: Any = [{"function_declarations": [{"name": "get_weather", "parameters_json_schema": CITY}]}]


def story(models: Any, model: str) -> dict[str, Any]:
    """Ask everything of one model."""
    whole = models.generate_content(model=model, contents=HELLO)
    chunks = list(models.generate_content_stream(model=model, contents=HELLO))
    config = types.GenerateContentConfig(
        tools=TOOLS, automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True)
    )
    called = models.generate_content(model=model, contents=WEATHER, config=config)
    streamed = models.generate_content_stream(model=model, contents=WEATHER, config=config)
    conversation = [
        types.Content(role="user", parts=[types.Part(text=WEATHER)]),
        called.candidates[0].content,
        types.Content(
            role="user",
            parts=[
                types.Part(
                    function_response=types.FunctionResponse(
                        id=call.id, name=call.name, response={"result": REPORT}
                    )
                )
                for call in called.function_calls
            ],
        ),
    ]
    answered = models.generate_content(model=model, contents=conversation, config=config)
    structured = types.GenerateContentConfig(
        response_mime_type="application/json", response_schema=Journey
    )
    planned = models.generate_content(model=model, contents=JOURNEY, config=structured)
    thoughtful = models.generate_content(model=model, contents=THINK).candidates[0].content
    then = models.generate_content(
        model=model,
        contents=[
            types.Content(role="user", parts=[types.Part(text=THINK)]),
            thoughtful,
            types.Content(role="user", parts=[types.Part(text=HELLO)]),
        ],
    )
    counted = models.count_tokens(model=f"{model}-talks", contents=HELLO)
    pieces = [chunk.text for chunk in chunks if chunk.text]
    return {
        "counted": counted.total_tokens > 0,
        "said": whole.text,
        "usage": _usage(whole),
        "streamed": "".join(pieces),
        "in pieces": len(pieces) > 3,
        "stream's usage": _usage(chunks[-1]),
        "calls": _calls([called]),
        "streamed calls": _calls(streamed),
        "answered": answered.text,
        "thought": thoughtful.parts[0].text if thoughtful.parts[0].thought else None,
        "then": then.text,
        "planned": planned.parsed.model_dump(),
        "down": raised(lambda: models.generate_content(model=f"{model}-down", contents=HELLO)),
        "cut": raised(
            lambda: list(models.generate_content_stream(model=f"{model}-cut", contents=HELLO))
        ),
        "missing": raised(lambda: models.generate_content(model="nobody", contents=HELLO)),
    }


def _usage(answer: Any) -> list[int]:
    usage = answer.usage_metadata
    return [usage.prompt_token_count, usage.candidates_token_count]


def _calls(answers: Any) -> list[Any]:
    return [[call.name, call.args] for answer in answers for call in answer.function_calls or ()]


def main() -> None:
    """Tell of every model."""
    client = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=URL))
    told: dict[str, Any] = {model: story(client.models, model) for model in MODELS}
    for model in VECTORS:
        embedded = client.models.embed_content(model=model, contents=EMBED)
        told[f"vectors, {model}"] = [one.values for one in embedded.embeddings or ()]
    tell(told)


main()
