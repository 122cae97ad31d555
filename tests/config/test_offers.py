"""Models: how good their answers are, as a number or by task."""

import pytest

from config.loader import check_text, load_text


@pytest.mark.parametrize(
    ("written", "by_task"),
    [
        ("0.5", {"overall": 0.5}),
        ("{overall: 0.5, long-context: 0.25}", {"overall": 0.5, "long-context": 0.25}),
        ("{coding: 1}", {"coding": 1.0}),
    ],
)
def test_quality_is_a_number_or_one_per_task(written: str, by_task: dict[str, float]) -> None:
    """A number alone is that of every task."""
    text = f"models: {{m: {{quality: {written}, deployments: [{{provider: p}}]}}}}"
    text += "\nproviders: {p: {protocol: openai, base_url: http://h}}"
    quality = load_text(text, source="f", environ={}).config.models["m"].quality
    assert quality is not None
    assert quality.by_task() == by_task


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("1.5", 'models.m.quality: found "1.5", expected a number from 0 to 1'),
        ("{coding: 2}", 'models.m.quality.coding: found "2", expected a number from 0 to 1'),
        ("{codding: 1}", "models.m.quality.codding: unknown field"),
        ("[1]", "models.m.quality: found a list, expected a mapping"),
    ],
)
def test_what_is_no_quality_is_said_where_it_stands(written: str, said: str) -> None:
    """With the path of what was written."""
    text = f"models: {{m: {{quality: {written}, deployments: [{{provider: p}}]}}}}"
    text += "\nproviders: {p: {protocol: openai, base_url: http://h}}"
    problems = [str(each) for each in check_text(text, source="f", environ={})]
    assert len(problems) == 1
    assert said in problems[0]
