"""The whole: ids that are derived in one way, and parts that know their place."""

from hypothesis import given
from hypothesis import strategies as st

from config.models import Config, deployment_ids

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
