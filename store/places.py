"""
Where things lie on disk: everything Penstock writes is under one directory, `var/` of the checkout or `PENSTOCK_VAR`.

```
var/store/     the embedded store's data          var/log/      logs of the processes
var/run/       sockets and locks                  var/journal/  settlements that Redis has not got yet, who lives
var/ledger.db  the ledger, unless told otherwise
var/key-secret what callers' keys are hashed with, unless PENSTOCK_KEY_SECRET says it
```
Sockets move to a private directory under the system's temporary one when their path would be too long for the kernel.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
CONFIG_NAME = "penstock.yaml"

# sockaddr_un.sun_path holds 108 bytes on Linux and 104 on macOS, the closing NUL included.
SOCKET_PATH_BYTES = 100
_LONGEST_SOCKET_NAME = len("/control-00.sock")


class UnsafePlace(OSError):
    """A directory that must be ours alone belongs to somebody else, or others may enter it."""


@dataclass(frozen=True, slots=True)
class Places:
    """The directories of one installation, all absolute."""

    var: Path
    run: Path

    @property
    def store(self) -> Path:
        """Return the directory of the embedded store's data."""
        return self.var / "store"

    @property
    def log(self) -> Path:
        """Return the directory of the processes' logs."""
        return self.var / "log"

    @property
    def journal(self) -> Path:
        """Return the directory of settlements that Redis has not got yet."""
        return self.var / "journal"

    @property
    def key_secret(self) -> Path:
        """Return the file of the key secret (`config.keys`), which is worth a backup as the store is."""
        return self.var / "key-secret"

    @property
    def store_socket(self) -> Path:
        """Return the unix socket of the embedded store."""
        return self.run / "store.sock"

    @property
    def store_url(self) -> str:
        """Return the URL of the embedded store, as `--redis` takes it."""
        return f"unix://{self.store_socket}?db=0"

    def path(self, written: str) -> Path:
        """
        Return the absolute path that a setting means.

        A relative one begins at the checkout, and a leading `var/` is this installation's own.
        """
        relative = Path(written).expanduser()
        if relative.parts[:1] == ("var",):
            return self.var.joinpath(*relative.parts[1:])
        return CHECKOUT / relative

    def ledger_url(self, written: str) -> str:
        """Return `store.ledger` with the path of a `sqlite:` URL made absolute by the same rule; others as they are."""
        kind, _, path = written.partition(":")
        return f"sqlite:{self.path(path)}" if kind == "sqlite" else written

    def make(self) -> None:
        """
        Make the directories; those of data and sockets are entered by us alone.

        Raises `UnsafePlace` if the run directory is not ours, `OSError` if one cannot be made.
        """
        self.var.mkdir(parents=True, exist_ok=True)
        self.log.mkdir(exist_ok=True)
        self.journal.mkdir(exist_ok=True)
        self.store.mkdir(mode=0o700, exist_ok=True)
        self.run.mkdir(mode=0o700, exist_ok=True)
        # In a directory that all may write in, somebody else may have been there first.
        found = self.run.lstat()
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if not ours or found.st_mode & 0o022:
            raise UnsafePlace(f"{self.run} is not a directory of ours alone; remove it")


def places(environ: Mapping[str, str]) -> Places:
    """Return the places of this installation, by `PENSTOCK_VAR`; nothing is made yet."""
    var = Path(environ.get("PENSTOCK_VAR") or CHECKOUT / "var").absolute()
    return Places(var, run_directory(var))


def run_directory(var: Path) -> Path:
    """Return `var/run`, or a private directory of the same meaning where a socket's path fits."""
    run = var / "run"
    if len(os.fsencode(run)) + _LONGEST_SOCKET_NAME <= SOCKET_PATH_BYTES:
        return run
    short = hashlib.sha256(os.fsencode(var)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"penstock-{os.getuid()}-{short}"
