"""What vendors refuse a request for, in their own words as they document or send them."""

import json

import pytest

from proxy.wire.faults import fault_of


def said(**error: object) -> bytes:
    return json.dumps({"error": error}).encode()


CONTEXT = {
    "openai": said(
        message="This model's maximum context length is 128000 tokens. However, your messages resulted in 140000 tokens.",
        type="invalid_request_error",
        param="messages",
        code="context_length_exceeded",
    ),
    "vllm": b'{"object":"error","message":"This model\'s maximum context length is 4096 tokens.'
    b' However, you requested 5000 tokens","type":"BadRequestError","param":null,"code":400}',
    "sglang": said(
        message="The input (5000 tokens) is longer than the model's context length (4096 tokens)."
    ),
    "llama.cpp": said(
        code=400,
        message="the request exceeds the available context size. try increasing the context size",
        type="exceed_context_size_error",
    ),
    "anthropic": b'{"type":"error","error":{"type":"invalid_request_error",'
    b'"message":"prompt is too long: 213462 tokens > 200000 maximum"}}',
    "anthropic, with its cap": b'{"type":"error","error":{"type":"invalid_request_error",'
    b'"message":"input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"}}',
    "gemini": said(
        code=400,
        message="The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        status="INVALID_ARGUMENT",
    ),
    "bedrock": b'{"message":"Input is too long for requested model."}',
}
POLICY = {
    "openai": said(
        message="Your request was rejected by our safety system.",
        type="image_generation_user_error",
        code="moderation_blocked",
    ),
    "azure": said(
        message="The response was filtered due to the prompt triggering content management policy.",
        code="content_filter",
        status=400,
        innererror={"code": "ResponsibleAIPolicyViolation"},
    ),
    "anthropic": b'{"type":"error","error":{"type":"invalid_request_error",'
    b'"message":"Output blocked by content filtering policy"}}',
}


@pytest.mark.parametrize("body", CONTEXT.values(), ids=CONTEXT)
def test_a_prompt_that_is_too_long_is_known_as_such(body: bytes) -> None:
    """A model with a larger context may take it."""
    assert fault_of(body) == "context"


@pytest.mark.parametrize("body", POLICY.values(), ids=POLICY)
def test_what_a_vendors_policy_blocks_is_known_as_such(body: bytes) -> None:
    """Another vendor may have another policy."""
    assert fault_of(body) == "policy"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        said(message="Invalid value for 'temperature'", code="invalid_value", param="temperature"),
        said(message="max_tokens is too large: 99999", code=None),
        said(message="x" * 5000 + '"context_length_exceeded"'),
    ],
)
def test_all_else_is_the_callers_to_put_right(body: bytes) -> None:
    """It would be refused anywhere."""
    assert fault_of(body) == ""
