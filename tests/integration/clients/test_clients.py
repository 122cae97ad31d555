"""
Everybody's clients against the gateway: each asks the same of models that speak its own protocol and of models that do not.

None of them can tell which is which: answers, streams, calls and their results, structured output and usage are the same.
Scripts of clients are beside this file (`with_*`), the vendor's answers in `vendor.json`.
"""

from collections import Counter

import pytest

from tests.integration.clients.site import (
    BROKEN,
    HERE,
    MODELS,
    NODE,
    VECTORS,
    Site,
    node,
    python,
)
from tests.integration.processes import Books

HELLO = "Hello from the other side of the gate, in as many pieces as it takes."
CALLS = [["get_weather", {"city": "Oslo"}], ["get_weather", {"city": "Reykjavik"}]]
TOLD = {
    "said": HELLO,
    "usage": [21, 17],
    "streamed": HELLO,
    "in pieces": True,
    "stream's usage": [21, 17],
    "calls": CALLS,
    "streamed calls": CALLS,
    "answered": "Rain in both.",
    "planned": {"city": "Oslo", "days": 3},
}
# What official clients in Python do besides: show what a model thought, and give it back.
THOUGHT = {"thought": "Water falls, so it is below.", "then": HELLO}
# Tokens are counted by whoever can; where nobody can, it is an estimate that costs nothing and is in no books.
COUNTING = {"with_anthropic.py": 2, "with_google.py": 2}
# A client that calls the tools by itself, in a thread unless it is told that there are none.
LOOPING = {"with_anthropic.py": [(31, 9), (41, 4)]}
THINKING = ("with_openai.py", "with_anthropic.py", "with_google.py", "with_ollama.py")
EMBEDDED = [[0.5, -0.25, 0.125, 1.0]] * 2
# What aimock says that each of these calls took, and what some clients ask once more: text by
# Ollama's other endpoint, a plan in LangChain's other way.
USED = [(21, 17), (21, 17), (31, 9), (31, 9), (41, 4), (51, 8)]
THOUGHT_USED = [(61, 12), (21, 17)]
AGAIN = {
    "with_ollama.py": {"": (21, 17)},
    "with_langchain.py": {"chat": (51, 8), "responses": (51, 8)},
}

OPENAI = {"down": "InternalServerError", "cut": "APIError", "missing": "NotFoundError"}
ANTHROPIC = {"down": "ServiceUnavailableError", "cut": "APIStatusError", "missing": "NotFoundError"}
# In Node a stream's error is of the class that all others are made from.
ANTHROPIC_IN_NODE = {
    "down": "ServiceUnavailableError",
    "cut": "APIError",
    "missing": "NotFoundError",
}
GOOGLE = {"down": "ServerError", "cut": "ServerError", "missing": "ClientError"}
OLLAMA = dict.fromkeys(("down", "cut", "missing"), "ResponseError")
LANGCHAIN_OPENAI = {
    "down": "OpenAIAPIError",
    "cut": "APIError",
    "missing": "OpenAIModelNotFoundError",
}
LANGCHAIN_ANTHROPIC = {
    "down": "AnthropicAPIError",
    "cut": "APIStatusError",
    "missing": "AnthropicModelNotFoundError",
}
# What it makes of `response.failed`, which the mock vendor does not end a stream with.
FAILED = {"cut": "ValueError"}
# By script: what its clients raise, by the protocol they speak (and the model, where that matters).
RAISED = {
    "with_openai.py": {"chat": OPENAI, "responses": OPENAI},
    "with_anthropic.py": {"": ANTHROPIC},
    "with_google.py": {"": GOOGLE},
    "with_ollama.py": {"": OLLAMA},
    "with_langchain.py": {
        "chat": LANGCHAIN_OPENAI,
        "responses": LANGCHAIN_OPENAI,
        "responses, claude": FAILED,
        "responses, gemini": FAILED,
        "responses, kimi": FAILED,
        "anthropic": LANGCHAIN_ANTHROPIC,
        # It reads the input from a stream's last usage, which aimock leaves it out of.
        "anthropic, claude": {"stream's usage": [0, 17]},
    },
    "with_openai.mjs": {"chat": OPENAI, "responses": OPENAI},
    "with_anthropic.mjs": {"": ANTHROPIC_IN_NODE},
}


@pytest.mark.parametrize("script", RAISED)
def test_a_client_cannot_tell_who_answers(site: Site, books: Books, script: str) -> None:
    """Whatever it asks of whichever vendor, it is given the same; and every call is in the ledger."""
    if script.endswith(".py"):
        told = site.told_by(python(), str(HERE / script))
    else:
        told = site.told_by(node(), str(NODE / script), cwd=NODE)
    vectors = {model: told.pop(name) for model in VECTORS if (name := f"vectors, {model}") in told}
    assert all(value == EMBEDDED for value in vectors.values())
    raised, thinks = RAISED[script], script in THINKING
    loops = {"run by the client": "Rain in both."} if script in LOOPING else {}
    expected = loops | (
        TOLD | (THOUGHT if thinks else {}) | ({"counted": True} if script in COUNTING else {})
    )
    assert all(story.keys() == expected.keys() | {"missing", *BROKEN} for story in told.values())
    hows = [how for how in raised if "," not in how]
    assert set(told) == {f"{how}, {model}" if how else model for how in hows for model in MODELS}
    wrong = {}
    for asked, story in told.items():
        errors = raised[asked.rpartition(", ")[0]]
        right = expected | errors | raised.get(asked, {})
        for what, value in story.items():
            # On a machine that is held up, the error is there before anything was passed: it is a status then.
            early = what == "cut" and value in {errors["down"], "InternalServerError"}
            if value != right[what] and not early:
                wrong[asked, what] = value
    assert wrong == {}
    again = AGAIN.get(script, {})
    each = [*USED, *(THOUGHT_USED if thinks else ()), *LOOPING.get(script, ())]
    used = [[*each, again[how]] if how in again else each for how in hows]
    calls = len(MODELS) * sum(len(one) + len(BROKEN) for one in used)
    entries = books.entries(calls + len(vectors) + COUNTING.get(script, 0))
    booked = Counter(
        (entry.model, entry.input_tokens, entry.output_tokens)
        for entry in entries
        if entry.outcome == "ok" and entry.model in MODELS
    )
    assert booked == Counter((model, *tokens) for model in MODELS for one in used for tokens in one)
    ended = {entry.model: entry for entry in entries if entry.outcome != "ok"}
    for model in MODELS:
        down, cut = ended[f"{model}-down"], ended[f"{model}-cut"]
        assert (down.status, down.cost_nusd) == (503, 0)
        # Gemini alone says with every chunk what it took so far.
        source = "provider" if model == "gemini" else "estimated"
        assert cut.token_source in {source, "none"}
        assert (0 < cut.output_tokens < 40) == (cut.token_source != "none")


def test_cohere(site: Site, books: Books) -> None:
    """Documents are put in order, and vectors are the same whoever made them; each call is in the ledger."""
    told = site.told_by(python(), str(HERE / "with_cohere.py"))
    assert told["ranked"] == [[1, 0.75], [0, 0.25]]
    assert told["missing"] == "NotFoundError"
    assert {model: told[f"vectors, {model}"] for model in VECTORS} == dict.fromkeys(
        VECTORS, EMBEDDED
    )
    entries = books.entries(1 + len(VECTORS))
    assert {entry.outcome for entry in entries} == {"ok"}
    assert {entry.protocol for entry in entries} == {"cohere.rerank", "cohere.embeddings"}
