"""Laws of finding nginx and wrk."""

import pytest

from loadtests.bench import tools


@pytest.mark.parametrize("missing", [["nginx"], ["wrk"], ["nginx", "wrk"]])
def test_what_is_missing_is_told_with_its_remedy(missing):
    """The message names what is missing and the command that installs it, on Debian and with Homebrew."""
    with pytest.raises(tools.ToolsMissing) as told:
        tools.find(lambda name: None if name in missing else f"/bin/{name}")
    words = str(told.value)
    assert f"apt-get install {' '.join(missing)}" in words
    assert f"brew install {' '.join(missing)}" in words


def test_what_is_there_is_found():
    """Both paths are given."""
    assert tools.find(lambda name: f"/bin/{name}") == tools.Tools("/bin/nginx", "/bin/wrk")


def test_a_version_is_one_line(tmp_path):
    """Programs print their version on either stream, with more lines after it."""
    program = tmp_path / "nginx"
    program.write_text("#!/bin/sh\necho 'nginx version: nginx/1.22.1' >&2\necho more >&2\n")
    program.chmod(0o700)
    assert tools.version(str(program)) == "nginx/1.22.1"
