"""
The launcher, with scripted interpreters: what it makes, when it makes it anew, and what it says when it cannot.

Each test has a checkout of its own (with a space in its path), a PATH that holds only the tools that the launcher may use,
and pythons that are shell scripts; one test makes a real environment.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from store.places import CHECKOUT

TOOLS = (
    *("sh", "awk", "cat", "cmp", "cp", "date", "dirname", "getconf", "grep", "mkdir", "mv"),
    *("readlink", "rm", "rmdir", "sed", "sleep", "tail"),
)

FAKE = """#!/bin/sh
echo "$*" >>"{diary}"
case "$1 $2" in
  "-c "*"import os, sys"*) echo "{version} {ready} $0" ;;
  "-c "*) exit 0 ;;
  "-m venv")
    {venv}
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
    ;;
  "-m pip")
    echo "Collecting alpha==1.0 (from -r requirements.lock)"
    {pip}
    echo "Installing collected packages: alpha"
    ;;
  *) echo "ran: $* in $PWD with $PYTHONPATH"; exit 7 ;;
esac
"""


class Checkout:
    """A checkout with the real launcher, two small locks, and a PATH of our making."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a checkout"
        self.bin = folder / "bin"
        self.diary = folder / "diary"
        self.root.mkdir()
        self.bin.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, f"this machine lacks {tool}"
            (self.bin / tool).symlink_to(found)
        shutil.copy(CHECKOUT / "penstock", self.root)
        (self.root / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
        (self.root / "requirements.lock").write_text("alpha==1.0 \\\n    --hash=sha256:00\n")
        (self.root / "requirements-dev.lock").write_text("beta==1.0 \\\n    --hash=sha256:00\n")
        (self.root / "requirements-load.lock").write_text("delta==1.0 \\\n    --hash=sha256:00\n")

    def python(
        self,
        name: str = "python3.12",
        version: str = "3.12.4",
        ready: str = "yes",
        *,
        venv: str = ":",
        pip: str = ":",
    ) -> Path:
        path = self.bin / name
        path.write_text(
            FAKE.format(diary=self.diary, version=version, ready=ready, venv=venv, pip=pip)
        )
        path.chmod(0o755)
        return path

    def run(
        self, *arguments: str, program: Path | None = None, cwd: Path | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program or self.root / "penstock", *arguments],
            cwd=cwd or self.root,
            env={"PATH": str(self.bin), **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def asked(self) -> list[str]:
        """Return what pythons were asked since the last time."""
        lines = self.diary.read_text().splitlines() if self.diary.exists() else []
        self.diary.unlink(missing_ok=True)
        return [line for line in lines if line.startswith("-")]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


# Making the environment, and not making it again...


def test_the_first_start_makes_the_environment_and_the_second_starts_nothing_else(
    checkout: Checkout,
) -> None:
    """The check of a start that finds everything in place costs no Python start."""
    checkout.python()
    first = checkout.run("up", "--config", "x y.yaml")
    assert f"ran: -m proxy up --config x y.yaml in {checkout.root}" in first.stdout
    assert first.returncode == 7, "the verb's own exit code"
    assert "making .venv with Python 3.12.4" in first.stderr
    assert "installing the 1 packages of requirements.lock" in first.stderr
    asked = checkout.asked()
    assert any("--require-hashes" in line and "requirements.lock" in line for line in asked)

    second = checkout.run("up")
    assert second.stderr == ""
    assert checkout.asked() == ["-m proxy up"]


def test_a_second_start_takes_less_than_two_seconds(checkout: Checkout) -> None:
    """Measured whole, shell included."""
    checkout.python()
    checkout.run("up")
    begun = time.monotonic()
    checkout.run("up")
    assert time.monotonic() - begun < 2


def test_a_changed_lock_makes_it_anew(checkout: Checkout) -> None:
    """What is installed is what the lock says: nothing more, nothing older."""
    checkout.python()
    checkout.run("up")
    (checkout.root / ".venv" / "left over").touch()
    with (checkout.root / "requirements.lock").open("a") as lock:
        lock.write("gamma==2.0 \\\n    --hash=sha256:00\n")
    checkout.asked()
    said = checkout.run("up").stderr
    assert "installing the 2 packages" in said
    assert not (checkout.root / ".venv" / "left over").exists()
    assert any("-m venv" in line for line in checkout.asked())


def test_tests_and_checks_add_the_development_lock_once(checkout: Checkout) -> None:
    """`up` never pays for pytest and mypy; `test` pays once."""
    checkout.python()
    checkout.run("up")
    checkout.asked()
    assert "requirements-dev.lock" in checkout.run("test", "--co").stderr
    asked = checkout.asked()
    assert not any("-m venv" in line for line in asked)
    assert asked[-1] == "-m pytest --co"
    assert any("requirements-load.lock" in line for line in asked), "Locust's own tests need it"
    checkout.run("test", "--co")
    assert checkout.asked() == ["-m pytest --co"]


def test_load_adds_its_own_lock_once_and_no_other(checkout: Checkout) -> None:
    """Locust is heavy: `up` and `check` never pay for it, `load` pays at its first start."""
    checkout.python()
    checkout.run("up")
    checkout.run("check")
    assert not any("requirements-load.lock" in line for line in checkout.asked())
    (checkout.root / ".venv" / "penstock-dev.lock").unlink()
    assert "requirements-load.lock" in checkout.run("load", "guard", "--quick").stderr
    asked = checkout.asked()
    assert asked[-1] == "-m loadtests guard --quick"
    assert not any("requirements-dev.lock" in line for line in asked)
    assert checkout.run("load").stderr == ""
    assert checkout.asked() == ["-m loadtests"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-h"],
        ["--help"],
        ["guard", "--help"],
        ["--host", "URL", "--help"],
        ["report", "var/load/one"],
    ],
)
def test_to_read_about_load_nothing_of_its_own_is_installed(
    checkout: Checkout, arguments: list[str]
) -> None:
    """Seventy packages are for putting load on something."""
    checkout.python()
    said = checkout.run("load", *arguments)
    assert "requirements-load.lock" not in said.stderr
    asked = checkout.asked()
    assert not any("requirements-load.lock" in line for line in asked)
    assert asked[-1] == f"-m loadtests {' '.join(arguments)}"


def test_what_others_have_made_has_an_environment_of_its_own(checkout: Checkout) -> None:
    """They are asked for by name, installed once, and change nothing in ours."""
    node = checkout.root / "tests/integration/clients/node"
    node.mkdir(parents=True)
    (node / "package-lock.json").write_text("{}")
    (checkout.root / "requirements-clients.lock").write_text(
        "epsilon==1.0 \\\n    --hash=sha256:00\n"
    )
    npm = checkout.bin / "npm"
    npm.write_text(
        f'#!/bin/sh\nmkdir -p "{node}/node_modules"\necho "-npm $*" >>"{checkout.diary}"\n'
    )
    npm.chmod(0o755)
    checkout.python()
    checkout.run("test")
    assert not any("requirements-clients" in line for line in checkout.asked())
    assert "requirements-clients.lock" in checkout.run("test", "clients", "-x").stderr
    asked = checkout.asked()
    (made,) = [line for line in asked if line.startswith("-m venv")]
    assert made.endswith(".venv-clients")
    assert any(line.startswith("-npm ci") for line in asked)
    assert asked[-1] == "-m pytest tests/integration/clients -x"
    assert checkout.run("test", "clients").stderr == ""
    assert checkout.asked() == ["-m pytest tests/integration/clients"]
    (checkout.root / ".venv-clients/bin/python").unlink()
    checkout.run("test", "clients")
    assert any(line.endswith(".venv-clients") for line in checkout.asked())
    (node / "package-lock.json").write_text("{ }")
    npm.write_text("#!/bin/sh\necho 'npm error code ENOTFOUND'\nexit 1\n")
    said = checkout.run("test", "clients")
    assert said.returncode == 3
    assert "The package index is out of reach" in said.stderr
    assert not any("-m venv" in line for line in checkout.asked()), "only what changed is made anew"


def test_a_half_made_environment_is_made_anew(checkout: Checkout) -> None:
    """Killed in the middle, by whatever: the next start does not trust what it finds."""
    checkout.python(pip="kill -9 $PPID; exit 1")
    assert checkout.run("up").returncode != 0
    venv = checkout.root / ".venv"
    assert (venv / "penstock.unfinished").exists()
    (venv / "half").touch()
    checkout.python()
    said = checkout.run("up")
    assert said.returncode == 7, said.stderr
    assert not (venv / "half").exists()


def test_an_environment_of_ones_own_is_filled_and_not_thrown_away(checkout: Checkout) -> None:
    """An editor's or a developer's `.venv` keeps what it holds."""
    (checkout.root / ".venv" / "bin").mkdir(parents=True)
    (checkout.root / ".venv" / "mine").touch()
    checkout.python().rename(checkout.root / ".venv" / "bin" / "python")
    assert checkout.run("up").returncode == 7
    assert (checkout.root / ".venv" / "mine").exists()
    assert checkout.run("up").stderr == ""


def test_a_vanished_interpreter_makes_it_anew(checkout: Checkout) -> None:
    """After an upgrade of the system's Python, `.venv` points to nothing."""
    checkout.python()
    checkout.run("up")
    python = checkout.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nonexistent/python3.11")
    assert "making .venv" in checkout.run("up").stderr


def test_two_starts_at_once_make_one_environment(checkout: Checkout) -> None:
    """The second waits, says for whom, and finds everything made."""
    checkout.python(pip="sleep 1")
    environ = {"PATH": str(checkout.bin)}
    both = [
        subprocess.Popen(
            [checkout.root / "penstock", "up"],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [7, 7]
    assert sum("making .venv" in one for one in said) == 1
    assert sum("another start (pid" in one for one in said) == 1
    assert sum("-m venv" in line for line in checkout.asked()) == 1
    assert not (checkout.root / ".venv.lock").exists()


def test_a_lock_whose_holder_is_dead_is_inherited(checkout: Checkout) -> None:
    """A start that was killed does not lock the next ones out."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    (checkout.root / ".venv.lock").mkdir()
    (checkout.root / ".venv.lock" / "pid").write_text(f"{gone.pid}\n")
    checkout.python()
    assert checkout.run("up").returncode == 7
    assert not (checkout.root / ".venv.lock").exists()


def test_it_works_through_a_link_and_from_another_directory(
    checkout: Checkout, tmp_path: Path
) -> None:
    """`ln -s …/penstock ~/bin` is how people install it; what they name is relative to where they stand."""
    checkout.python()
    (tmp_path / "to").symlink_to(checkout.root)
    (tmp_path / "one").symlink_to("to/penstock")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "two").symlink_to("../one")
    there = tmp_path / "elsewhere"
    said = checkout.run("up", program=there / "two", cwd=there).stdout
    assert f"in {there} with {checkout.root}" in said


def test_data_and_logs_go_where_penstock_var_says(checkout: Checkout, tmp_path: Path) -> None:
    """A relative one begins where the caller stands."""
    checkout.python()
    checkout.run("up", cwd=tmp_path, PENSTOCK_VAR="some var")
    assert (tmp_path / "some var" / "log" / "setup.log").exists()
    assert not (checkout.root / "var").exists()


# Which Python...


def test_the_newest_named_python_that_runs_is_taken(checkout: Checkout) -> None:
    """A version manager's names that do not run are passed over."""
    broken = checkout.bin / "python3.13"
    broken.write_text("#!/bin/sh\necho 'python3.13: command not found' >&2\nexit 127\n")
    broken.chmod(0o755)
    checkout.python("python3.12", "3.12.4")
    checkout.python("python3", "3.11.2")
    assert "Python 3.12.4" in checkout.run("up").stderr


def test_without_any_python_it_says_what_it_needs(checkout: Checkout) -> None:
    """Exit code 3: the environment could not be made."""
    said = checkout.run("up")
    assert said.returncode == 3
    assert "needs Python 3.11 or newer, and found none" in said.stderr


def test_pythons_that_are_too_old_are_listed_with_their_versions(checkout: Checkout) -> None:
    """People see at once which one they thought of."""
    checkout.python("python3", "3.9.2", "old")
    checkout.python("python", "2.7.18", "old")
    said = checkout.run("up").stderr
    assert "python3 is Python 3.9.2" in said
    assert "python is Python 2.7.18" in said
    assert "PENSTOCK_PYTHON=" in said


def test_a_python_without_venv_names_the_package_that_brings_it(checkout: Checkout) -> None:
    """Debian and Ubuntu part Python from its venv."""
    checkout.python("python3", "3.11.2", "bare")
    said = checkout.run("up")
    assert said.returncode == 3
    assert "apt install python3.11-venv" in said.stderr


def test_penstock_python_decides_alone(checkout: Checkout, tmp_path: Path) -> None:
    """What somebody names is taken or refused, never replaced; naming another makes `.venv` anew."""
    checkout.python("python3.12", "3.12.4")
    mine = checkout.python("my python", "3.13.0")
    assert "Python 3.13.0" in checkout.run("up", PENSTOCK_PYTHON=str(mine)).stderr
    assert checkout.run("up", PENSTOCK_PYTHON=str(mine)).stderr == ""
    assert checkout.run("up").stderr == ""
    assert "Python 3.12.4" in checkout.run("up", PENSTOCK_PYTHON="python3.12").stderr
    old = checkout.python("old", "3.10.1", "old")
    said = checkout.run("up", PENSTOCK_PYTHON=str(old))
    assert said.returncode == 3
    assert "3.10.1" in said.stderr
    assert "is not a program" in checkout.run("up", PENSTOCK_PYTHON="/no/such").stderr


# What can go wrong...


@pytest.mark.parametrize(
    ("pip", "words"),
    [
        (
            "echo 'WARNING: Retrying (Retry(total=0)) after connection broken by NewConnectionError'",
            "The package index is out of reach",
        ),
        ("echo 'OSError: [Errno 28] No space left on device'", "The disk is full"),
        ("echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES'", "does not match its hash"),
        ("echo 'SSLError(certificate verify failed)'", "PIP_CERT="),
        ("echo 'ERROR: No matching distribution found for alpha'", "no build of a locked package"),
        ("echo 'something nobody thought of'", "| something nobody thought of"),
    ],
    ids=["offline", "disk", "hashes", "certificate", "no build", "unknown"],
)
def test_a_failed_installation_says_why_and_where_everything_was_said(
    checkout: Checkout, pip: str, words: str
) -> None:
    """One reason in words, one thing to do, and the log."""
    checkout.python(pip=f"{pip}; exit 1")
    said = checkout.run("up")
    assert said.returncode == 3
    assert words in said.stderr
    assert str(checkout.root / "var" / "log" / "setup.log") in said.stderr
    assert "ran:" not in said.stdout
    assert not (checkout.root / ".venv.lock").exists()
    checkout.python()
    assert checkout.run("up").returncode == 7, "the same command works once the reason is gone"


def test_a_failed_venv_names_its_package(checkout: Checkout) -> None:
    """Some distributions ship ensurepip without what it needs."""
    checkout.python(venv="echo 'Error: ensurepip failed'; exit 1")
    said = checkout.run("up")
    assert said.returncode == 3
    assert "python3-venv" in said.stderr


def test_a_development_lock_that_cannot_be_fetched_leaves_the_rest_usable(
    checkout: Checkout,
) -> None:
    """Without an index one cannot test, but what ran goes on running."""
    checkout.python()
    checkout.run("up")
    fetching = "echo 'Max retries exceeded'; exit 1"
    checkout.python("python3.12", pip=fetching)
    shutil.copy(checkout.bin / "python3.12", checkout.root / ".venv" / "bin" / "python")
    assert checkout.run("test").returncode == 3
    assert checkout.run("up").stderr == ""


# Words...


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("tset", "test"),
        ("dmeo", "demo"),
        ("usgae", "usage"),
        ("configs", "config"),
        ("led", "ledger"),
    ],
)
def test_a_misspelt_command_is_answered_with_the_nearest(
    checkout: Checkout, typed: str, meant: str
) -> None:
    """Exit code 2, and no environment is made for a slip."""
    said = checkout.run(typed)
    assert said.returncode == 2
    assert f"Did you mean '{meant}'?" in said.stderr
    assert not (checkout.root / ".venv").exists()


def test_a_word_that_resembles_nothing_is_not_guessed_at(checkout: Checkout) -> None:
    """A wrong guess is worse than none."""
    said = checkout.run("qwertyuiop")
    assert said.returncode == 2
    assert "Did you mean" not in said.stderr


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_needs_no_environment(checkout: Checkout, word: str) -> None:
    """It answers before anything is made, on standard output."""
    said = checkout.run(word)
    assert said.returncode == 0
    assert "./penstock demo" in said.stdout
    assert not (checkout.root / ".venv").exists()


@pytest.mark.parametrize("verb", ["test", "check"])
def test_help_of_what_the_launcher_itself_does_needs_no_environment(
    checkout: Checkout, verb: str
) -> None:
    """Nobody waits for a hundred packages to read ten lines."""
    said = checkout.run(verb, "--help")
    assert said.returncode == 0
    assert said.stdout.startswith(f"usage: penstock {verb}")
    assert not (checkout.root / ".venv").exists()


def test_a_check_of_something_is_misuse(checkout: Checkout) -> None:
    """It checks everything; to leave a word aside in silence would be to lie about what was checked."""
    said = checkout.run("check", "proxy")
    assert said.returncode == 2
    assert "check takes no arguments" in said.stderr


def test_without_a_command_it_shows_the_commands(checkout: Checkout) -> None:
    """As misuse: exit code 2, on standard error."""
    said = checkout.run()
    assert said.returncode == 2
    assert "./penstock up" in said.stderr
    assert checkout.run("--version").stdout == "penstock 1.2.3\n"


@pytest.mark.parametrize(
    ("typed", "module"),
    [
        (["config", "check"], "-m console config check"),
        (["key", "create", "a/b/c"], "-m console key create a/b/c"),
        (["quota", "show"], "-m console quota show"),
        (["models", "--all"], "-m console models --all"),
        (["providers"], "-m console providers"),
        (["deployment", "drain", "x"], "-m console deployment drain x"),
        (["health", "--json"], "-m console health --json"),
        (["route", "explain", "x"], "-m console route explain x"),
        (["experiment", "list"], "-m console experiment list"),
        (["usage", "--by", "team"], "-m console usage --by team"),
        (["ledger", "verify"], "-m console ledger verify"),
        (["bench"], "-m loadtests.bench"),
        (["bench", "routing", "--json"], "-m routing.bench --json"),
        (["load", "--host", "URL"], "-m loadtests --host URL"),
        (["demo", "--once"], "-m proxy demo --once"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_each_command_goes_to_its_module(checkout: Checkout, typed: list[str], module: str) -> None:
    """Arguments pass as they are."""
    checkout.python()
    checkout.run(*typed)
    assert checkout.asked()[-1] == module


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "ksh", "busybox"])
def test_every_shell_that_is_here_reads_it(shell: str) -> None:
    """POSIX sh and nothing more."""
    found = shutil.which(shell)
    words = [found, "sh"] if shell == "busybox" else [found]
    if found is not None:
        subprocess.run([*words, "-n", CHECKOUT / "penstock"], check=True)


def test_it_makes_a_real_environment(checkout: Checkout) -> None:
    """With a real interpreter, a real pip, and locks that need no index."""
    for lock in ("requirements.lock", "requirements-dev.lock"):
        (checkout.root / lock).write_text("# nothing to install\n")
    (checkout.root / "proxy.py").write_text("import sys; print('real', sys.prefix, sys.argv[1:])\n")
    said = checkout.run("up", "--workers", "2", PENSTOCK_PYTHON=sys.executable, HOME=os.devnull)
    assert f"real {checkout.root / '.venv'} ['up', '--workers', '2']" in said.stdout, said.stderr
