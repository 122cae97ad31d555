"""
The authorities that a provider is verified by: those of its `ca_file`, else the system's.

A file is read once, so that what contexts are compared by is what they were made of, also where it is replaced meanwhile.
"""

import hashlib
import ssl
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Authorities", "authorities_in"]


@dataclass(frozen=True, slots=True)
class Authorities:
    """Certificates as PEM, empty for the system's authorities; `digest` is the file's (SHA-256, in hexadecimal), or empty."""

    digest: str = ""
    certificates: str = field(default="", repr=False)

    def context(self) -> ssl.SSLContext:
        """Make a client's TLS context that trusts them alone; takes tens of milliseconds. Raises `ssl.SSLError` where there is none."""
        if self.digest and not self.certificates:
            # `ssl` would take that for the system's.
            raise ssl.SSLError("the file of authorities is empty")
        return ssl.create_default_context(cadata=self.certificates or None)


def authorities_in(ca_file: str | None) -> Authorities:
    """Read the authorities that a file names; blocks. Raises OSError for one that cannot be read."""
    if ca_file is None:
        return Authorities()
    found = Path(ca_file).read_bytes()
    # Between certificates bundles say whose they are, in any script.
    return Authorities(hashlib.sha256(found).hexdigest(), found.decode("ascii", "ignore"))
