"""Whom the control trusts when it asks providers: their own authorities, or the system's, as edges do."""

import asyncio
import ssl

from config.authorities import authorities_in
from config.providers import Provider

__all__ = ["Trust"]


class Trust:
    """TLS contexts, one for each set of authorities: a context of the system's takes tens of milliseconds to load."""

    def __init__(self) -> None:
        self._made: dict[str, ssl.SSLContext] = {}

    async def of(self, provider: Provider) -> ssl.SSLContext:
        """Return what a provider is verified by, as its `ca_file` is now. Raises OSError for one that cannot be used."""
        return await asyncio.to_thread(self._of, provider.ca_file)

    def _of(self, file: str | None) -> ssl.SSLContext:
        found = authorities_in(file)
        if found.digest not in self._made:
            self._made[found.digest] = found.context()
        return self._made[found.digest]
