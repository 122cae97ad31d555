"""Prompts that begin alike go together, those that do not spread, and few move when a deployment comes or goes."""

from collections import Counter
from random import Random

from routing.affinity import PREFIX_BYTES, favourite, prefix_hash

PLACES = [f"model/vendor-{n}" for n in range(5)]


def prefixes(count: int = 5000) -> list[int]:
    draw = Random(7)
    return [prefix_hash(draw.randbytes(64), 0) for _ in range(count)]


def test_what_begins_alike_is_led_to_one_place() -> None:
    """Whatever follows after the first four KiB, and whatever stands before the prompt."""
    begin = b"x" * PREFIX_BYTES
    one, two = prefix_hash(b"{}" + begin + b"a", 2), prefix_hash(b"{....}" + begin + b"bc", 6)
    assert one == two
    assert favourite(one, PLACES) == favourite(two, PLACES)


def test_prefixes_spread_evenly() -> None:
    """Each of five places gets a fifth, within what chance allows."""
    shares = Counter(favourite(prefix, PLACES) for prefix in prefixes())
    assert len(shares) == 5
    assert all(850 <= share <= 1150 for share in shares.values())


def test_pairs_of_deployments_share_evenly_too() -> None:
    """Also two whose names differ in one character."""
    for other in ("m/a#2", "m/b", "n/a"):
        shares = Counter(favourite(prefix, ["m/a", other]) for prefix in prefixes())
        assert all(2300 <= share <= 2700 for share in shares.values()), other


def test_only_what_was_led_to_a_place_moves_when_it_goes() -> None:
    """All others keep their warm caches."""
    rest = PLACES[:-1]
    for prefix in prefixes(1000):
        before = favourite(prefix, PLACES)
        if before < len(rest):
            assert favourite(prefix, rest) == before
