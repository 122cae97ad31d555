"""
How providers are asked: the rows that callers' rows lead to, and where those lead.

The examples of `docs/vendors.md` are the cases: each compiles, and leads to where its vendor is.
"""

import re
from typing import get_args

import pytest

from config.dialects import DIALECTS
from config.providers import Dialect, Protocol
from proxy.place import Place
from proxy.wire.endpoints import ENDPOINTS
from proxy.wire.translate.sigv4 import Credentials
from proxy.wire.vendors import by_responses, spoken_by
from store.places import CHECKOUT
from tests.proxy.test_live import CHAT, compiled, live

PAGE = (CHECKOUT / "docs" / "vendors.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ROWS = {endpoint.word: endpoint for endpoint in ENDPOINTS}

# The deployments of the page, what is asked of them, and the beginning of the request that this makes.
LED_TO = {
    "gpt-5-mini/openai": ("openai.chat", False, "/v1/chat/completions api.openai.com"),
    **{
        f"open/{provider}": ("anthropic.messages", True, f"{path}/chat/completions {host}")
        for provider, path, host in (
            ("deepseek", "/v1", "api.deepseek.com"),
            ("qwen", "/compatible-mode/v1", "dashscope-intl.aliyuncs.com"),
            ("glm", "/api/paas/v4", "api.z.ai"),
            ("kimi", "/v1", "api.moonshot.ai"),
            ("minimax", "/v1", "api.minimax.io"),
            ("mistral", "/v1", "api.mistral.ai"),
            ("groq", "/openai/v1", "api.groq.com"),
            ("xai", "/v1", "api.x.ai"),
            ("openrouter", "/api/v1", "openrouter.ai"),
            ("vllm", "/v1", "10.0.0.7:8000"),
            ("sglang", "/v1", "10.0.0.7:30000"),
            ("ollama", "/v1", "10.0.0.7:11434"),
        )
    },
    "something/new": ("gemini.generate", False, "/v1/chat/completions api.new-vendor.example"),
    "gpt-5-pro/openai": ("openai.chat", True, "/v1/responses api.openai.com"),
    "gpt-5/azure": ("openai.chat", True, "/openai/v1/chat/completions contoso.openai.azure.com"),
    "gpt-5/azure-versioned": (
        "anthropic.messages",
        True,
        (
            "/openai/deployments/gpt-5-of-ours/chat/completions?api-version=2024-10-21"
            " contoso.openai.azure.com"
        ),
    ),
    "llama/own-ollama": ("ollama.chat", True, "/api/chat 10.0.0.7:11434"),
    "rerank/cohere": ("jina.rerank", False, "/v2/rerank api.cohere.com"),
    "rerank/jina": ("cohere.rerank", False, "/v1/rerank api.jina.ai"),
    "rerank/own-reranker": ("jina.rerank", False, "/v1/rerank 10.0.0.8:8000"),
    "embed/cohere": ("gemini.embeddings", False, "/v2/embed api.cohere.com"),
    "embed/jina": ("ollama.embeddings", False, "/v1/embeddings api.jina.ai"),
    "gemini-embedding-001/gemini": (
        "openai.embeddings",
        False,
        (
            "/v1beta/models/gemini-embedding-001:batchEmbedContents"
            " generativelanguage.googleapis.com"
        ),
    ),
    "gemini-2.5-pro/vertex-google": (
        "openai.chat",
        True,
        (
            "/v1/projects/ours/locations/europe-west4/publishers/google/models/gemini-2.5-pro"
            ":streamGenerateContent?alt=sse europe-west4-aiplatform.googleapis.com"
        ),
    ),
    "claude-sonnet-4-5/vertex-anthropic": (
        "anthropic.messages",
        False,
        (
            "/v1/projects/ours/locations/global/publishers/anthropic/models/"
            "claude-sonnet-4-5@20250929:rawPredict aiplatform.googleapis.com"
        ),
    ),
    "claude/bedrock": (
        "anthropic.messages",
        True,
        (
            "/model/eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream"
            " bedrock-runtime.eu-central-1.amazonaws.com"
        ),
    ),
    "claude/bedrock-role": (
        "openai.responses",
        False,
        (
            "/model/eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse"
            " bedrock-runtime.eu-west-1.amazonaws.com"
        ),
    ),
    "claude/bedrock-signed": (
        "openai.chat",
        False,
        (
            "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse"
            " bedrock-runtime.us-east-1.amazonaws.com"
        ),
    ),
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split()[1])
def test_an_example_leads_to_its_vendor(example: str) -> None:
    """Each deployment of it, in the protocol and under the path that the vendor has."""
    made = compiled(example)
    for token in made.tokens:
        made._token(token).value = b"t"
        made._token(token).key = Credentials("A", "s", "t")
    for name, place in made._places.items():
        word, stream, led = LED_TO[name]
        way = place.ways[ROWS[word]]
        head = ((way.streamed or way) if stream else way).head.write(b"{}").decode()
        path, host = head.split("\r\n")[:2]
        assert f"{path.split()[1]} {host.removeprefix('host: ')}" == led


def test_every_deployment_that_is_expected_stands_on_the_page() -> None:
    """And no other."""
    found = {name for example in EXAMPLES for name in compiled(example)._places}
    assert found == set(LED_TO)


def test_what_can_be_configured_is_spoken() -> None:
    """Each protocol of a provider, and each dialect: by the same words."""
    for protocol in get_args(Protocol):
        spoken = spoken_by(protocol)
        assert spoken.protocol.word == protocol
        assert spoken.targets
        for whole, streamed in spoken.targets.values():
            assert whole.translation is not None
            assert whole.generates == streamed.generates
    assert set(get_args(Dialect)) == {*DIALECTS, "vertex"}


def test_every_caller_reaches_every_provider() -> None:
    """Whoever asks for an answer gets one, in whichever protocol it is asked and served."""
    for protocol in get_args(Protocol):
        spoken = spoken_by(protocol)
        for row in ENDPOINTS:
            if row.generates and "generate" in spoken.targets:
                assert row in spoken.passing or row.translation is not None


def azure(**said: str) -> Place:
    provider = {
        "protocol": "openai",
        "base_url": "https://contoso.openai.azure.com/openai/",
        "api_key": "a-key-of-24-characters..",
    }
    made = live(
        {"m": {"deployments": [{"provider": "azure"}]}}, providers={"azure": provider | said}
    )
    return made._places["m/azure"]


def test_azure_is_asked_by_deployment_or_by_version() -> None:
    """Responses stand beside the deployments; the key goes where Azure looks for it, a token as a bearer."""
    place = azure(api_version="2024-10-21")
    head = place.ways[ROWS["openai.responses"]].head.write(b"").decode()
    assert head.startswith("POST /openai/responses?api-version=2024-10-21 HTTP/1.1")
    head = place.ways[ROWS["openai.embeddings"]].head.write(b"").decode()
    assert head.startswith("POST /openai/deployments/m/embeddings?api-version=2024-10-21 HTTP/1.1")
    assert "api-key: a-key-of-24-characters..\r\n" in head
    assert "authorization" not in head
    head = azure(api_key="eyJhbGciOiJSUzI1NiJ9.e30.x").ways[CHAT].head.write(b"").decode()
    assert "authorization: Bearer eyJhbGciOiJSUzI1NiJ9.e30.x\r\n" in head
    assert place.ways[CHAT].cap_field == "max_completion_tokens"
    assert ROWS["openai.files"] not in place.ways
    assert ROWS["openai.files"] in azure().ways


@pytest.mark.parametrize(
    ("dialect", "word", "path"),
    [
        ("vllm", "openai.responses", "/v1/responses"),
        ("mistral", "openai.responses", "/v1/chat/completions"),
        ("groq", "openai.completions", "/v1/chat/completions"),
        ("mistral", "openai.chat", "/v1/chat/completions"),
    ],
)
def test_what_a_vendor_has_not_got_is_made_of_what_it_has(
    dialect: str, word: str, path: str
) -> None:
    """Translated, by the same core as for callers of other protocols."""
    provider = {"protocol": "openai", "base_url": "https://h.example/v1", "dialect": dialect}
    made = live({"m": {"deployments": [{"provider": "p"}]}}, providers={"p": provider})
    way = made._places["m/p"].ways[ROWS[word]]
    assert way.head.write(b"").decode().split()[1] == path
    assert (way.translation is None) == (
        not path.endswith("chat/completions") or word == "openai.chat"
    )
    assert made._places["m/p"].stream_usage == (dialect != "mistral")


def test_each_vendor_of_the_family_is_asked_in_its_dialect() -> None:
    """Known by its host, or said; the examples have one of each."""
    spoken = {}
    for name, place in compiled(EXAMPLES[0])._places.items():
        translation = place.ways[ROWS["anthropic.messages"]].translation
        assert translation is not None
        spoken[name.partition("/")[2]] = translation.target.dialect.name
    family = set(DIALECTS) - {"azure", "compatible"}
    assert spoken == {name: name for name in family} | {"new": "compatible"}


@pytest.mark.parametrize("dialect", ["openai", "compatible", "azure"])
def test_a_model_of_responses_only_is_asked_nothing_else(dialect: str) -> None:
    """Whatever callers ask for, in any protocol; vectors and the like are none of its business."""
    only = by_responses(spoken_by("openai", dialect))
    for row in ENDPOINTS:
        if row.generates:
            pair = only.passing.get(row) or only.targets["generate"]
            assert {each.word for each in pair} == {"openai.responses"}
    assert only.targets["embed"] == spoken_by("openai", dialect).targets["embed"]
