"""
The authorities that a provider is verified by: those of its `ca_file`, else the system's.

A file is read once, so that what contexts are compared by is what they were made of, also where it is replaced meanwhile.
"""

import hashlib
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile

__all__ = ["Authorities", "authorities_in"]

_OPENSSLS_OWN = b"TRUSTED CERTIFICATE"


@dataclass(frozen=True, slots=True)
class Authorities:
    """What a file says (PEM), empty for the system's authorities; `digest` is the file's (SHA-256, in hexadecimal), or empty."""

    digest: str = ""
    certificates: bytes = field(default=b"", repr=False)

    def context(self) -> ssl.SSLContext:
        """Make a client's TLS context that trusts them alone; takes tens of milliseconds. Raises OSError (`ssl.SSLError` is one) where there is none."""
        if not self.digest:
            return ssl.create_default_context()
        if _OPENSSLS_OWN not in self.certificates:
            # Beside certificates bundles say whose they are, in any script; without any text `ssl` would take the system's.
            text = self.certificates.decode("ascii", "ignore") or "\n"
            return ssl.create_default_context(cadata=text)
        # Out of memory `ssl` passes over these, out of a file it reads all; but not every process may write one.
        with NamedTemporaryFile(prefix="penstock-") as file:
            file.write(self.certificates)
            file.flush()
            return ssl.create_default_context(cafile=file.name)


def authorities_in(ca_file: str | None) -> Authorities:
    """Read the authorities that a file names; blocks. Raises OSError for one that cannot be read."""
    if ca_file is None:
        return Authorities()
    found = Path(ca_file).read_bytes()
    return Authorities(hashlib.sha256(found).hexdigest(), found)
