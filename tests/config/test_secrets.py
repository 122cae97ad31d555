"""Secrets: what can be shown of them is nothing, and what is kept of a caller's key is its hash."""

import copy
import hashlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from config.processes import AdminSettings
from config.providers import Provider
from config.scalars import Plain
from config.secrets import (
    Secret,
    hash_key,
    is_hashed,
    read_caller_key,
    read_secret,
    read_shared_secret,
)
from config.tenants import Key

VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=16, max_size=64)


@given(VISIBLE)
def test_a_secret_shows_three_stars(text: str) -> None:
    """In every way in which Python writes a value out."""
    secret = Secret(text)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>5}", f"{secret!r}", "%s" % secret]  # noqa: UP031
    assert {each.strip() for each in shown} == {"***"}
    assert "***" in repr([secret])
    assert secret.reveal() == text


@given(VISIBLE, VISIBLE)
def test_secrets_compare_by_what_they_hold(one: str, other: str) -> None:
    """Equal texts are equal secrets, in sets and dictionaries too; a text is no secret."""
    assert (Secret(one) == Secret(other)) == (one == other)
    assert len({Secret(one), Secret(one), Secret(other)}) == len({one, other})
    assert Secret(one) != one
    assert copy.deepcopy(Secret(one)) == copy.copy(Secret(one)) == Secret(one)


def test_a_secret_is_not_pickled() -> None:
    """A pickle would hold it in clear, unseen."""
    with pytest.raises(TypeError, match="written out in clear"):
        pickle.dumps(Secret("x"))


def test_models_keep_secrets_to_themselves() -> None:
    """In the repr of a section, in its JSON, and in the errors about its neighbours."""
    provider = Provider(protocol="openai", base_url="http://h", api_key=Secret("hush"))
    assert "hush" not in repr(provider)
    assert '"api_key":"***"' in provider.model_dump_json()
    assert provider.api_key == Secret("hush")
    with pytest.raises(ValidationError) as caught:
        Provider.model_validate({"protocol": "x", "api_key": "hush", "headers": {"a": "hush\n"}})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "a b", "a\n", "\ta", "ä", "a\x00", "a\x7f", "a" * 4097, Plain("")]
)
def test_a_secret_fits_into_a_header(text: str) -> None:
    """The line break at the end of a secret from a file is found, not sent."""
    with pytest.raises(PydanticCustomError):
        read_secret(text)
    assert read_secret(Plain("sk-1")).reveal() == "sk-1"


def test_what_others_present_is_long_enough() -> None:
    """Sixteen characters for the admin token and for callers' keys; for vendors' keys any."""
    assert read_shared_secret("a" * 16).reveal() == "a" * 16
    for read in (read_shared_secret, read_caller_key):
        with pytest.raises(PydanticCustomError, match="at least 16 characters"):
            read("a" * 15)
    with pytest.raises(ValidationError):
        AdminSettings.model_validate({"token": "short"})
    assert read_secret("a").reveal() == "a"


@given(VISIBLE)
def test_of_a_callers_key_the_hash_is_kept(text: str) -> None:
    """The two forms are the same key, and reading again changes nothing."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    if is_hashed(text):
        return
    in_clear = Key(key=Secret(text))
    assert in_clear.key.reveal() == hash_key(text) == f"sha256:{digest}"
    assert Key(key=Secret(f"SHA256:{digest.upper()}")) == in_clear
    assert Key(key=in_clear.key) == in_clear
    keyed = f"hmac-sha256:0123abcd:{digest}"
    assert Key(key=Secret(keyed.upper())).key.reveal() == keyed


@pytest.mark.parametrize(
    "text",
    [
        "sha256:",
        "sha256:abc",
        "sha256:" + "g" * 64,
        "SHA256:" + "a" * 65,
        "hmac-sha256:" + "a" * 64,
    ],
)
def test_a_hash_is_whole_or_refused(text: str) -> None:
    """What begins like a hash is never taken for a key in clear."""
    with pytest.raises(PydanticCustomError, match="64 hexadecimal digits"):
        read_caller_key(text)


def test_a_secret_is_a_text() -> None:
    """Anything else is refused, without a word about what it was."""

    class Holder(BaseModel):
        secret: Secret

    for value in (5, None, ["hush"], {"hush": 1}, b"hush"):
        with pytest.raises(ValidationError, match="expected a text"):
            Holder.model_validate({"secret": value})
