"""
Ports before anything is started: is the address free, and if not, who has it.

The edges share a port (SO_REUSEPORT), so a second installation would join in silently and take half of the calls.
Therefore the port is first asked for alone, and then held, bound but not listening, for as long as the supervisor lives.
"""

import contextlib
import errno
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LISTENING = "0A"  # the state of a socket in /proc/net/tcp


class PortTaken(Exception):
    """An address cannot be listened on; the message says why, and who has it if that can be known."""


@dataclass(frozen=True, slots=True)
class Held:
    """An address that is ours: where it is, and the socket that holds it against others."""

    host: str
    port: int
    socket: socket.socket

    @property
    def address(self) -> str:
        """Return it as `--listen` takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def release(self) -> None:
        """Let others have it."""
        self.socket.close()


def hold(host: str, port: int) -> Held:
    """
    Take an address that nobody else listens on; port 0 takes a free one.

    The socket is bound with SO_REUSEPORT and never listens, so the kernel gives it no connection.
    Raises `PortTaken`.
    """
    try:
        family, kind, protocol, _, found = socket.getaddrinfo(
            host,
            port,
            # A name is taken for its IPv4 address, as the edges do.
            socket.AF_INET6 if ":" in host else socket.AF_INET,
            socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )[0]
    except socket.gaierror as error:
        raise PortTaken(f"the host {host} has no address here ({error.strerror})") from error
    try:
        with socket.socket(family, kind, protocol) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(found)
            found = alone.getsockname()
        shared = _bound(socket.socket(family, kind, protocol), found)
    except OSError as error:
        raise PortTaken(_why(error, host, port)) from error
    return Held(host, int(found[1]), shared)


def _bound(shared: socket.socket, address: Any) -> socket.socket:
    try:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            shared.bind(address)
        except OSError:
            # Connections of a server that left a moment ago linger on the port (TIME_WAIT). SO_REUSEADDR
            # passes them by, but then another program that asks the same way could bind, too.
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            shared.bind(address)
    except OSError:
        shared.close()
        raise
    return shared


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken by {who_listens(port) or 'another program'}"
    if error.errno == errno.EACCES:
        return f"port {port} needs rights that we do not have (ports below 1024 are the system's)"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine"
    return f"cannot listen on {host} port {port}: {error.strerror}"


def who_listens(port: int) -> str | None:
    """Return `name (pid N)` of a program that listens on a TCP port, None if it cannot be known."""
    return _who_by_proc(port) if Path("/proc/net/tcp").exists() else _who_by_lsof(port)


def _who_by_proc(port: int) -> str | None:
    """Find the socket's inode in /proc/net, then the process that has it open."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            # Processes come and go, and those of others keep their files to themselves.
            with contextlib.suppress(OSError):
                if any(str(fd.readlink()) in inodes for fd in (process / "fd").iterdir()):
                    words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    return f"{_named(words)} (pid {process.name})"
    return None


def _who_by_lsof(port: int) -> str | None:
    program = shutil.which("lsof")
    if program is None:
        return None
    try:
        said = subprocess.run(  # noqa: S603  (found by name, no shell)
            [program, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"^p(\d+)\nc(.+)$", said, re.MULTILINE)
    return f"{found[2]} (pid {found[1]})" if found else None


def _named(words: list[str]) -> str:
    """Return what people call a command line: `python -m proxy edge`, `nginx: master process`."""
    module = words.index("-m") if "-m" in words[:3] else None
    if module is not None and "python" in words[0]:
        return " ".join(["python", *words[module : module + 3]]).strip()
    return Path(words[0]).name or "a program"
