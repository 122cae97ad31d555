"""
What a scope is granted and what it holds right now, for people.

What is granted comes from the live document, what is held from the store's counters, read at the
store's own time. The arithmetic is that of `lua/gcra.lua` and `governance/lua/budget.lua`: a rate
is a bucket, a period ends by the calendar of its time zone.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from config.scalars import moment_of
from governance.periods import NEVER_US, period_of
from governance.usage import usd
from ratelimit.limits import KINDS, RATES, RateState, ScopeState, depth_us
from store.clock import EPOCH

__all__ = ["period_ids", "quota"]

NANO = 10**9


def period_ids(at: datetime, time_zone: str = "UTC") -> dict[str, int]:
    """Return the ids of the periods that hold a moment in a time zone, as the scripts count them."""
    day = at.astimezone(ZoneInfo(time_zone)).date()
    days = (day - EPOCH.date()).days
    return {
        "day": days + 1,
        "week": days // 7 + 1,
        "month": day.year * 12 + day.month,
        "quarter": day.year * 4 + (day.month + 2) // 3,
        "total": 1,
    }


def quota(
    scope: str,
    settings: dict[str, Any],
    state: ScopeState | None,
    at: datetime,
    time_zone: str = "UTC",
) -> dict[str, Any]:
    """
    Return what a scope may and holds; `settings` is its section, `state` None where the store knows none.

    `time_zone` is that of budgets that do not say theirs.
    A limit that nothing was taken from yet is whole; one that cannot be read here (its variable is not
    set where the control runs) is left out.
    """
    in_flight = 0 if state is None else state.in_flight
    said = settings.get("limits") or {}
    bursts = said.get("burst") or {}
    limits: dict[str, Any] = {}
    for name, limit in said.items():
        if not isinstance(limit, int):
            continue
        if name == "concurrency":
            limits[name] = _left(limit, limit, max(0, limit - in_flight), None)
        elif name in RATES:
            limits[name] = _rate(name, limit, bursts.get(name), state, at)
    written = settings.get("budget") or []
    budgets = [
        _budget(each, state, at, time_zone)
        for each in (written if isinstance(written, list) else [written])
        if isinstance(each["usd"], int | float) and each["per"] in KINDS
    ]
    return {
        "scope": scope,
        "seeded": state is not None,
        "in_flight": in_flight,
        "limits": limits,
        "budgets": budgets,
    }


def _rate(
    name: str, limit: int, said: object, state: ScopeState | None, at: datetime
) -> dict[str, Any]:
    burst = said if isinstance(said, int) else limit
    known = None if state is None else state.rates.get(name)
    tat_us = 0.0 if known is None else known.tat_us
    ahead_us = max(0.0, tat_us - _us(at))
    rate = RateState(limit, burst, depth_us(name, limit, burst), tat_us)
    return _left(limit, burst, rate.remaining(name, _us(at)), -int(-ahead_us // 1000))


def _left(limit: int, burst: int, remaining: int, resets_in_ms: int | None) -> dict[str, Any]:
    return {
        "limit": limit,
        "burst": burst,
        "remaining": remaining,
        "resets_in_ms": resets_in_ms,
    }


def _us(at: datetime) -> float:
    return (at - EPOCH) / timedelta(microseconds=1)


def _budget(
    said: dict[str, Any], state: ScopeState | None, at: datetime, time_zone: str
) -> dict[str, Any]:
    per = str(said["per"])
    zone = str(said.get("time_zone") or time_zone)
    found = None if state is None else state.budgets.get(per)
    # What was spent in a period that is over counts no more
    is_now = found is not None and found.period >= period_ids(at, zone)[per]
    spent = found.spent_nusd if found is not None and is_now else 0
    held = found.held_nusd if found is not None and is_now else 0
    raised = _raised(said.get("raise"), zone)
    if raised is not None and raised[1] <= at:
        raised = None
    amount = said["usd"] if raised is None else raised[0]
    _, ends_us = period_of(per, zone, at)
    return {
        "usd": float(said["usd"]),
        "per": per,
        "mode": str(said.get("mode", "soft")),
        "time_zone": zone,
        "raised_usd": None if raised is None else float(raised[0]),
        "raised_until": None if raised is None else _stamp(raised[1]),
        "spent_usd": usd(spent),
        "held_usd": usd(held),
        "remaining_usd": usd(max(0, round(amount * NANO) - spent - held)),
        "resets_at": None
        if ends_us == NEVER_US
        else _stamp(datetime.fromtimestamp(ends_us // 10**6, UTC)),
    }


def _raised(said: object, zone: str) -> tuple[float, datetime] | None:
    """Return what a budget is raised to and until when, None when it is not, or cannot be read here."""
    if not isinstance(said, dict) or not isinstance(said.get("usd"), int | float):
        return None
    try:
        return said["usd"], moment_of(str(said.get("until")), zone).astimezone(UTC)
    except ValueError:
        return None


def _stamp(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
