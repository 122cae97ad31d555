"""Laws of the page: anybody may have its files, nothing foreign runs in it, and all that it asks and fills is there."""

import re
from collections.abc import Awaitable, Callable
from importlib.resources import files

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from console.admin import routes
from console.page_routes import PATHS, add_page
from governance.usage import DIMENSIONS

Client = Callable[[web.Application], Awaitable[TestClient]]


def text_of(name: str) -> str:
    return files("console").joinpath("page", name).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(PATHS))
async def test_a_file_is_given_with_its_kind_and_its_bounds(
    path: str, aiohttp_client: Client
) -> None:
    """Scripts, styles and questions of this port alone, in nobody's frame; a browser does not guess."""
    app = web.Application()
    add_page(app)
    answer = await (await aiohttp_client(app)).get(path)
    assert answer.status == 200
    kinds = {"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"}
    assert answer.content_type == kinds[path]
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"
    )
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_stands_under_its_own_policy() -> None:
    """No script and no style within the page, nothing from elsewhere, and nothing written as markup."""
    page, script = text_of("index.html"), text_of("page.js")
    assert not re.search(
        r"<style|\sstyle=|\son\w+=|<script(?! src=\"page.js\" defer></script>)", page
    )
    assert not re.search(r"https?://", page + script + text_of("page.css"))
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\.style\b", script
    )


def test_the_script_fills_what_the_page_has() -> None:
    """Every id that it looks for, and every part that the page keeps free."""
    page, script = text_of("index.html"), text_of("page.js")
    ids = set(re.findall(r'id="(\w+)"', page))
    asked = set(re.findall(r'\$\("(\w+)"\)|table\("(\w+)"', script))
    used = {name for pair in asked for name in pair if name}
    assert used <= ids
    assert set(re.findall(r'<div id="(\w+)"', page)) <= used
    assert len(re.findall(r' id="', page)) == len(set(re.findall(r' id="([\w-]+)"', page)))


def test_the_script_asks_what_is_answered() -> None:
    """Routes of the admin API that only read, and dimensions of usage."""
    script = text_of("page.js")
    answered = {re.sub(r"\{\w+\}", "", route.path) for route in routes() if route.method == "GET"}
    asked = {each.partition("?")[0] for each in re.findall(r'ask\([`"](/v1/[\w/?]*)', script)}
    assert len(asked) >= 8
    assert asked <= answered
    assert "method:" not in script
    choices = re.findall(
        r"<option>(\w+)</option>|<option value=\"([a-z_]+)\">", text_of("index.html")
    )
    assert {first or second for first, second in choices} <= set(DIMENSIONS)
