"""Laws of `penstock providers`: what is there, how much it serves, and no secret."""

from typing import Any

from tests.console.command_rig import typed

Api = Any  # the fixtures of this folder's conftest


async def test_providers_are_listed_without_their_keys(operator: Api) -> None:
    """A reference is shown, a key is a mask."""
    ended = await typed("providers")
    assert ended.code == 0
    lines = [line.split() for line in ended.out.splitlines()[1:]]
    assert lines == [
        ["alpha", "openai", "http://127.0.0.1:9", "${VENDOR_KEY}", "1"],
        ["beta", "openai", "http://127.0.0.1:9/v1", "***", "2"],
    ]
    assert (await typed("providers --json")).json["sections"]["beta"]["api_key"] == "***"
    assert (await typed("providers alpha")).code == 2
