"""Laws of judging an outage: availability, recovery, a limit that stays one; and one fault for real."""

import pytest

from loadtests.drills import chaos
from loadtests.drills.chaos import Phase, by_second, most_of_tight, phase, recovered_after
from loadtests.drills.faults import FAULTS, Harm
from loadtests.drills.load import Call


def call(at_s: float, ended: str = "whole", status: int = 200) -> Call:
    """Return a call that began then."""
    return Call("m", "k", "", at_s, status=status, ended=ended)


CALLS = [
    call(0.5),
    call(1.2, "refused", 503),
    call(1.4, "refused", 429),
    call(1.6, "lost", 0),
    call(1.8, "left"),
    call(2.5, "refused", 503),
    call(2.9),
]


def test_shares_are_of_the_calls_that_began_in_a_span():
    """Served, refused by 503, refused otherwise, broken: together all of them."""
    assert phase(CALLS, 0, 1) == Phase(1, 1.0, 0.0, 0.0, 0.0)
    assert phase(CALLS, 1, 2) == Phase(4, 0.25, 0.25, 0.25, 0.25)
    assert phase(CALLS, 5, 6) == Phase()
    assert by_second(CALLS)[1] == {"503": 1, "429": 1, "lost": 1, "left": 1}


def test_recovered_is_when_the_last_call_was_refused():
    """And only if somebody was served after it."""
    assert recovered_after(CALLS, 2.0) == 0.5
    assert recovered_after(CALLS, 2.6) == 0.0
    assert recovered_after(CALLS[:-1], 2.0) is None


def test_a_fault_gives_back_of_a_limit_only_what_it_says():
    """A full bucket and what it regains; a flush brings one more bucket, a lost second that second's calls."""
    assert most_of_tight(60.0, Harm()) == 121
    assert most_of_tight(60.0, Harm(new_book=True)) == 181
    assert most_of_tight(60.0, Harm(lost_tail=True), forgotten=13) == 134
    assert most_of_tight(60.0, Harm(), forgotten=13) == 121
    assert most_of_tight(60.0, Harm(outage_s=3.0)) == 124


def test_a_fault_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]):
    """With the names of those that do."""
    with pytest.raises(SystemExit):
        chaos.main(["--only", "earthquake"])
    assert "lost_tail" in capsys.readouterr().err


@pytest.mark.timeout(90)
def test_one_fault_for_real(capsys: pytest.CaptureFixture[str], tmp_path):
    """The whole way, small: processes, load, fault, rest, comparison; every law holds."""
    record = tmp_path / "chaos.json"
    code = chaos.main(
        [
            *("--only", "killed", "--rate", "25", "--edges", "1"),
            *("--after", "1.5", "--json", str(record)),
        ]
    )
    said = capsys.readouterr().out
    assert code == 0, said
    assert "killed: held" in said
    assert record.exists()
    assert set(FAULTS) >= {"killed", "flushed", "out_of_memory"}
