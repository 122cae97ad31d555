"""Laws of the route that lists models: what is live or all that is listed, and never what was not looked for."""

from typing import Any

import pytest

from console.models_routes import BadWish, wanted

Api = Any  # the fixtures of this folder's conftest


async def test_the_live_models_are_listed(api: Api) -> None:
    """With the live version, in its order."""
    answer = await api.done("GET", "/v1/catalogue")
    assert [each["name"] for each in answer["models"]] == ["demo", "Qwen/other"]
    demo = answer["models"][0]
    assert demo["price"]["blended_usd"] == "1.25"
    assert demo["deployments"] == ["demo/alpha", "demo/beta"]
    assert api.headers["ETag"] == f'"{answer["version"]}"'


async def test_what_is_looked_for_narrows_the_list(api: Api) -> None:
    """Of what is live, and of all that is listed."""
    answer = await api.done("GET", "/v1/catalogue?max_price=1.25")
    assert [each["name"] for each in answer["models"]] == ["demo"]
    assert (await api.done("GET", "/v1/catalogue?tag=coding"))["models"] == []
    listed = await api.done(
        "GET", "/v1/catalogue?of=all&tag=coding,vision&max_price=5&min_context=200000&task=coding"
    )
    qualities = [each["quality"]["coding"]["value"] for each in listed["models"]]
    assert len(qualities) > 10
    assert qualities == sorted(qualities, reverse=True)
    assert all({"coding", "vision"} <= set(each["tags"]) for each in listed["models"])
    assert all(each["context"] >= 200_000 for each in listed["models"])
    assert all(float(each["price"]["blended_usd"]) <= 5 for each in listed["models"])


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("max_price=cheap", "max_price"),
        ("max_price=-1", "max_price"),
        ("max_price=nan", "max_price"),
        ("min_context=1e30", "min_context"),
        ("min_quality=2", "min_quality"),
        ("task=codding", "task"),
        ("of=some", "of"),
        ("colour=red", "colour"),
    ],
)
async def test_what_cannot_be_looked_for_is_refused(api: Api, query: str, path: str) -> None:
    """With the name of the parameter."""
    error = await api.refused(400, "bad_request", "GET", f"/v1/catalogue?{query}")
    assert path in str(error)


def test_a_task_that_is_none_has_a_suggestion() -> None:
    """What was meant, where it is near."""
    with pytest.raises(BadWish, match="did you mean coding"):
        wanted({"task": "codding"})
