"""The weights of the classifier: the same examples and seed give the same, and they learn what the examples say."""

from importlib.resources import files

import msgspec
import pytest

from routing import training
from routing.classify import BUCKETS, OUTCOMES, Model
from routing.training import Example, train, written

EXAMPLES = [
    Example("fix this bug in my rust module", "coding", 0.2),
    Example("write a poem about the sea", "chat", -0.2),
    Example("solve the equation 3 x = 9", "math", None),
    Example("name all dates in the contract", "extraction", None),
    Example("which conclusion follows", "reasoning", None),
]


def shipped() -> Model:
    data = files("routing").joinpath("classify.json").read_bytes()
    return msgspec.json.decode(data, type=Model)


def test_the_same_seed_gives_the_same_weights() -> None:
    """And another order of the examples gives others."""
    assert train(EXAMPLES, seed=1) == train(EXAMPLES, seed=1)
    assert train(EXAMPLES, seed=1) != train(EXAMPLES, seed=2)


def test_every_outcome_is_taught() -> None:
    """A word of one task speaks for that task more than for the others."""
    model = train(EXAMPLES, seed=1)
    for example in EXAMPLES:
        buckets = training.buckets_of(example.text)
        scores = [
            model.bias[k] + sum(model.weights[bucket][k] for bucket in buckets)
            for k in range(len(OUTCOMES))
        ]
        assert scores.index(max(scores)) == OUTCOMES.index(example.task), example.text


def test_what_was_failed_at_is_harder() -> None:
    """Relative to the other questions of its task."""
    model = train(EXAMPLES, seed=1)
    hard, easy = (
        sum(model.weights[bucket][-1] for bucket in training.buckets_of(each.text))
        for each in EXAMPLES[:2]
    )
    assert hard > easy


def test_written_examples_are_drawn_with_a_seed() -> None:
    """Of every task, without a slot that was left open."""
    once = list(written(3))
    assert once == list(written(3))
    assert {each.task for each in once} == set(OUTCOMES)
    assert [each.text for each in once if "{" in each.text] == []


def test_what_is_shipped_is_whole() -> None:
    """A row for every bucket, a weight for every outcome and for the complexity, and what it was made from."""
    model = shipped()
    assert len(model.weights) == BUCKETS
    assert {len(row) for row in model.weights} == {len(OUTCOMES) + 1}
    assert len(model.bias) == len(OUTCOMES) + 1
    assert max(abs(weight) for row in model.weights for weight in row) <= 127
    assert model.spread > 0
    assert model.about == training.ABOUT


def test_misuse_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a folder nothing is written."""
    assert training.main([]) == 2
    assert "FOLDER" in capsys.readouterr().err
