"""What a probe asks is what an edge would ask, and an answer says whether somebody is there."""

import json
from typing import Any

import pytest

from config.dialects import DIALECTS
from config.loader import load_published, load_text
from config.providers import Provider
from console.probe_requests import call_of, judged, list_of, probe_of, used
from proxy.wire.endpoints import ENDPOINTS
from tests.proxy.test_live import live

KEY = "sk-probe-0123456789abcdef"


def provider(**said: Any) -> Provider:
    text = json.dumps({"providers": {"v": {"base_url": "http://127.0.0.1:9"} | said}})
    loaded = load_text(text, source="test", environ={})
    return load_published(loaded.document, {}).providers["v"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("models", {"protocol": "openai"}),
        ("models", {"protocol": "openai", "dialect": "azure"}),
        ("models", {"protocol": "openai", "dialect": "azure", "api_version": "2024-10-21"}),
        ("connect", {"protocol": "openai", "token": {"file": "/x"}}),
        ("connect", {"protocol": "anthropic", "dialect": "vertex"}),
        ("connect", {"protocol": "gemini", "base_url": "https://aiplatform.googleapis.com/v1"}),
        ("connect", {"protocol": "bedrock", "api_key": KEY}),
        ("connect", {"protocol": "cohere"}),
        ("off", {"protocol": "cohere", "health": {"probe": "off"}}),
    ],
)
def test_whom_a_probe_cannot_ask_it_only_connects_to(how: str, said: dict[str, Any]) -> None:
    """Unless it says otherwise, no probe spends anything, or asks what the vendor has not got."""
    assert probe_of(provider(**said)) == how


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        *(("openai", {"dialect": dialect}) for dialect in DIALECTS),
        *(
            ("openai", {"base_url": f"https://{host}/openai/v1"})
            for host in ("api.groq.com", "o.openai.azure.com", "o.services.ai.azure.com", "h")
        ),
        ("openai", {"output_cap": "max_completion_tokens"}),
        ("openai", {"dialect": "azure", "api_version": "2024-10-21", "base_url": "https://h"}),
        ("openai", {"dialect": "azure", "api_version": "v", "base_url": "https://h/openai"}),
        ("anthropic", {"api_key": "sk-ant-oat01-0123456789"}),
        ("anthropic", {"base_url": "https://o.services.ai.azure.com/anthropic/v1"}),
        ("gemini", {"api_key": "ya29.0123456789abcdef"}),
        ("gemini", {"base_url": "https://generativelanguage.googleapis.com/v1beta"}),
    ],
)
def test_a_call_is_made_as_an_edge_makes_it(protocol: str, said: dict[str, Any]) -> None:
    """The same path, the same header for the key, and the field for an output cap that it would write."""
    made = {"protocol": protocol, "base_url": "https://h/v1", "api_key": KEY} | said
    word = {"openai": "openai.chat", "anthropic": "anthropic.messages"}
    row = next(each for each in ENDPOINTS if each.word == word.get(protocol, "gemini.generate"))
    place = live({"m": {"deployments": [{"provider": "v"}]}}, providers={"v": made})._places["m/v"]
    way = place.ways[row]
    line, *lines = way.head.write(b"").decode().split("\r\n")
    asked = call_of(provider(**made), "m")
    assert asked.url.removeprefix("https://").partition("/")[2] == line.split()[1][1:]
    names = {"authorization", "x-api-key", "api-key", "x-goog-api-key"}
    theirs = {name: value for name, _, value in (each.partition(": ") for each in lines)}
    assert {n: v for n, v in asked.headers.items() if n in names} == {
        n: v for n, v in theirs.items() if n in names
    }
    if protocol != "gemini":
        assert way.cap_field in json.loads(asked.body or b"")


def test_azures_older_api_lists_its_models_under_a_version() -> None:
    """Beside the deployments, and not below one."""
    old = provider(
        protocol="openai", base_url="https://h", dialect="azure", api_version="2024-10-21"
    )
    assert list_of(old).url == "https://h/openai/models?api-version=2024-10-21"


def test_a_model_of_responses_only_is_called_there() -> None:
    """It knows no chat completions; nothing of it is kept."""
    asked = call_of(provider(protocol="openai", base_url="https://h/v1"), "m", responses_only=True)
    assert asked.url == "https://h/v1/responses"
    said = json.loads(asked.body or b"")
    assert (said["model"], said["store"], said["max_output_tokens"]) == ("m", False, 16)


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"usage": {"prompt_tokens": 7, "completion_tokens": 3}}', (7, 3)),
        (b'{"usage": {"input_tokens": 7, "output_tokens": 3}}', (7, 3)),
        (b'{"usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3}}', (7, 3)),
        (b'{"usage": {"prompt_tokens": -1, "completion_tokens": "many"}}', (0, 0)),
        (b'{"usage": 7}', (0, 0)),
        (b"[]", (0, 0)),
        (b"nothing", (0, 0)),
    ],
)
def test_what_a_call_used_is_read_in_the_words_of_any_protocol(
    body: bytes, tokens: tuple[int, int]
) -> None:
    """Nothing where nothing is said, or nonsense."""
    found = used(body)
    assert (found.input_tokens, found.output_tokens) == tokens


@pytest.mark.parametrize(
    ("status", "called", "listed"),
    [
        (200, True, True),
        (400, False, True),
        (401, False, True),
        (404, False, True),
        (429, True, True),
        (500, False, False),
        (529, True, True),
    ],
)
def test_somebody_who_answers_is_there_and_a_call_has_to_be_answered(
    status: int, called: bool, listed: bool
) -> None:
    """A key may well call models and not list them; who is at its limit is there."""
    assert judged(status, listed=False)[0] is called
    assert judged(status, listed=True)[0] is listed
