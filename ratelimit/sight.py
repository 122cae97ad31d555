"""
What this replica has seen of each deployment: latency, failures, and what the vendor asked for.

While the store answers, the choice among deployments is the store's, on what all replicas know.
This view is fed by the replica's own settlements, and is looked at only when the store is away.
Its rule is a plain one: an average that follows within seconds, three failures in a row, the vendor's word.
"""

from math import exp

# The average forgets with this time constant.
TAU_US = 10_000_000
# A failure weighs like an answer this slow, so that failing fast attracts nobody.
FAILURE_US = 5_000_000
# So many failures in a row, and a deployment is left alone for a while.
PATIENCE = 3
REST_US = 5_000_000
# The longest that a vendor is taken at its word.
MOST_REST_US = 3_600_000_000

FINE, FAILED, THROTTLED, ABSENT = 1, 2, 3, 4


class _View:
    """One deployment, as seen from here; times in monotonic us."""

    __slots__ = ("at_us", "failures", "latency_us", "rests_until_us", "throttled_until_us")

    def __init__(self) -> None:
        self.latency_us = 0.0
        self.at_us = 0
        self.failures = 0
        self.rests_until_us = 0
        self.throttled_until_us = 0


class Sight:
    """The deployments that this replica has used."""

    def __init__(self) -> None:
        self._views: dict[str, _View] = {}

    def learn(self, deployment: str, now_us: int, health: int, ttft_us: int, cool_us: int) -> None:
        """Take what an attempt has shown; `health` is as in a settlement: 0 nothing, 1 fine, 2 failed, 3 throttled, 4 nobody is there."""
        view = self._views.get(deployment)
        if view is None:
            view = self._views[deployment] = _View()
        if health == FINE:
            view.failures = 0
            if ttft_us > 0:
                self._average(view, now_us, ttft_us)
        elif health in {FAILED, ABSENT}:
            self._average(view, now_us, FAILURE_US)
            view.failures += 1
            if view.failures >= PATIENCE:
                view.rests_until_us = now_us + REST_US
        if health == THROTTLED and cool_us < REST_US:
            cool_us = REST_US
        if cool_us > 0:
            view.throttled_until_us = max(
                view.throttled_until_us, now_us + min(cool_us, MOST_REST_US)
            )

    def _average(self, view: _View, now_us: int, sample_us: int) -> None:
        keep = exp(-max(now_us - view.at_us, 0) / TAU_US) if view.latency_us else 0.0
        # Many samples per time constant: each weighs at least a little.
        keep = min(keep, 0.9)
        view.latency_us = view.latency_us * keep + sample_us * (1 - keep)
        view.at_us = now_us

    def latency_us(self, deployment: str) -> float:
        """Return how long its first byte takes, 0 when nothing is known."""
        view = self._views.get(deployment)
        return 0.0 if view is None else view.latency_us

    def rests_us(self, deployment: str, now_us: int) -> int:
        """Return for how long it is left alone because it was failing."""
        view = self._views.get(deployment)
        return 0 if view is None else max(view.rests_until_us - now_us, 0)

    def throttled_us(self, deployment: str, now_us: int) -> int:
        """Return for how long its vendor asked to be left alone."""
        view = self._views.get(deployment)
        return 0 if view is None else max(view.throttled_until_us - now_us, 0)
