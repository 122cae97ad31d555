"""A policy says how much is to be thought in bodies that pass, wherever the vendor's protocol and the call allow it."""

import json
from typing import Any

import pytest

from config.dialects import DIALECTS
from proxy.wire.translate import Target, with_effort

OPUS_45 = Target(model="claude-opus-4-5")
OPUS_46 = Target(model="claude-opus-4-6")
SAID = {"role": "user", "content": "hi"}


def message(**more: Any) -> dict[str, Any]:
    """Return a body for Anthropic."""
    return {"model": "m", "max_tokens": 4000, "messages": [SAID], **more}


def told(protocol: str, body: dict[str, Any], target: Target, effort: str = "low") -> Any:
    """Return what is new in a body; nothing of what stood in it may change."""
    sent = json.dumps(body).encode()
    got = json.loads(with_effort(protocol, sent, effort, target))
    for name, value in body.items():
        if name not in {"generationConfig", "output_config"}:
            assert got.pop(name) == value
    return got


@pytest.mark.parametrize(
    ("protocol", "body", "target", "new"),
    [
        ("openai.chat", {"model": "m"}, Target(model="gpt-5"), {"reasoning_effort": "low"}),
        (
            "openai.chat",
            {"model": "m"},
            Target(model="qwen3", dialect=DIALECTS["qwen"]),
            {"enable_thinking": True, "thinking_budget": 2048},
        ),
        (
            "openai.chat",
            {"model": "m"},
            Target(model="x/y", dialect=DIALECTS["openrouter"]),
            {"reasoning": {"effort": "low", "exclude": True}},
        ),
        (
            "openai.responses",
            {"model": "m", "input": "hi"},
            Target(model="gpt-5"),
            {"reasoning": {"effort": "low"}},
        ),
        (
            "anthropic.messages",
            message(),
            OPUS_45,
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        ),
        (
            "anthropic.messages",
            message(max_tokens=1100),
            OPUS_45,
            {"thinking": {"type": "enabled", "budget_tokens": 1099}},
        ),
        (
            "anthropic.messages",
            message(),
            OPUS_46,
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        ),
        (
            "anthropic.messages",
            message(output_config={"format": {"type": "json_schema"}}),
            OPUS_46,
            {
                "thinking": {"type": "adaptive"},
                "output_config": {"format": {"type": "json_schema"}, "effort": "low"},
            },
        ),
        (
            "gemini.generate",
            {"contents": []},
            Target(model="gemini-2.5-pro"),
            {
                "generationConfig": {
                    "thinkingConfig": {"thinkingBudget": 2048, "includeThoughts": False}
                }
            },
        ),
        (
            "gemini.generate",
            {"contents": [], "generationConfig": {"topK": 3}},
            Target(model="gemini-3-pro-preview"),
            {
                "generationConfig": {
                    "topK": 3,
                    "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": False},
                }
            },
        ),
        ("ollama.chat", {"model": "qwen3", "messages": []}, Target(model="qwen3"), {"think": True}),
        ("ollama.generate", {"prompt": "hi"}, Target(model="gpt-oss:20b"), {"think": "low"}),
        (
            "gemini.generate",
            {"contents": [], "generation_config": None},
            Target(model="gemini-2.5-flash"),
            None,
        ),
    ],
)
def test_it_is_said_in_the_words_of_the_protocol_and_the_model(
    protocol: str, body: dict[str, Any], target: Target, new: dict[str, Any] | None
) -> None:
    """As members of their own; whoever reads the answer did not ask for thoughts."""
    if new is None:
        sent = json.dumps(body).encode()
        got = json.loads(with_effort(protocol, sent, "low", target))
        assert got["generation_config"]["thinkingConfig"]["thinkingBudget"] == 2048
    else:
        assert told(protocol, body, target) == new


@pytest.mark.parametrize(
    ("protocol", "body", "target"),
    [
        ("openai.chat", {"model": "m"}, Target(model="gpt-4o", dialect=DIALECTS["openai"])),
        ("openai.responses", {"model": "m"}, Target(model="gpt-4o", dialect=DIALECTS["openai"])),
        ("openai.completions", {"model": "m"}, Target(model="gpt-5")),
        ("gemini.generate", {"contents": []}, Target(model="gemini-2.0-flash")),
        ("anthropic.messages", message(), Target(model="claude-3-5-haiku-latest")),
        ("anthropic.messages", message(max_tokens=1024), OPUS_45),
        ("anthropic.messages", message(temperature=0), OPUS_45),
        ("anthropic.messages", message(top_k=5), OPUS_46),
        ("anthropic.messages", message(tool_choice={"type": "tool", "name": "f"}), OPUS_46),
        (
            "anthropic.messages",
            message(messages=[SAID, {"role": "assistant", "content": "The answer is"}]),
            OPUS_45,
        ),
        (
            "anthropic.messages",
            message(
                messages=[
                    SAID,
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "t"}]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
                ]
            ),
            OPUS_45,
        ),
        ("anthropic.messages", {"model": "m", "max_tokens": "many", "messages": []}, OPUS_45),
    ],
)
def test_a_body_stays_where_the_model_or_the_call_forbids_it(
    protocol: str, body: dict[str, Any], target: Target
) -> None:
    """Rather no word than a refusal by the vendor: it is the same object, so that whoever asks can tell."""
    sent = json.dumps(body).encode()
    assert with_effort(protocol, sent, "low", target) is sent


def test_calls_that_began_with_signed_thoughts_may_go_on_thinking() -> None:
    """As Anthropic demands of whoever answers a call of a tool."""
    turns = [
        SAID,
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "…"}, {"type": "tool_use", "id": "t"}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
    ]
    assert "thinking" in told("anthropic.messages", message(messages=turns), OPUS_45)
