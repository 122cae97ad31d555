"""What the configuration says of a vendor: its dialect, how a key is shown to it, whether a probe can ask it."""

import pytest

from config.vendors import credential_of, why_unprobed, word_of


@pytest.mark.parametrize(
    ("host", "word"),
    [
        ("aiplatform.googleapis.com", "vertex"),
        ("europe-west4-aiplatform.googleapis.com", "vertex"),
        ("aiplatform.eu.rep.googleapis.com", "compatible"),
        ("notaiplatform.googleapis.com", "compatible"),
        ("generativelanguage.googleapis.com", "compatible"),
        ("contoso.openai.azure.com", "azure"),
    ],
)
def test_a_host_tells_its_platform(host: str, word: str) -> None:
    """By whole labels."""
    assert word_of(host) == word


@pytest.mark.parametrize(
    ("protocol", "dialect", "key", "name"),
    [
        ("openai", "openai", "sk-1", "authorization"),
        ("openai", "azure", "key", "api-key"),
        ("openai", "azure", "eyJ0", "authorization"),
        ("anthropic", "compatible", "sk-ant-api03", "x-api-key"),
        ("anthropic", "azure", "key", "x-api-key"),
        ("anthropic", "compatible", "sk-ant-oat01", "authorization"),
        ("anthropic", "vertex", "key", "authorization"),
        ("gemini", "vertex", "AIza", "x-goog-api-key"),
        ("gemini", "compatible", "ya29.a", "authorization"),
        ("bedrock", "compatible", "key", "authorization"),
    ],
)
def test_a_key_is_shown_as_a_vendor_looks_for_it(
    protocol: str, dialect: str, key: str, name: str
) -> None:
    """In one header; a token is a bearer's everywhere."""
    shown = f"Bearer {key}" if name == "authorization" else key
    assert credential_of(protocol, dialect)(key) == (name, shown)


@pytest.mark.parametrize(
    ("protocol", "dialect", "with_token", "why"),
    [
        ("openai", "compatible", False, ""),
        ("openai", "azure", False, ""),
        ("openai", "azure", True, "token"),
        ("anthropic", "vertex", False, "Vertex AI"),
        ("gemini", "vertex", False, "Vertex AI"),
        ("bedrock", "compatible", False, "bedrock"),
        ("cohere", "compatible", False, "cohere"),
    ],
)
def test_who_cannot_be_asked_by_a_probe_is_told_why(
    protocol: str, dialect: str, *, with_token: bool, why: str
) -> None:
    """It is the edges that know what to say there."""
    found = why_unprobed(protocol, dialect, with_token=with_token)
    assert why in found
    assert bool(why) == bool(found)
