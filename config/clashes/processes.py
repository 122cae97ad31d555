"""Where the two doors listen: apart from each other, and the operator's not open to strangers."""

import re
from collections.abc import Iterator

from config.clashes.clash import Clash
from config.node import Node, given, text
from config.problems import Path
from config.processes import AdminSettings, EdgeSettings
from config.scalars import split_listen

_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not listened on
_LOOPBACK = re.compile(r"127\.[0-9.]+|::1|localhost")


def check(root: Node) -> Iterator[Clash]:
    """Check the addresses of the data port and of the admin port."""
    admin = root.get("admin", "listen")
    edge_at = _address(root.get("edge", "listen"), EdgeSettings().listen)
    admin_at = _address(admin, AdminSettings().listen)
    # With the default in place the line to mend is the edge's
    where = admin or root.get("edge", "listen")
    path: Path = ("admin" if admin else "edge", "listen")
    if where is not None and edge_at and admin_at and edge_at[1] == admin_at[1] != 0:
        same = edge_at[0] == admin_at[0] or {edge_at[0], admin_at[0]} & _EVERYWHERE
        if same:
            yield Clash(
                path,
                where,
                f"the data port and the admin port are both {admin_at[1]}",
                "the two doors are kept apart; give each a port of its own",
            )
    has_token = given(root.get("admin", "token")) is not None
    if admin is not None and admin_at and not _LOOPBACK.fullmatch(admin_at[0]) and not has_token:
        yield Clash(
            ("admin", "listen"),
            admin,
            "the admin port would be open to other machines without a token",
            "add admin.token: ${PENSTOCK_ADMIN_TOKEN}, or listen on 127.0.0.1",
        )


def _address(node: Node | None, default: str) -> tuple[str, int] | None:
    if node is not None and node.unset:
        return None
    try:
        return split_listen(text(node) or default)
    except ValueError:
        return None
