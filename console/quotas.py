"""
What a scope is granted and what it holds right now, for people.

What is granted comes from the live document, what is held from the store's counters, read at the
store's own time. The arithmetic is that of `lua/gcra.lua` and `governance/lua/budget.lua`: a limit
of N per minute is a bucket, a period ends by the calendar in UTC.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from ratelimit.limits import ScopeState

__all__ = ["period_end", "period_ids", "quota"]

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE_US = 60_000_000
NANO = 10**9


def period_ids(at: datetime) -> dict[str, int]:
    """Return the ids of the day, the week and the month that hold a moment, as the scripts count them."""
    days = (at - EPOCH).days
    return {"day": days + 1, "week": days // 7 + 1, "month": at.year * 12 + at.month}


def period_end(at: datetime, per: str) -> datetime:
    """Return when the period that holds a moment ends."""
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if per == "day":
        return midnight + timedelta(days=1)
    if per == "week":
        return midnight + timedelta(days=7 - midnight.weekday())
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)


def quota(
    scope: str, settings: dict[str, Any], state: ScopeState | None, at: datetime
) -> dict[str, Any]:
    """
    Return what a scope may and holds; `settings` is its section, `state` None where the store knows none.

    A limit that nothing was taken from yet is whole; one that cannot be read here (its variable is not
    set where the control runs) is left out.
    """
    in_flight = 0 if state is None else state.in_flight
    limits: dict[str, Any] = {}
    for name, limit in (settings.get("limits") or {}).items():
        if not isinstance(limit, int):
            continue
        if name == "concurrency":
            limits[name] = _left(limit, max(0, limit - in_flight), None)
        elif name in {"rpm", "tpm"}:
            tat = 0.0
            if state is not None:
                tat = state.requests_tat_us if name == "rpm" else state.tokens_tat_us
            ahead = max(0.0, tat - _us(at))
            remaining = int((MINUTE_US - ahead) * limit / MINUTE_US + 1e-6)
            limits[name] = _left(limit, max(0, remaining), -int(-ahead // 1000))
        else:
            limits[name] = _left(limit, None, None)
    said = settings.get("budget") or []
    budgets = [
        _budget(each, state, at)
        for each in (said if isinstance(said, list) else [said])
        if isinstance(each["usd"], int | float) and each["per"] in period_ids(at)
    ]
    return {
        "scope": scope,
        "seeded": state is not None,
        "in_flight": in_flight,
        "limits": limits,
        "budgets": budgets,
    }


def _left(limit: int, remaining: int | None, resets_in_ms: int | None) -> dict[str, Any]:
    return {"limit": limit, "remaining": remaining, "resets_in_ms": resets_in_ms}


def _us(at: datetime) -> float:
    return (at - EPOCH) / timedelta(microseconds=1)


def _budget(said: dict[str, Any], state: ScopeState | None, at: datetime) -> dict[str, Any]:
    per = str(said["per"])
    found = None if state is None else state.budgets.get(per)
    # What was spent in a period that is over counts no more
    is_now = found is not None and found.period >= period_ids(at)[per]
    spent = found.spent_nusd if found is not None and is_now else 0
    held = found.held_nusd if found is not None and is_now else 0
    amount = round(said["usd"] * NANO)
    return {
        "usd": float(said["usd"]),
        "per": per,
        "mode": str(said.get("mode", "soft")),
        "spent_usd": usd(spent),
        "held_usd": usd(held),
        "remaining_usd": usd(max(0, amount - spent - held)),
        "resets_at": period_end(at, per).isoformat().replace("+00:00", "Z"),
    }


def usd(nusd: int) -> str:
    """Return nano-USD as USD, exact."""
    sign = "-" if nusd < 0 else ""
    whole, part = divmod(abs(nusd), NANO)
    return f"{sign}{whole}.{part:09d}"
