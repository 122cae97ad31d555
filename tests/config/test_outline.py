"""The outline of a document: everything with a name is found once, where it stands."""

from config import document
from config.outline import caller_key_hash, deployments_in, keys_in, organizations_in
from config.secrets import hash_key

TEXT = """
models:
  m: {deployments: [{provider: p}, {provider: p}, {id: own, provider: q}]}
  wrong: {deployments: {provider: p}}
organizations:
  a:
    organizations: {b: {teams: {t: {keys: {k: {key: "${KEY}"}, l: {key: short}}}}}}
    teams: {u: {keys: {n: {key: 1}}}}
  c: 7
"""


def test_everything_is_found_where_it_stands() -> None:
    """Organizations before their parts, deployments by their ids; what has a wrong shape holds nothing."""
    root, _ = document.compose(TEXT)
    assert root is not None
    document.expand(root, {"KEY": "k" * 16})
    b = ("organizations", "a", "organizations", "b")
    assert [path for path, _ in organizations_in(root)] == [
        ("organizations", "a"),
        b,
        ("organizations", "c"),
    ]
    assert [(name, path) for name, path, _ in deployments_in(root)] == [
        ("m/p", ("models", "m", "deployments", 0)),
        ("m/p#2", ("models", "m", "deployments", 1)),
        ("own", ("models", "m", "deployments", 2)),
    ]
    assert all(root.at(path) is node for _, path, node in deployments_in(root))
    found = {path: caller_key_hash(entry.node.get("key")) for path, entry in keys_in(root)}
    assert found == {
        ("organizations", "a", "teams", "u", "keys", "n"): None,
        (*b, "teams", "t", "keys", "k"): hash_key("k" * 16),
        (*b, "teams", "t", "keys", "l"): None,
    }
