"""The models: frozen, closed to unknown fields, and with ids that are derived in one way."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.loader import check_text, load_text
from config.models import Budget, Config, Limits, Section, Team, deployment_ids
from config.scalars import Plain


def test_a_configuration_is_frozen() -> None:
    """What was checked cannot become something else."""
    with pytest.raises(ValidationError):
        Config().edge.workers = 4  # type: ignore[misc]


def test_unknown_fields_are_refused() -> None:
    """Also in code, and in every section."""
    for section in Section.__subclasses__():
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            section.model_validate({"unknown": 1})


def test_nothing_means_the_default() -> None:
    """A field that is empty is as if it were not there, under its name in code too."""
    config = Config.model_validate({"edge": None, "organizations": {"o": {"budget": None}}})
    assert config.edge.workers == "auto"
    assert config.organizations["o"].budgets == ()
    assert Team.model_validate({"budgets": None, "limits": None}) == Team()
    with pytest.raises(ValidationError):
        Budget.model_validate({"usd": None, "per": "day"})


def test_one_budget_or_many() -> None:
    """A budget that is written without a list is a list of one, and code may say `budgets`."""
    one = Budget(usd=Decimal(5), per="day")
    written = {"usd": 5, "per": "day"}
    expected = Team(budgets=(one,))
    for value in (written, [written], one, [one], (one,)):
        assert Team.model_validate({"budget": value}) == expected
        assert Team.model_validate({"budgets": value}) == expected
    assert expected.budgets[0].limit_nusd == 5 * 10**9
    assert Team.model_validate({"budget": []}) == Team()


def test_the_largest_budget_is_exact_in_lua() -> None:
    """Scripts count nano-USD in doubles, which are exact below 2**53."""
    largest = Budget(usd=Decimal(9_000_000), per="month")
    assert largest.limit_nusd < 2**53
    with pytest.raises(ValidationError):
        Budget(usd=Decimal("9000000.000000001"), per="month")


def test_limits_have_ceilings() -> None:
    """A slip of a few zeros is a mistake, not a limit that is never reached."""
    Limits(rpm=10**7, tpm=10**10, concurrency=10**6)
    for field, most in (("rpm", 10**7), ("tpm", 10**10), ("concurrency", 10**6)):
        for value in (0, -1, most + 1, Plain("0"), 1.5, True, "5"):
            with pytest.raises(ValidationError):
                Limits.model_validate({field: value})


PROVIDERS = st.sampled_from(["a", "b", "c/d"])
IDS = st.none() | st.sampled_from(["x", "y", "z"])


@given(st.lists(st.tuples(PROVIDERS, IDS), max_size=8))
def test_derived_ids_are_distinct_and_stable(deployments: list[tuple[str, str | None]]) -> None:
    """The nth deployment at a provider is `#n` whatever else is there; explicit ids are kept."""
    ids = deployment_ids("model", deployments)
    derived = [made for made, (_, given_id) in zip(ids, deployments, strict=True) if not given_id]
    assert len(set(derived)) == len(derived)
    assert [made for made, (_, given_id) in zip(ids, deployments, strict=True) if given_id] == [
        given_id for _, given_id in deployments if given_id
    ]
    without = [each for each in deployments if each[1] is None]
    assert deployment_ids("model", without) == derived


def test_repeats_at_a_provider_are_numbered() -> None:
    """The first has no number, so that adding a second renames nothing."""
    assert deployment_ids(
        "m", [("p", None), ("q", None), ("p", None), ("p", "x"), ("p", None)]
    ) == [
        *("m/p", "m/q", "m/p#2", "x", "m/p#3"),
    ]


def test_deployments_and_keys_know_their_place() -> None:
    """What upstream calls the model, and who a key belongs to."""
    key = {"key": "sha256:" + "0" * 64}
    config = Config.model_validate(
        {
            "models": {"m": {"deployments": [{"provider": "p"}, {"provider": "p", "name": "n"}]}},
            "organizations": {"o": {"teams": {"t": {"keys": {"k": key}}, "u": {}}}},
        }
    )
    assert [(each.id, each.model, each.upstream_name) for each in config.deployments.values()] == [
        ("m/p", "m", "m"),
        ("m/p#2", "m", "n"),
    ]
    assert [each[:4] for each in config.placed_keys()] == [("o/t/k", "o", "t", "k")]


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
