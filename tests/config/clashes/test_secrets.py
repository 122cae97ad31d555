"""Secrets in clear: told of wherever they may stand, unless they are references."""

from tests.config.slips import said


def test_a_secret_is_in_clear_unless_it_is_made_of_references() -> None:
    """Schemes may stand before a reference; defaults are in the file; a hash is no secret."""
    for written, is_warned in (
        ("${KEY}", False),
        ("${KEY:-}", False),
        ("${KEY}${KEY}", False),
        ("Token ${KEY}", False),
        ("${KEY:-abc}", True),
        ("abc", True),
        ("abc${KEY}", True),
    ):
        provider = "p: {protocol: openai, base_url: http://h}"
        found = said(provider, f"{provider[:-1]}, headers: {{x-api-key: '{written}'}}}}")
        assert ("a secret in clear" in "".join(found)) == is_warned
        assert len(found) == is_warned
