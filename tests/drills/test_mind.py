"""The drill of one mind: eight replicas decide as one, and the drill would notice if they did not."""

from dataclasses import replace

from tests.drills import mind
from tests.drills.mind import Fleet, Outcome, compared, trace
from tests.drills.server import server


def test_eight_replicas_decide_as_one() -> None:
    """On any trace each call gets the deployment that it would have had with one replica, also while the board changes."""
    arrivals = trace(3, 500)
    with server() as (client, _):
        one, many = (Fleet(client, replicas).run(arrivals) for replicas in (1, 8))
    found = compared(one, many)
    assert found.served == (500, 500)
    assert found.same == 1.0
    assert found.refused_by_vendors == 0
    assert len(set(one.chosen)) > 3
    assert "the same deployment" in mind.tell(found)


def test_a_difference_is_noticed() -> None:
    """By the call, by the load, and by what vendors would have refused."""
    one = Outcome(("a", "b", "a", ""), 2, 0)
    other = replace(one, chosen=("a", "a", "a", "b"), refused_by_vendors=1)
    found = compared(one, other)
    assert (found.same, found.worst_load) == (0.5, 0.25)
    assert (found.refused_by_vendors, found.served) == (1, (3, 4))
