"""
The retry budget of one edge: second tries are a share of first ones, so that an outage is not answered with more load.

Of the last ten seconds at most `ratio` retries are made per request, but always a few, so that a quiet edge can retry at all
(Finagle's retry budget, https://finagle.github.io/blog/2016/02/08/retry-budgets/: 20 % and 10 s are its defaults).
Shares add up: edges that keep it each keep it together.

Pure: the clock is the caller's, in seconds.
"""

from typing import Final

WINDOW_S: Final = 10
# So many retries are always made in a window: a quiet edge has no share to speak of.
LEAST: Final = 10
# And so many second attempts beside a first one.
LEAST_HEDGES: Final = 1


class RetryBudget:
    """Counts requests and retries by seconds; forgets what is older than the window."""

    __slots__ = (
        "_least",
        "_requests",
        "_retries",
        "_second",
        "made",
        "refused",
        "requests",
        "retries",
    )

    def __init__(self, least: int = LEAST) -> None:
        """`least` are made in any window, however few requests there are."""
        self._least = least
        self._requests = [0] * WINDOW_S
        self._retries = [0] * WINDOW_S
        self._second = 0
        # Sums over the window.
        self.requests = 0
        self.retries = 0
        # Since the beginning.
        self.made = 0
        self.refused = 0

    def count(self, now: float) -> None:
        """Take that a request makes its first attempt."""
        second = int(now)
        if second != self._second:
            self._turn(second)
        self._requests[second % WINDOW_S] += 1
        self.requests += 1

    def take(self, now: float, ratio: float) -> bool:
        """Take one retry of the budget; false when it is used up."""
        second = int(now)
        if second != self._second:
            self._turn(second)
        if self.retries + 1 > max(ratio * self.requests, self._least if ratio > 0 else 0):
            self.refused += 1
            return False
        self._retries[second % WINDOW_S] += 1
        self.retries += 1
        self.made += 1
        return True

    def _turn(self, second: int) -> None:
        """Empty the places of the seconds that have passed."""
        for passed in range(max(self._second + 1, second - WINDOW_S + 1), second + 1):
            place = passed % WINDOW_S
            self.requests -= self._requests[place]
            self.retries -= self._retries[place]
            self._requests[place] = self._retries[place] = 0
        self._second = second
