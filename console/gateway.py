"""
The admin API as commands use it: where it is, with which token, and what it answers.

In this order: what the command line says (`--admin-url`, `--token-file`, `--config`), the environment
(PENSTOCK_ADMIN_URL, PENSTOCK_ADMIN_TOKEN), `admin` of `penstock.yaml` here or in the checkout, and
what holds without any of them: 127.0.0.1:8081, no token.
The token is never on a command line, which everybody on the machine can read.

Of a configuration only `admin` is read, so that operating needs none of its other secrets.
"""

import argparse
import http.client
import json
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from console.parser import unreadable
from console.settings import Settings, Unreadable, usual_file
from store.places import CONFIG_NAME

__all__ = ["Gateway", "Misuse", "No", "Unreachable", "add_options", "gateway"]

DEFAULT_LISTEN = "127.0.0.1:8081"
ANSWER_WITHIN_S = 30.0
_VISIBLE = re.compile(r"[\x21-\x7e]+")


class Misuse(Exception):
    """What was typed, or what was found by it, cannot be used; the message says what to do."""


class Unreachable(Exception):
    """No gateway answers there; the message says where, and what to do."""


class No(Exception):
    """The gateway refused; `error` is what it said, with `code` and `message`."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        self.status = status
        self.error = error
        super().__init__(str(error.get("message", f"the gateway answers {status}")))


def add_options(parser: argparse.ArgumentParser, *, config: bool = True) -> None:
    """Let a command say where the gateway is; `config` is False where it has that option already."""
    parser.add_argument(
        "--admin-url",
        metavar="URL",
        help="the admin port, as in http://127.0.0.1:8081 (default: $PENSTOCK_ADMIN_URL, then the"
        " configuration)",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="holds the admin token (default: $PENSTOCK_ADMIN_TOKEN, then the configuration)",
    )
    if config:
        parser.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help=f"the configuration that says both (default: {CONFIG_NAME})",
        )


class Gateway:
    """One admin port; `url` is http or https, `by` who operates."""

    def __init__(self, url: str, token: str | None, by: str) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == -1:
            raise Misuse(f"{url!r} is no URL of an admin port; write http://HOST:PORT")
        if token is not None and not _VISIBLE.fullmatch(token):
            raise Misuse("the admin token holds a space, a line break or the like; it is not sent")
        self.url = url.rstrip("/")
        self._parts = parts
        self._token = token
        self._by = by

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, wait_s: float = 0
    ) -> Any:
        """Make a call and return its answer. Raises `No` and `Unreachable`."""
        headers: dict[str, str | bytes] = {
            "Accept": "application/json",
            "x-penstock-actor": self._by.encode(),
        }
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection = self._connection(ANSWER_WITHIN_S + wait_s)
        try:
            # http.client takes bytes as header values too
            connection.request(
                method,
                self._parts.path.rstrip("/") + path,
                data,
                headers,
            )
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
            raise Unreachable(
                f"no gateway answers at {self.url}: {why}\n"
                "start it with ./penstock up, or say where it is: --admin-url or PENSTOCK_ADMIN_URL"
            ) from error
        finally:
            connection.close()
        try:
            said = json.loads(text)
        except ValueError:
            raise Unreachable(
                f"what answers at {self.url} is no Penstock gateway (status {answer.status})"
            ) from None
        if answer.status < 300:
            return said
        refusal = said.get("error") if isinstance(said, dict) else None
        raise No(answer.status, refusal if isinstance(refusal, dict) else {})

    def _connection(self, within_s: float) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(
                host, port, timeout=within_s, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(host, port, timeout=within_s)


def gateway(
    options: argparse.Namespace, environ: Mapping[str, str], here: Path, *, by: str
) -> Gateway:
    """Return the gateway that a command line means. Raises `Misuse`."""
    url = options.admin_url or environ.get("PENSTOCK_ADMIN_URL") or ""
    token = environ.get("PENSTOCK_ADMIN_TOKEN") or ""
    if options.token_file is not None:
        try:
            token = options.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Misuse(unreadable(options.token_file, error)) from error
    listen = DEFAULT_LISTEN
    if not url or not token or options.config is not None:
        config = options.config or usual_file(here)
        if config is not None:
            try:
                settings = Settings(config, environ)
            except Unreadable as error:
                raise Misuse(str(error)) from error
            listen = settings.get("admin", "listen") or listen
            token = token or settings.get("admin", "token") or ""
    return Gateway(url or _url(listen), token or None, by)


def _url(listen: str) -> str:
    """Return where to ask for what listens there; every address is this machine's too."""
    host, _, port = listen.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - compared with
    return f"http://{host}:{port}"
