"""Laws of `python -m loadtests.mock`."""

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from loadtests.mock.__main__ import main

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_on_a_signal(number):
    """One line tells the address once it serves; SIGTERM and SIGINT end it with 0."""
    command = [sys.executable, "-m", "loadtests.mock", "--listen", "127.0.0.1:0", "--fast"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        url = line.removeprefix("listening on ").strip()
        with urllib.request.urlopen(f"{url}/v1/models", timeout=5) as answer:
            assert answer.status == 200
        process.send_signal(number)
        rest = process.stdout.read()
    assert (process.returncode, rest) == (0, "")


def test_an_address_that_cannot_be_had_is_told_in_words(capsys):
    """A port that is not ours is no traceback."""
    assert main(["--listen", "192.0.2.1:1"]) == 1
    assert "cannot start" in capsys.readouterr().err


def test_a_mistyped_address_is_told_in_words(capsys):
    """An address without a port is a usage error."""
    with pytest.raises(SystemExit, match="2"):
        main(["--listen", "localhost"])
    assert "HOST:PORT" in capsys.readouterr().err
