"""Laws of the command line: one word, one command, and exit codes that mean something."""

import importlib
import re
import subprocess
import sys
from typing import Any

import pytest

from console.cli import COMMANDS, main


def test_help_is_help(capsys: pytest.CaptureFixture) -> None:
    """Asked for, it goes to standard output and is no failure; without a word it is misuse."""
    for argv in (["--help"], ["-h"], ["help"]):
        assert main(argv) == 0
        said = capsys.readouterr()
        assert all(name in said.out for name in COMMANDS)
        assert not said.err
    assert main([]) == 2
    said = capsys.readouterr()
    assert "usage: penstock" in said.err
    assert not said.out


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture) -> None:
    """Exit code 2, and what there is."""
    assert main(["ussage"]) == 2
    assert "'ussage'" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_of_its_own(name: str, capsys: pytest.CaptureFixture) -> None:
    """`penstock COMMAND --help` ends with 0 and says what the command is for."""
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: penstock {name}" in capsys.readouterr().out


def test_the_exit_code_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the words reaches the command; its code comes back; Ctrl-C is 130."""
    heard: list[list[str]] = []

    class Module:
        @staticmethod
        def run(argv: list[str]) -> int:
            heard.append(argv)
            if "interrupt" in argv:
                raise KeyboardInterrupt
            return 7

    def load(name: str) -> Any:
        return Module if name == "console.usage_command" else importlib.import_module(name)

    monkeypatch.setattr("console.cli.import_module", load)
    assert main(["usage", "a", "--b"]) == 7
    assert heard == [["a", "--b"]]
    assert main(["usage", "interrupt"]) == 130


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    """`penstock … | head -0` ends quietly."""
    program = "import sys; from console.cli import main; sys.stdin.read(); sys.exit(main(['help']))"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.close()  # only now it speaks
        assert process.stderr.read() == b""
        assert process.wait(10) == 0


def test_a_command_starts_at_once() -> None:
    """It imports what it needs and no more: neither the gateway's server nor the reader of configurations."""
    program = (
        "import sys; from console.cli import main\n"
        "try: main(['usage', '--help'])\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    slow = {"aiohttp", "pydantic", "redis", "yaml", "msgspec", "prometheus_client", "asyncio"}
    assert slow.isdisjoint(done.stderr.decode().split())


VERBS = {
    "config": "check schema diff apply export history rollback status show put remove",
    "key": "create list show rotate revoke",
    "quota": "show set raise events",
    "deployment": "list drain undrain weight",
    "route": "explain simulate",
    "experiment": "list show stop resume",
    "ledger": "verify show export",
}


@pytest.mark.parametrize("name", sorted(VERBS))
def test_a_command_with_verbs_says_what_it_is_about(
    name: str, capsys: pytest.CaptureFixture
) -> None:
    """And names every verb that it has."""
    with pytest.raises(SystemExit):
        main([name, "--help"])
    said = capsys.readouterr().out.partition("\n\n")[2]
    assert not said.startswith(("options", "positional"))
    assert all(re.search(rf"^    {verb} ", said, re.MULTILINE) for verb in VERBS[name].split())
