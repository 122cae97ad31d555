"""What the store tells of a deployment's health is read back as it was written."""

import pytest

from ratelimit.health import RAMP_US, WELL, KindHealth, decode_health
from ratelimit.limits import deployment_key
from tests.ratelimit.cell import Cell
from tests.ratelimit.drive import NOW, Drive
from tests.ratelimit.oracle import SECOND


def test_what_is_well_has_nothing_to_tell() -> None:
    """A deployment that never failed has no such field."""
    assert decode_health(None) is WELL
    assert WELL.state(NOW) == "closed"


def test_a_broken_deployment_tells_which_kind_broke_and_what_is_left(cell: Cell) -> None:
    """As the script wrote it: three streams failed, then one was answered with what its vendor lets pass."""
    drive = Drive(cell)
    for n in range(4):
        ask = drive.ask(kind=2 if n < 3 else 1)
        drive.send(ask)
        left = (7, SECOND, -1, 0) if n == 3 else None
        drive.settle(drive.truth(ask, health=2 if n < 3 else 1, kind=ask.kind, left=left))
    health = decode_health(cell.client.hget(deployment_key("d1"), "h"))
    assert list(health.kinds) == ["stream"]
    assert health.kinds["stream"].open_until_us == NOW + SECOND
    assert (health.state(NOW), health.state(NOW + SECOND)) == ("open", "half_open")
    assert health.left == {"requests": (7, NOW + SECOND)}
    assert (health.probe, health.offline_until_us) == ("", 0)


@pytest.mark.parametrize(
    ("openings", "until", "closed", "word"),
    [
        (0, 0, 0, "closed"),
        (1, NOW + 1, 0, "open"),
        (1, NOW, 0, "half_open"),
        (2, NOW - 9, NOW - 1, "returning"),
        (2, NOW - 9, NOW - RAMP_US, "closed"),
    ],
)
def test_each_state_of_a_breaker_has_its_word(
    openings: int, until: int, closed: int, word: str
) -> None:
    """The words that operators read."""
    assert KindHealth(0, 0, 0, 0, openings, 0, until, closed).state(NOW) == word
