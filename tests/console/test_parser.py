"""Laws of what is typed: a slip is answered with the word that was meant, and what cannot be read is said plainly."""

from pathlib import Path

import pytest

from console.parser import Parser, unreadable


def _verbs() -> Parser:
    parser = Parser(prog="penstock ledger")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verify | show")
    verbs.add_parser("show")
    verify = verbs.add_parser("verify")
    verify.add_argument("--level", choices=["premium", "economy"])
    verify.add_argument("--json", action="store_true")
    return parser


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["verfy"], "penstock ledger: error: there is no 'verfy'; did you mean 'verify'?\n"),
        (["qqq"], "penstock ledger: error: there is no 'qqq'; there are show, verify\n"),
        (
            ["verify", "--level", "premum"],
            "penstock ledger verify: error: argument --level: there is no 'premum'; did you mean 'premium'?\n",
        ),
        (["verify", "--js"], "penstock ledger: error: unrecognized arguments: --js\n"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(
    typed: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2; an abbreviation is no option, since it means another one when one more is added."""
    with pytest.raises(SystemExit) as ended:
        _verbs().parse_args(typed)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(said)


def test_what_is_there_is_taken() -> None:
    """The choices are as with argparse."""
    assert _verbs().parse_args(["verify", "--level", "economy"]).level == "economy"


def test_a_file_that_cannot_be_read_is_said_in_the_systems_words(tmp_path: Path) -> None:
    """Without the number of the error, and without the name a second time."""
    gone = tmp_path / "gone"
    with pytest.raises(FileNotFoundError) as absent:
        gone.read_text()
    assert unreadable(gone, absent.value) == f"cannot read {gone}: No such file or directory"
    gone.write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError) as broken:
        gone.read_text(encoding="utf-8")
    assert unreadable(gone, broken.value) == f"cannot read {gone}: it is not UTF-8"
    assert unreadable("a\0b", ValueError("embedded null byte")).endswith(": embedded null byte")
