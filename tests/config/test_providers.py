"""Providers: what is shown to them is known to be secret."""

from config.providers import PROTOCOLS, Provider
from config.secrets import Secret

URL = "https://vendor.example"


def provider(**said: object) -> Provider:
    """Make a provider."""
    return Provider.model_validate({"protocol": "openai", "base_url": URL} | said)


def test_every_credential_is_among_the_secrets() -> None:
    """So that what hides secrets hides all of them."""
    key, secret, token = (Secret(f"{word}-0123456789") for word in ("key", "secret", "token"))
    aws = {"access_key_id": "AKIA", "secret_access_key": secret}
    assert list(provider().secrets()) == []
    assert list(provider(api_key=key).secrets()) == [key]
    assert list(provider(protocol="bedrock", aws=aws).secrets()) == [secret]
    assert list(provider(api_key=key, aws=aws | {"session_token": token}).secrets()) == [
        key,
        secret,
        token,
    ]


def test_every_protocol_can_be_declared() -> None:
    """The list that others read is the one that the section takes."""
    assert [provider(protocol=name).protocol for name in PROTOCOLS] == list(PROTOCOLS)
