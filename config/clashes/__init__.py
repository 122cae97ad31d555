"""
What is wrong between places of a document: names that lead nowhere or are taken, and words that contradict each other.

All of it is seen on the tree as written, not on the checked models, so that these mistakes are reported
together with all others. Whatever has the wrong shape is passed over here; the models report it.
A file stands for each part of the document, as in `config` itself.
"""

from collections.abc import Iterator

from config.clashes import cells, models, processes, providers, routes, secrets, tenants, trials
from config.clashes.clash import Clash
from config.keys import KeySecrets
from config.node import Node

__all__ = ["Clash", "check"]


def check(root: Node, *, published: bool, key_secrets: KeySecrets | None = None) -> Iterator[Clash]:
    """
    Give every clash of a document whose scalars have their values.

    A `published` document is read by a replica: where others listen and how the file wrote its
    secrets was judged when it was published. Without `key_secrets` keyed hashes are not judged.
    """
    yield from providers.check(root)
    yield from models.check(root)
    yield from routes.check(root)
    yield from trials.check(root)
    yield from tenants.check(root, key_secrets)
    yield from cells.check(root)
    if not published:
        yield from processes.check(root)
        yield from secrets.check(root)
