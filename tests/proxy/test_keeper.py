"""How the provider is asked that keeps files: what its answers mean, and what they must not give away."""

import json

import pytest

from governance.kept import Kept, keep
from tests.proxy.edge_rig import Edge
from tests.proxy.partners import VENDOR_KEY, always, at, whole
from tests.proxy.test_files import FILES, get, upload


@pytest.mark.parametrize(
    "answer", [b"{}", b'{"id":""}', b'{"id":"a/b"}', b"[]", b"<html>", b'{"id":"\xff"}']
)
async def test_an_answer_that_is_no_object_is_none(edge: Edge, answer: bytes) -> None:
    """Nothing is written down that nobody could ask for."""
    rig = await edge(models={"m": [at("v")]}, scripted=["v"], keeper="v")

    rig.vendors["v"].habit = always(whole(answer))
    refused = await upload(rig, b"x", "assistants")
    assert (refused.status, refused.error["code"]) == (502, "bad_answer")
    assert await rig.outcomes() == ["bad_answer"]
    assert [key async for key in rig.redis.scan_iter(match="{c0}:k:*")] == []


async def test_a_refusal_is_the_vendors_without_our_secrets(edge: Edge) -> None:
    """Its words about the request go to the caller; a key or a header that it repeats does not."""
    settings = {"headers": {"x-account": "account-7f3a9c2e1b"}}
    rig = await edge(models={"m": [at("v")]}, scripted=["v"], keeper="v", vendors={"v": settings})
    error = {"message": f"no file for {VENDOR_KEY} of account-7f3a9c2e1b", "code": "gone"}
    body = json.dumps({"error": error}).encode()
    rig.vendors["v"].habit = always(whole(body, status=b"404 Not Found"))
    await keep(rig.redis, Kept("file-1", "acme/support", "v", "file", b"{}"), 0)
    for path in (f"{FILES}/file-1", f"{FILES}/file-1/content"):
        answer = await get(rig, path)
        assert (answer.status, answer.error["code"]) == (404, "gone")
        assert answer.error["message"] == "no file for *** of ***"
