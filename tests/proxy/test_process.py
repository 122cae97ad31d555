"""One edge as a process: what it takes of the system."""

import subprocess
import sys


def test_the_limit_of_open_files_is_raised() -> None:
    """As far as the system lets us; twice is as good as once."""
    program = (
        "import resource as r; from proxy.process import raise_file_limit;"
        "r.setrlimit(r.RLIMIT_NOFILE, (256, 900)); raise_file_limit(); raise_file_limit();"
        "print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "(900, 900)"
