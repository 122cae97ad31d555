"""Where things lie: one directory for everything, and sockets where their paths fit."""

from pathlib import Path

import pytest

from store import places


def test_everything_lies_under_var_of_the_checkout_unless_told_otherwise(tmp_path: Path) -> None:
    """`PENSTOCK_VAR` moves all of it at once."""
    here = places.places({})
    assert here.var == places.CHECKOUT / "var"
    there = places.places({"PENSTOCK_VAR": str(tmp_path)})
    assert there.store == tmp_path / "store"
    assert there.log == tmp_path / "log"
    assert there.journal == tmp_path / "journal"


def test_a_long_path_moves_the_sockets_to_a_private_directory(tmp_path: Path) -> None:
    """Every socket of the run directory fits, and two installations never share one."""
    long = tmp_path / ("x" * 120)
    other = tmp_path / ("y" * 120)
    run = places.run_directory(long)
    assert len(str(run / "control-00.sock")) <= places.SOCKET_PATH_BYTES
    assert run == places.run_directory(long)
    assert run != places.run_directory(other)
    assert places.run_directory(Path("/srv/penstock/var")) == Path("/srv/penstock/var/run")


def test_the_directories_of_data_and_sockets_are_ours_alone(tmp_path: Path) -> None:
    """Keys and prompts may pass through them."""
    made = places.Places(tmp_path / "var", tmp_path / "var" / "run")
    made.make()
    made.make()
    for directory in (made.store, made.run):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_a_run_directory_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    """In a shared temporary directory somebody else may have made it first."""
    made = places.Places(tmp_path / "var", tmp_path / "run")
    made.run.mkdir()
    made.run.chmod(0o777)
    with pytest.raises(places.UnsafePlace, match="not a directory of ours alone"):
        made.make()


def test_a_run_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """A link could lead our sockets anywhere."""
    (tmp_path / "elsewhere").mkdir()
    made = places.Places(tmp_path / "var", tmp_path / "run")
    made.run.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(places.UnsafePlace):
        made.make()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("sqlite:var/ledger.db", "sqlite:{var}/ledger.db"),
        ("sqlite:books/ledger.db", f"sqlite:{places.CHECKOUT}/books/ledger.db"),
        ("sqlite:/srv/ledger.db", "sqlite:/srv/ledger.db"),
        ("postgres://db/ledger", "postgres://db/ledger"),
    ],
)
def test_a_relative_ledger_lies_in_the_checkout_and_var_is_ours(
    tmp_path: Path, written: str, meant: str
) -> None:
    """The same file wherever the command is typed."""
    ours = places.places({"PENSTOCK_VAR": str(tmp_path)})
    assert ours.ledger_url(written) == meant.format(var=tmp_path)
