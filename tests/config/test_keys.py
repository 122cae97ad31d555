"""Laws of key hashes: without the secret they are worth nothing, and a wrong secret is found, not felt."""

import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config.document import compose
from config.keys import VARIABLE, BadKeySecret, KeySecrets, key_secret, with_key_secret
from config.loader import ConfigError, former_documents, load_published, load_text, rekeyed
from config.secrets import hash_key

KEY = "sk-pen-the-key-of-somebody"
ONE, TWO = "a-secret-of-the-tests-0123456789-1", "a-secret-of-the-tests-0123456789-2"
DOCUMENT = f"""
providers: {{p: {{protocol: openai, base_url: "http://127.0.0.1:9/v1", api_key: "${{VENDOR}}"}}}}
models: {{m: {{deployments: [{{provider: p}}]}}}}
organizations: {{o: {{teams: {{t: {{keys: {{k: {{key: {KEY}}}}}}}}}}}}}
"""
ENVIRON = {"VENDOR": "sk-of-the-vendor"}


def hash_in(document: str) -> str:
    """Read the one hash of a document."""
    root, _ = compose(document)
    assert root is not None
    found = root.get("organizations", "o", "teams", "t", "keys", "k", "key")
    assert found is not None
    return found.raw


def said(*secrets: str) -> dict[str, str]:
    """Say secrets as the environment does."""
    return {**ENVIRON, VARIABLE: ",".join(secrets)}


def test_a_hash_is_the_hmac_of_the_keys_digest() -> None:
    """RFC 2104 with SHA-256; what tells whose secret it was tells nothing of the secret."""
    secrets = KeySecrets([ONE])
    digest = hashlib.sha256(KEY.encode()).digest()
    tag = hmac.new(ONE.encode(), digest, "sha256").hexdigest()
    assert secrets.keyed(hash_key(KEY)) == f"hmac-sha256:{secrets.id}:{tag}"
    assert secrets.keyed(secrets.keyed(hash_key(KEY))) == f"hmac-sha256:{secrets.id}:{tag}"
    assert KeySecrets([TWO]).keyed(hash_key(KEY)) != secrets.keyed(hash_key(KEY))
    assert ONE not in repr(secrets)
    assert secrets.id in repr(secrets)


@pytest.mark.parametrize(
    "text", ["short", "x" * 31, "a space in it is not good at all 0123456789", ","]
)
def test_an_unfit_secret_is_refused_without_showing_it(text: str) -> None:
    """Whoever starts the process is told what a good one is."""
    with pytest.raises(BadKeySecret) as error:
        KeySecrets.said({VARIABLE: text})
    assert text == "," or text not in str(error.value)
    with pytest.raises(ConfigError, match="at least 32 visible characters"):
        load_text(DOCUMENT, source="test", environ={**ENVIRON, VARIABLE: text})


def test_what_is_published_is_keyed_however_the_key_was_written() -> None:
    """In clear, as its digest, or as it was exported; without a secret the digest is all there is."""
    clear = load_text(DOCUMENT, source="test", environ=said(ONE))
    assert clear.key_id == KeySecrets([ONE]).id
    assert hash_in(clear.document) == KeySecrets([ONE]).keyed(hash_key(KEY))
    for written in (hash_key(KEY), hash_in(clear.document)):
        again = load_text(DOCUMENT.replace(KEY, f'"{written}"'), source="test", environ=said(ONE))
        assert again.document == clear.document
    bare = load_text(DOCUMENT, source="test", environ=ENVIRON)
    assert (bare.key_id, hash_in(bare.document)) == ("", hash_key(KEY))
    assert rekeyed(bare.document, KeySecrets([ONE])) == clear.document
    assert rekeyed(clear.document, KeySecrets([TWO])) == clear.document


def test_a_hash_of_another_secret_is_a_mistake_with_a_remedy() -> None:
    """Not a key that nobody can ever present."""
    other = load_text(DOCUMENT, source="test", environ=said(TWO)).document
    with pytest.raises(ConfigError) as error:
        load_published(other, said(ONE))
    (problem,) = error.value.problems
    assert problem.path == "organizations.o.teams.t.keys.k.key"
    assert KeySecrets([TWO]).id in problem.message
    assert VARIABLE in problem.remedy
    load_published(other, said(ONE, TWO))
    load_text(other, source="test", environ=ENVIRON)  # who only checks needs no secret


def test_the_same_key_twice_is_found_in_whatever_form() -> None:
    """In clear at one caller and as a keyed hash at another."""
    twin = KeySecrets([ONE]).keyed(hash_key(KEY))
    text = DOCUMENT.replace(f"k: {{key: {KEY}}}", f"k: {{key: {KEY}}}, l: {{key: '{twin}'}}")
    with pytest.raises(ConfigError, match="the same key as organizations"):
        load_text(text, source="test", environ=said(ONE))


def test_the_secret_is_no_variable_to_refer_to() -> None:
    """Else a header could carry it away."""
    text = DOCUMENT.replace("${VENDOR}", f"${{{VARIABLE}}}")
    with pytest.raises(ConfigError, match=f"{VARIABLE} is not set"):
        load_text(text, source="test", environ=said(ONE))


def test_a_file_is_known_again_after_its_hashes_were_keyed(tmp_path: Path) -> None:
    """As it was published without a secret, and with each one that is still here."""
    file = tmp_path / "penstock.yaml"
    file.write_text(DOCUMENT)
    bare = load_text(DOCUMENT, source="test", environ=ENVIRON).document
    before = load_text(DOCUMENT, source="test", environ=said(TWO)).document
    assert former_documents(file, said(ONE, TWO)) == [bare, before]
    assert former_documents(file, said(ONE)) == [bare]
    file.write_text("organizations: 5")
    assert former_documents(file, said(ONE)) == []


# The file...


def test_the_first_start_makes_a_secret_for_its_owner_alone(tmp_path: Path) -> None:
    """And the next ones find it; the environment goes before it."""
    file = tmp_path / "var" / "key-secret"
    with pytest.raises(BadKeySecret, match="there is no key secret"):
        key_secret({}, file, make=False)
    assert not file.parent.exists()
    made = key_secret({}, file, make=True)
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(made) >= 43
    assert key_secret({}, file, make=False) == key_secret({}, file, make=True) == made
    assert with_key_secret({"A": "b"}, file, make=False) == {"A": "b", VARIABLE: made}
    assert key_secret({VARIABLE: ONE}, file, make=True) == ONE
    assert list(file.parent.iterdir()) == [file]


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """With the command that mends it; so is one that is empty or no text."""
    file = tmp_path / "key-secret"
    file.write_text(ONE)
    file.chmod(0o640)
    with pytest.raises(BadKeySecret, match="chmod 600"):
        key_secret({}, file, make=True)
    for content in (b"", b"\n", b"\xff\xfe"):
        file.write_bytes(content)
        file.chmod(0o600)
        with pytest.raises(BadKeySecret):
            key_secret({}, file, make=True)


def test_processes_that_start_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    """Whoever comes second takes what the first one made."""
    file = tmp_path / "key-secret"
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: key_secret({}, file, make=True), range(32)))
    assert len(found) == 1
    assert list(tmp_path.iterdir()) == [file]


def test_a_place_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    """With the variable that needs no file."""
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(BadKeySecret, match=f"set {VARIABLE} instead"):
        key_secret({}, tmp_path / "file" / "key-secret", make=True)
    with pytest.raises(BadKeySecret, match=f"set {VARIABLE} instead"):
        key_secret({}, tmp_path, make=False)
