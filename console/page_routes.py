"""
The page of the admin port, for people: three files that anybody who reaches the port may have.

They hold nothing: what they show comes from the admin API, with the token that the reader gives.
"""

from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from types import MappingProxyType

from aiohttp import hdrs, web

__all__ = ["PATHS", "add_page"]

_FILES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "/": ("index.html", "text/html"),
        "/page.css": ("page.css", "text/css"),
        "/page.js": ("page.js", "text/javascript"),
    }
)
PATHS = frozenset(_FILES)
"""Where the files are."""

# Nothing but these files runs, nothing is asked but this port, and no other page may frame it
_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        hdrs.CACHE_CONTROL: "no-cache",
    }
)


def add_page(app: web.Application) -> None:
    """Have an application answer with the page."""
    for path, (name, media) in _FILES.items():
        body = files("console").joinpath("page", name).read_bytes()
        app.router.add_get(path, _giving(body, media))


def _giving(body: bytes, media: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def give(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=media, charset="utf-8", headers=_HEADERS)

    return give
