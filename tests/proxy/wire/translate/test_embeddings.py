"""The laws of embeddings between protocols."""

import base64
import struct
from array import array
from typing import Any

import msgspec
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.look import BadField
from proxy.wire.translate.core import BadAnswer, CannotExpress, Failure
from proxy.wire.translate.embeddings import (
    EMBEDDERS,
    GEMINI_ONE,
    Embedded,
    Embedding,
    decoded,
    encoded,
)
from tests.proxy.wire.translate.samples import REPLY
from tests.proxy.wire.translate.test_official_clients import served

NAMES = list(EMBEDDERS)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ASKED = Embedding(model="m", texts=("a", "b"), dimensions=2, family="none")
ANSWER = Embedded(
    vectors=(array("f", [0.5, -1.0]), array("f", [0.25, 3.0])), model="served", tokens=7
)


@given(st.lists(FLOATS, max_size=9))
def test_base64_is_of_little_endian_floats(values: list[float]) -> None:
    """As OpenAI's client unpacks them, bit by bit."""
    text = encoded(array("f", values))
    assert base64.b64decode(text) == struct.pack(f"<{len(values)}f", *values)
    assert decoded(text).tolist() == values


@pytest.mark.parametrize("name", NAMES)
def test_a_request_keeps_its_texts(name: str) -> None:
    """In their order, with what the vectors are to be."""
    embedder = EMBEDDERS[name]
    written = embedder.write_request(ASKED, "served")
    again = embedder.read_request(written.body)
    assert (again.texts, again.dimensions) == (("a", "b"), 2)
    assert again.model in {"served", ""}
    assert written.dropped == ()


@pytest.mark.parametrize("caller", NAMES)
@pytest.mark.parametrize("vendor", NAMES)
def test_every_pair_keeps_the_vectors(vendor: str, caller: str) -> None:
    """Number by number, and the tokens."""
    theirs = EMBEDDERS[vendor].write_answer(ANSWER, ASKED, REPLY)
    answer = EMBEDDERS[vendor].read_answer(theirs)
    again = EMBEDDERS[caller].read_answer(EMBEDDERS[caller].write_answer(answer, ASKED, REPLY))
    assert again.vectors == ANSWER.vectors
    assert again.tokens == 7


@pytest.mark.parametrize("vendor", NAMES)
def test_openais_client_reads_every_vendors_vectors(vendor: str) -> None:
    """It asks for base64 by itself, and unpacks it."""
    body = msgspec.json.encode({"model": "m", "input": "a", "encoding_format": "base64"})
    asked = EMBEDDERS["openai.embeddings"].read_request(body)
    answer = EMBEDDERS[vendor].read_answer(EMBEDDERS[vendor].write_answer(ANSWER, ASKED, REPLY))
    ours = EMBEDDERS["openai.embeddings"].write_answer(answer, asked, REPLY)
    with openai.OpenAI(api_key="k", base_url="http://x/v1", http_client=served(ours)) as client:
        made = client.embeddings.create(model="m", input=["a", "b"])
    assert [one.embedding for one in made.data] == [[0.5, -1.0], [0.25, 3.0]]
    assert made.usage.prompt_tokens == 7


@pytest.mark.parametrize(
    ("name", "body", "task"),
    [
        (
            "cohere.embeddings",
            {"model": "m", "texts": ["a"], "input_type": "search_query"},
            "query",
        ),
        (
            "gemini.embeddings",
            {"content": {"parts": [{"text": "a"}]}, "taskType": "RETRIEVAL_QUERY"},
            "query",
        ),
        (
            "gemini.embeddings",
            {"content": {"parts": [{"text": "a"}]}, "task_type": "CLUSTERING"},
            "clustering",
        ),
        ("openai.embeddings", {"model": "m", "input": "a"}, None),
    ],
)
def test_what_vectors_are_for_is_kept(name: str, body: dict[str, Any], task: str | None) -> None:
    """Between those who ask; elsewhere it is named as dropped."""
    asked = EMBEDDERS[name].read_request(msgspec.json.encode(body))
    assert asked.task == task
    sent = msgspec.json.decode(EMBEDDERS["cohere.embeddings"].write_request(asked, "m").body)
    assert sent["input_type"] == {"query": "search_query", "clustering": "clustering"}.get(
        task or "", "search_document"
    )
    dropped = EMBEDDERS["openai.embeddings"].write_request(asked, "m").dropped
    assert dropped == (() if task is None else ("task",))


def test_unknown_members_pass_within_the_family() -> None:
    """And are named elsewhere."""
    body = {"model": "m", "input": "a", "new": 1, "user": "u", "metadata": {"biz_level": "x"}}
    asked = EMBEDDERS["openai.embeddings"].read_request(msgspec.json.encode(body))
    own = EMBEDDERS["openai.embeddings"].write_request(asked, "m")
    assert msgspec.json.decode(own.body)["new"] == 1
    assert own.dropped == ()
    assert EMBEDDERS["ollama.embeddings"].write_request(asked, "m").dropped == ("new", "user")


@pytest.mark.parametrize(
    ("name", "body", "param"),
    [
        ("openai.embeddings", {"model": "m", "input": [1, 2]}, "input"),
        ("openai.embeddings", {"model": "m", "input": [[1], [2]]}, "input"),
        (
            "cohere.embeddings",
            {"model": "m", "texts": ["a"], "embedding_types": ["int8"]},
            "embedding_types",
        ),
        ("cohere.embeddings", {"model": "m", "images": ["x"]}, "images"),
        (
            "gemini.embeddings",
            {"content": {"parts": [{"inlineData": {"x": 1}}]}},
            "content.parts[0]",
        ),
    ],
)
def test_what_is_no_text_is_refused(name: str, body: dict[str, Any], param: str) -> None:
    """Tokens are a vendor's own."""
    with pytest.raises(CannotExpress) as cannot:
        EMBEDDERS[name].read_request(msgspec.json.encode(body))
    assert cannot.value.param == param


@pytest.mark.parametrize(
    ("name", "body", "param"),
    [
        ("openai.embeddings", {"model": "m"}, "input"),
        ("openai.embeddings", {"model": "m", "input": []}, "input"),
        ("openai.embeddings", {"model": "m", "input": ["a", 1]}, "input"),
        (
            "openai.embeddings",
            {"model": "m", "input": "a", "encoding_format": "hex"},
            "encoding_format",
        ),
        ("ollama.embeddings", {"input": "a"}, "model"),
        ("cohere.embeddings", {"model": "m", "texts": ["a"], "input_type": "odd"}, "input_type"),
        ("gemini.embeddings", {"requests": []}, "requests"),
        ("gemini.embeddings", {"requests": [{}]}, "requests[0].content"),
    ],
)
def test_a_mistake_is_named(name: str, body: dict[str, Any], param: str) -> None:
    """With the path of the field."""
    with pytest.raises(BadField) as bad:
        EMBEDDERS[name].read_request(msgspec.json.encode(body))
    assert bad.value.param == param


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"data":[],"embeddings":[]}',
        b'{"data":[{"embedding":["x"]}],"embeddings":[["x"]]}',
        b'{"data":[{"embedding":"?"}],"embeddings":[{"values":7}]}',
        b'{"data":[7],"embeddings":[7]}',
    ],
)
def test_garbage_is_a_bad_answer(name: str, body: bytes) -> None:
    """To be tried elsewhere."""
    with pytest.raises(BadAnswer):
        EMBEDDERS[name].read_answer(body)


def test_vectors_are_put_into_the_order_of_their_texts() -> None:
    """OpenAI numbers them."""
    body = b'{"data":[{"index":1,"embedding":[2.0]},{"index":0,"embedding":[1.0]}]}'
    answer = EMBEDDERS["openai.embeddings"].read_answer(body)
    assert [vector.tolist() for vector in answer.vectors] == [[1.0], [2.0]]


def test_texts_of_one_request_are_embedded_alike() -> None:
    """Google lets each have its own way; nobody else does."""
    one, other = {"content": {"parts": [{"text": "a"}]}}, {"content": {"parts": [{"text": "b"}]}}
    read = EMBEDDERS["gemini.embeddings"].read_request
    asked = read(msgspec.json.encode({"requests": [one, other]}))
    assert asked.texts == ("a", "b")
    with pytest.raises(CannotExpress) as cannot:
        read(msgspec.json.encode({"requests": [one, other | {"taskType": "CLUSTERING"}]}))
    assert cannot.value.param == "requests[1]"
    alike = Embedding(model="m", texts=("a",), task="similarity")
    assert EMBEDDERS["cohere.embeddings"].write_request(alike, "m").dropped == ("task",)


def test_a_caller_of_one_gets_one() -> None:
    """Google has a verb for it."""
    made = msgspec.json.decode(GEMINI_ONE.write_answer(ANSWER, ASKED, REPLY))
    assert made["embedding"]["values"] == [0.5, -1.0]
    assert GEMINI_ONE.read_answer(msgspec.json.encode(made)).vectors == ANSWER.vectors[:1]


@pytest.mark.parametrize("name", NAMES)
def test_an_error_keeps_its_kind(name: str) -> None:
    """In the envelope of each."""
    failure = Failure(kind="rate_limited", message="slow", status=429, retry_after_us=1_000_000)
    written = EMBEDDERS[name].write_error(failure, "r")
    again = EMBEDDERS[name].read_error(written.status, dict(written.headers), written.body)
    assert (again.kind, again.message, again.retry_after_us) == ("rate_limited", "slow", 1_000_000)
