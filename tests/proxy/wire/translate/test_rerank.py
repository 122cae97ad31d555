"""The laws of reranking between protocols."""

from typing import Any

import msgspec
import pytest

from proxy.wire.look import BadField
from proxy.wire.translate.core import BadAnswer, CannotExpress, Failure
from proxy.wire.translate.rerank import RERANKERS, Rank, Ranked, Reranking
from tests.proxy.wire.translate.samples import REPLY

NAMES = list(RERANKERS)
ASKED = Reranking(model="m", query="q", documents=("a", "b", "c"), top_n=2, family="none")
ANSWER = Ranked(ranks=(Rank(2, 0.9), Rank(0, 0.1)), model="served", search_units=1, tokens=7)


def ask(name: str, **members: Any) -> Reranking:
    body = {"model": "m", "query": "q", "documents": ["a", "b"]} | members
    return RERANKERS[name].read_request(msgspec.json.encode(body))


@pytest.mark.parametrize("name", NAMES)
def test_a_request_keeps_its_documents(name: str) -> None:
    """In their order; texts are repeated by whoever writes the answer."""
    written = RERANKERS[name].write_request(ASKED, "served")
    again = RERANKERS[name].read_request(written.body)
    assert (again.query, again.documents, again.top_n) == ("q", ("a", "b", "c"), 2)
    assert not again.with_documents
    assert written.dropped == ()


@pytest.mark.parametrize("caller", NAMES)
@pytest.mark.parametrize("vendor", NAMES)
def test_every_pair_keeps_the_order(vendor: str, caller: str) -> None:
    """And what was billed, as far as the protocol has a word for it."""
    theirs = RERANKERS[vendor].read_answer(RERANKERS[vendor].write_answer(ANSWER, ASKED, REPLY))
    ours = RERANKERS[caller].write_answer(theirs, ASKED, REPLY)
    assert RERANKERS[caller].read_answer(ours).ranks == ANSWER.ranks
    if vendor == caller == "cohere.rerank":
        assert theirs.search_units == 1
    if vendor == caller == "jina.rerank":
        assert theirs.tokens == 7


def test_documents_are_repeated_for_who_wants_them() -> None:
    """Jina's callers do unless they say no, Cohere's do not."""
    assert ask("jina.rerank").with_documents
    assert not ask("jina.rerank", return_documents=False).with_documents
    assert not ask("cohere.rerank").with_documents
    asked = ask("jina.rerank", documents=[{"text": "a"}, "b", "c"])
    made = msgspec.json.decode(RERANKERS["jina.rerank"].write_answer(ANSWER, asked, REPLY))
    assert made["results"][0]["document"] == {"text": "c"}


def test_unknown_members_pass_within_the_family() -> None:
    """And are named elsewhere."""
    asked = ask("cohere.rerank", priority=1, max_tokens_per_doc=9)
    own = RERANKERS["cohere.rerank"].write_request(asked, "m")
    sent = msgspec.json.decode(own.body)
    assert (sent["priority"], sent["max_tokens_per_doc"], own.dropped) == (1, 9, ())
    assert RERANKERS["jina.rerank"].write_request(asked, "m").dropped == (
        "priority",
        "max_tokens_per_doc",
    )


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"query": None}, "query"),
        ({"query": 7}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": [7]}, "documents[0]"),
        ({"top_n": 0}, "top_n"),
        ({"model": None}, "model"),
    ],
)
def test_a_mistake_is_named(members: dict[str, Any], param: str) -> None:
    """With the path of the field."""
    with pytest.raises(BadField) as bad:
        ask("cohere.rerank", **members)
    assert bad.value.param == param


def test_images_are_refused() -> None:
    """Only texts are ranked."""
    with pytest.raises(CannotExpress):
        ask("jina.rerank", documents=[{"image": "x"}])
    assert ask("jina.rerank", query={"text": "q"}).query == "q"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"results":7}',
        b'{"results":[{}]}',
        b'{"results":[{"index":-1,"relevance_score":1}]}',
    ],
)
def test_garbage_is_a_bad_answer(body: bytes) -> None:
    """To be tried elsewhere."""
    with pytest.raises(BadAnswer):
        RERANKERS["cohere.rerank"].read_answer(body)


def test_a_document_that_is_none_is_a_bad_answer() -> None:
    """A vendor may not point outside of what it was given."""
    with pytest.raises(BadAnswer):
        RERANKERS["jina.rerank"].write_answer(Ranked(ranks=(Rank(9, 1.0),)), ASKED, REPLY)


@pytest.mark.parametrize("name", NAMES)
def test_an_error_keeps_its_kind(name: str) -> None:
    """In the envelope of each."""
    failure = Failure(kind="rate_limited", message="slow", status=429)
    written = RERANKERS[name].write_error(failure, "r")
    again = RERANKERS[name].read_error(written.status, {}, written.body)
    assert (again.kind, again.message) == ("rate_limited", "slow")
