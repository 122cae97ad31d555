"""The module runs as a program."""

import subprocess
import sys


def test_python_m_console_is_the_command_line() -> None:
    """`python -m console` is what the launcher runs; its exit code is the command's."""
    done = subprocess.run(
        [sys.executable, "-m", "console", "help"], check=True, capture_output=True
    )
    assert b"ledger" in done.stdout
    wrong = subprocess.run([sys.executable, "-m", "console", "x"], check=False, capture_output=True)
    assert wrong.returncode == 2
