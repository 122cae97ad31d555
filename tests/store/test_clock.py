"""The store's clock: the server's own, counted by the scripts from where their calendar begins."""

import re
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis

from store import clock, scripts


async def test_it_is_the_servers(redis_client: Redis) -> None:
    """To the microsecond, in either form."""
    before = await redis_client.time()
    us, at = await clock.now_us(redis_client), await clock.now(redis_client)
    after = await redis_client.time()
    assert before <= divmod(us, 1_000_000) <= after
    unix = datetime(1970, 1, 1, tzinfo=UTC)
    assert unix + timedelta(microseconds=us) <= at
    assert before <= divmod((at - unix) // timedelta(microseconds=1), 1_000_000) <= after


def test_the_scripts_begin_where_we_do() -> None:
    """A Monday and the first of a quarter, by the same number everywhere."""
    unix = datetime(1970, 1, 1, tzinfo=UTC)
    assert (clock.EPOCH - unix) // timedelta(microseconds=1) == clock.EPOCH_US
    assert (clock.EPOCH.isoweekday(), clock.EPOCH.month, clock.EPOCH.day) == (1, 1, 1)
    for package, name in (("ratelimit", "admit"), ("ratelimit", "settle"), ("routing", "teach")):
        begins = re.findall(r"\b17\d{8}\b", scripts.load(package, name).text)
        assert {int(each) * 1_000_000 for each in begins} == {clock.EPOCH_US}, name
