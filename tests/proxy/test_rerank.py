"""
Rerank and embeddings at the edge: every caller's shape at every vendor's, billed by what the vendor says.

The vendors are scripted: Cohere, Gemini, and one that is compatible with OpenAI and answers rerank as Jina does.
"""

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.proxy.edge_rig import Edge, Rig
from tests.proxy.partners import PROMPT, Asked, Line, at, whole

RESULTS = [{"index": 1, "relevance_score": 0.75}, {"index": 0, "relevance_score": 0.25}]
VECTORS = [[0.5, -1.0], [0.25, 3.0]]
ANSWERS: dict[str, Any] = {
    "/v2/rerank": {
        "id": "x",
        "results": RESULTS,
        "meta": {"billed_units": {"search_units": 2}},
    },
    "/v1/rerank": {"model": "u", "usage": {"total_tokens": 7}, "results": RESULTS},
    "/v2/embed": {
        "id": "x",
        "embeddings": {"float": VECTORS},
        "texts": [],
        "meta": {"billed_units": {"input_tokens": 7}},
    },
    "/v1/embeddings": {
        "object": "list",
        "data": [{"index": n, "embedding": vector} for n, vector in enumerate(VECTORS)],
        "model": "u",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    },
    "/v1beta/models/upstream-m:batchEmbedContents": {
        "embeddings": [{"values": vector} for vector in VECTORS],
        "usageMetadata": {"promptTokenCount": 7},
    },
    "/v1beta/models/upstream-m:embedContent": {"embedding": {"values": VECTORS[0]}},
}
PRICE = {"input": 1, "output": 2, "per_search_unit": 0.002}


async def served(edge: Edge, protocol: str, asked: list[Asked]) -> Rig:
    """Start an edge whose model `m` is served by a vendor of this protocol, which notes what it is asked."""

    async def answers(line: Line) -> None:
        while True:
            asked.append(await line.gets())
            answer = ANSWERS[asked[-1].line.split()[1]]
            await line.says(whole(json.dumps(answer).encode()))

    rig = await edge(
        models={"m": {"price": PRICE, "deployments": [at("v")]}},
        scripted=["v"],
        provider={"protocol": protocol},
        providers={
            "mock": {"protocol": "openai", "base_url": "http://127.0.0.1:9"},
            "messages": {"protocol": "openai", "base_url": "http://127.0.0.1:9"},
        },
    )
    rig.vendors["v"].habit = answers
    return rig


@pytest.mark.parametrize(("protocol", "path"), [("cohere", "/v2/rerank"), ("openai", "/v1/rerank")])
async def test_documents_are_put_in_order_for_everybody(
    edge: Edge, protocol: str, path: str
) -> None:
    """In the caller's shape, by the vendor's scores, for the units or the tokens that it counts."""
    sent: list[Asked] = []
    rig = await served(edge, protocol, sent)
    body = {"model": "m", "query": PROMPT, "documents": ["a", "b"], "top_n": 2}
    for asked in ("/v2/rerank", "/v1/rerank"):
        answer = await rig.ask(json.dumps(body).encode(), path=asked)
        assert answer.status == 200
        found = [(one["index"], one["relevance_score"]) for one in answer.json["results"]]
        assert found == [(1, 0.75), (0, 0.25)]
        if asked == path:
            assert answer.json == ANSWERS[path]
        elif asked == "/v1/rerank":
            assert answer.json["results"][0]["document"] == {"text": "b"}
            assert answer.json["meta"]["billed_units"] == {"search_units": 2}
        assert sent[-1].line.split()[1] == path
        assert sent[-1].json["model"] == "upstream-m"
        assert sent[-1].json["documents"] == ["a", "b"]
    for entry in await rig.entries():
        assert (entry.outcome, entry.token_source) == ("ok", "provider")
        expected = 2 * 2_000_000 if protocol == "cohere" else 7 * 1000
        assert entry.cost_nusd == expected
        assert entry.output_tokens == 0


ASKED: dict[str, Any] = {
    "/v1/embeddings": {"model": "m", "input": ["one text", "b"], "encoding_format": "base64"},
    "/v2/embed": {
        "model": "m",
        "texts": ["one text", "b"],
        "input_type": "search_document",
        "embedding_types": ["float"],
    },
    "/api/embed": {"model": "m", "input": ["one text", "b"]},
    "/v1beta/models/m:batchEmbedContents": {
        "requests": [
            {"model": "models/m", "content": {"parts": [{"text": text}]}}
            for text in ("one text", "b")
        ]
    },
}


def vectors_in(path: str, answer: Any) -> list[list[float]]:
    """Read the vectors of an answer."""
    if path == "/v1/embeddings":
        raw = [one["embedding"] for one in answer["data"]]
        packed = [base64.b64decode(one) for one in raw if isinstance(one, str)]
        return [list(struct.unpack("<2f", one)) for one in packed] or raw
    if path == "/v2/embed":
        return list(answer["embeddings"]["float"])
    if path == "/api/embed":
        return list(answer["embeddings"])
    return [one["values"] for one in answer["embeddings"]]


@pytest.mark.parametrize("protocol", ["openai", "cohere", "gemini"])
async def test_texts_become_vectors_for_everybody(edge: Edge, protocol: str) -> None:
    """The same numbers in the same order, whoever asks and whoever is asked; charged by what the vendor counts."""
    sent: list[Asked] = []
    rig = await served(edge, protocol, sent)
    for path, body in ASKED.items():
        answer = await rig.ask(json.dumps(body).encode(), path=path)
        assert answer.status == 200, answer.body
        assert vectors_in(path, answer.json) == VECTORS
        assert b"one text" in sent[-1].body
    for entry in await rig.entries():
        assert (entry.outcome, entry.input_tokens, entry.output_tokens) == ("ok", 7, 0)
        assert (entry.cost_nusd, entry.token_source) == (7000, "provider")


async def test_a_name_in_a_body_of_geminis_is_the_deployments(edge: Edge) -> None:
    """As in the URL, or Google would refuse it; of one text there is one vector, and what was not counted is estimated."""
    sent: list[Asked] = []
    rig = await served(edge, "gemini", sent)
    one = {"model": "models/m", "content": {"parts": [{"text": PROMPT}]}, "taskType": "CLUSTERING"}
    answer = await rig.ask(json.dumps(one).encode(), path="/v1beta/models/m:embedContent")
    assert answer.json == {"embedding": {"values": VECTORS[0]}}
    assert sent[0].json == one | {"model": "models/upstream-m"}
    batch = json.dumps(ASKED["/v1beta/models/m:batchEmbedContents"]).encode()
    await rig.ask(batch, path="/v1beta/models/m:batchEmbedContents")
    assert {each["model"] for each in sent[1].json["requests"]} == {"models/upstream-m"}
    entries = await rig.entries()
    assert [entry.token_source for entry in entries] == ["estimated", "provider"]
    assert entries[0].input_tokens > 0


async def test_one_text_of_ollamas_older_clients_is_one_vector(edge: Edge) -> None:
    """Asked as `prompt`, answered as `embedding`."""
    rig = await served(edge, "openai", [])
    body = json.dumps({"model": "m", "prompt": PROMPT}).encode()
    answer = await rig.ask(body, path="/api/embeddings")
    assert answer.json == {"embedding": VECTORS[0]}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v2/rerank", {"model": "m", "query": "q"}, lambda answer: answer["message"]),
        ("/v1/rerank", {"model": "m", "query": "q", "documents": []}, lambda a: a["detail"]),
        ("/v2/embed", {"model": "m", "texts": "a"}, lambda answer: answer["message"]),
        ("/api/embed", {"model": "m"}, lambda answer: answer["error"]),
        ("/v1/embeddings", {"model": "m", "input": [[1, 2]]}, lambda a: a["error"]["message"]),
        (
            "/v1beta/models/m:embedContent",
            {"contents": []},
            lambda answer: answer["error"]["message"],
        ),
    ],
)
async def test_a_mistake_is_said_in_the_callers_words(
    edge: Edge, path: str, body: Any, said: Callable[[Any], str]
) -> None:
    """A 400 in the protocol's own envelope, and nobody is asked."""
    sent: list[Asked] = []
    rig = await served(edge, "cohere", sent)
    answer = await rig.ask(json.dumps(body).encode(), path=path)
    assert answer.status == 400
    assert said(answer.json)
    unknown = await rig.ask(json.dumps(body).encode(), path=path, key="sk-nobody")
    assert unknown.status == 401
    assert said(unknown.json)
    assert sent == []


async def test_a_vendor_that_cannot_put_in_order_is_not_asked(edge: Edge) -> None:
    """The refusal says why."""
    rig = await served(edge, "gemini", [])
    body = json.dumps({"model": "m", "query": PROMPT, "documents": ["a"]}).encode()
    answer = await rig.ask(body, path="/v2/rerank")
    assert answer.status == 400
    assert "speaks gemini" in answer.json["message"]
