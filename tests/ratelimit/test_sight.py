"""What a replica has seen of its deployments: the average follows, failures lead to rest, the vendor is taken at its word."""

from ratelimit.sight import (
    FAILED,
    FAILURE_US,
    FINE,
    MOST_REST_US,
    PATIENCE,
    REST_US,
    THROTTLED,
    Sight,
)

SECOND = 1_000_000


def test_nothing_is_known_of_a_deployment_that_was_not_used() -> None:
    """Zero everywhere, and nothing is made by asking."""
    sight = Sight()
    assert (sight.latency_us("d"), sight.rests_us("d", 5), sight.throttled_us("d", 5)) == (0, 0, 0)


def test_the_average_follows_what_is_seen() -> None:
    """The first sample stands; what is old weighs little; a settlement without a first byte says nothing."""
    sight = Sight()
    sight.learn("d", 0, FINE, 1000, 0)
    assert sight.latency_us("d") == 1000
    sight.learn("d", 60 * SECOND, FINE, 5000, 0)
    assert 4900 < sight.latency_us("d") < 5000
    sight.learn("d", 60 * SECOND, FINE, 0, 0)
    assert 4900 < sight.latency_us("d") < 5000
    for _ in range(100):
        sight.learn("d", 60 * SECOND, FINE, 1000, 0)
    assert 999 < sight.latency_us("d") < 1001


def test_failures_in_a_row_lead_to_a_rest() -> None:
    """One success begins the count anew; failing fast does not make a deployment look quick."""
    sight = Sight()
    for _ in range(PATIENCE - 1):
        sight.learn("d", 0, FAILED, 10, 0)
    sight.learn("d", 0, FINE, 10, 0)
    for _ in range(PATIENCE - 1):
        sight.learn("d", 0, FAILED, 10, 0)
    assert sight.rests_us("d", 0) == 0
    assert sight.latency_us("d") > FAILURE_US / 10
    sight.learn("d", 0, FAILED, 10, 0)
    assert sight.rests_us("d", 0) == REST_US
    assert sight.rests_us("d", REST_US) == 0


def test_a_vendor_is_taken_at_its_word_within_an_hour() -> None:
    """Its wish is kept to, a shorter one does not shorten it, and none may last for ever."""
    sight = Sight()
    sight.learn("d", 0, THROTTLED, 0, 0)
    assert sight.throttled_us("d", 0) == REST_US
    sight.learn("d", 0, THROTTLED, 0, 30 * SECOND)
    sight.learn("d", 0, FINE, 100, 20 * SECOND)
    assert sight.throttled_us("d", SECOND) == 29 * SECOND
    sight.learn("d", 0, THROTTLED, 0, 10 * MOST_REST_US)
    assert sight.throttled_us("d", 0) == MOST_REST_US
