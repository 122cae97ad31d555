"""The table of what is spoken: its rows are whole, and no two of them are taken for each other."""

from proxy.wire.endpoints import ENDPOINTS, PROTOCOLS


def test_every_row_can_be_told_from_the_others() -> None:
    """A route leads to one row, and the ledger's word begins with the protocol's."""
    routes = [endpoint.route for endpoint in ENDPOINTS]
    assert len(routes) == len(set(routes))
    assert all(route.startswith("/") for route in routes)
    for endpoint in ENDPOINTS:
        assert endpoint.word.startswith(f"{endpoint.protocol.word}.")
        assert endpoint.protocol in PROTOCOLS
    assert len({protocol.word for protocol in PROTOCOLS}) == len(PROTOCOLS)


def test_a_row_is_the_same_as_itself_alone() -> None:
    """Rows are keys of tables on the hot path: they are compared by identity."""
    assert len(set(ENDPOINTS)) == len(ENDPOINTS)
    assert all(type(row).__hash__ is object.__hash__ for row in ENDPOINTS)
