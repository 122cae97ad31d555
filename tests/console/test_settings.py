"""Laws of single settings: what is asked for is found, whatever else is missing or wrong in the file."""

from pathlib import Path

import pytest

from console import settings
from console.settings import Settings, Unreadable, usual_file

TEXT = """
store: {redis: "${REDIS}", ledger: "sqlite:${NAME:-l}.db"}
admin: {listen: 127.0.0.1:1, token: ~}
providers: [nonsense, "${SECRET}"]
"""


def test_a_setting_is_found_whatever_else_is_missing(tmp_path: Path) -> None:
    """References are resolved where they can be, and it is told why one cannot."""
    file = tmp_path / "penstock.yaml"
    file.write_text(TEXT)
    found = Settings(file, {"NAME": "x"})
    assert found.get("store", "ledger") == "sqlite:x.db"
    assert found.get("admin", "listen") == "127.0.0.1:1"
    for names in (("store", "redis"), ("admin", "token"), ("edge", "listen"), ("store",)):
        assert found.get(*names) is None
    assert found.why_unset("store", "redis") == "the variable REDIS is not set"
    assert found.why_unset("store", "ledger") is None
    assert found.why_unset("edge", "listen") is None


@pytest.mark.parametrize(
    ("data", "words"),
    [(None, "No such file"), (b"\xff", "not UTF-8"), (b"\n- a list", "line 2")],
)
def test_a_file_that_cannot_be_read_is_named(
    data: bytes | None, words: str, tmp_path: Path
) -> None:
    """With the reason, and the line where there is one."""
    file = tmp_path / "penstock.yaml"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(Unreadable) as told:
        Settings(file, {})
    assert str(file) in str(told.value)
    assert words in str(told.value)


def test_the_usual_file_is_here_or_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one here first."""
    here, checkout = tmp_path / "here", tmp_path / "checkout"
    monkeypatch.setattr(settings, "CHECKOUT", checkout)
    assert usual_file(here) is None
    for folder in (checkout, here):
        folder.mkdir()
        (folder / "penstock.yaml").touch()
        assert usual_file(here) == folder / "penstock.yaml"
