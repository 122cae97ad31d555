"""Laws of `penstock deployment`: load is led elsewhere at the next admission, and back again."""

from typing import Any

import msgpack
import pytest

from ratelimit.limits import deployment_key
from tests.console.command_rig import typed

Api = Any  # the fixtures of this folder's conftest


async def test_a_deployment_is_drained_weighed_and_taken_back(operator: Api) -> None:
    """The store knows before the command ends."""
    for words, weight, drained in (
        ("deployment drain demo/beta", 3, 1),
        ("deployment weight demo/beta 7", 7, 1),
        ("deployment undrain demo/beta", 7, 0),
    ):
        ended = await typed(words)
        assert ended.code == 0, ended.err
        packed = await operator.redis.hget(deployment_key("demo/beta"), "l2")
        assert msgpack.unpackb(packed, raw=True)[3:5] == [weight, drained]
    listed = await typed("deployment list")
    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == [
        "demo/alpha",
        "demo/beta",
        "spare",
    ]
    assert (await typed("deployment list --json")).json["deployments"][2]["drained"] is True


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("deployment weight demo/beta 0", 2),
        ("deployment weight demo/beta 1001", 2),
        ("deployment weight demo/beta many", 2),
        ("deployment weight demo/beta", 2),
        ("deployment drain demo/gamma", 2),
        ("deployment drain demo/beta --expected 4", 2),
        ("deployment", 2),
    ],
)
async def test_a_bad_request_changes_nothing(operator: Api, words: str, code: int) -> None:
    """Wrong number, unknown deployment, stale version."""
    before = await operator.everything()
    ended = await typed(words)
    assert (ended.code, ended.out) == (code, "")
    assert await operator.everything() == before
