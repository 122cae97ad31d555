"""The cost drill: that it measures something, for every setting that it names."""

from tests.drills import cost
from tests.drills.cost import Bench, Setting, settings
from tests.drills.server import server


def test_every_size_is_measured() -> None:
    """Batches, scopes and candidates, each setting once."""
    found = list(settings())
    assert len(found) == len(set(found))
    assert {one.batch for one in found} == {1, 4, 16, 64}
    assert {one.scopes for one in found} == set(range(1, 9))
    assert {one.candidates for one in found} == {1, 2, 4, 8, 16}


def test_a_setting_is_measured_and_told() -> None:
    """Everything that was sent was granted and settled: nothing is held at the end."""
    with server() as (client, _):
        one = Bench(client).measure(Setting(16, 2, 3), requests=160, runs=1)
        assert int(client.hget("{c0}:tot", "entries")) == 288
        assert client.keys("{c0}:l:*") == []
    assert one.admit_us > 0
    assert one.settle_us > 0
    assert "requests/s per core" in cost.tell([one])
