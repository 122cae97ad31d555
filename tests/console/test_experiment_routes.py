"""Laws of the routes of experiments: each ends and begins by a change with who and why."""

from typing import Any

import pytest

Api = Any  # the fixture of this folder's conftest


@pytest.mark.parametrize(
    ("method", "verb"), [("GET", "results"), ("POST", "stop"), ("POST", "resume")]
)
async def test_what_is_not_there_is_not_found(api: Api, method: str, verb: str) -> None:
    """And nothing is changed."""
    body = {"why": "w"} if method == "POST" else None
    await api.refused(404, "not_found", method, f"/v1/experiments/nothing/{verb}", body)


async def test_an_end_has_who_and_why(api: Api) -> None:
    """The reason stands in the configuration, and in the history."""
    resumed = await api.done("POST", "/v1/experiments/idle/resume", {"why": "try it"})
    assert (resumed["kind"], resumed["published"]) == ("experiment.resume", True)
    assert (await api.done("GET", "/v1/experiments/idle/results"))["state"] == "running"
    again = await api.done("POST", "/v1/experiments/idle/resume", {"why": "try it"})
    assert not again["published"]
    stopped = await api.done(
        "POST",
        "/v1/experiments/idle/stop",
        {"why": "b is dearer"},
        headers={"x-penstock-actor": "ann"},
    )
    assert (stopped["kind"], stopped["by"], stopped["why"]) == (
        "experiment.stop",
        "ann",
        "b is dearer",
    )
    shown = await api.done("GET", "/v1/experiments/idle/results")
    assert shown["state"] == "stopped: b is dearer"
    assert [each["share"] for each in shown["arms"]] == [0.5, 0.5]


async def test_a_migration_shows_the_share_of_now(api: Api) -> None:
    """By its schedule and the clock."""
    now = await api.done("GET", "/v1/config")
    schedule = [{"at": "2024-01-02", "percent": 0}, {"at": "2024-01-03", "percent": 75}]
    body = {
        "experiment": {"asked": "auto", "migration": {"model": "demo", "schedule": schedule}},
        "why": "new",
        "expected": now["version"],
    }
    await api.done("PUT", "/v1/experiments/move", body)
    shown = await api.done("GET", "/v1/experiments/move/results")
    assert (shown["kind"], [(each["arm"], each["share"]) for each in shown["arms"]]) == (
        "migration",
        [("new", 0.75), ("old", 0.25)],
    )
