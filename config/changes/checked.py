"""
The one way from a change to a configuration: the whole result is checked as every configuration is (`config.loader`).

A value that is shown as `***` (`config.differences.exported`) and given back stands for the live one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from config import document as documents
from config.changes.draft import Draft, Edit
from config.differences import is_mask, scalars, shown
from config.loader import ConfigError, Loaded, Problem, check_text, load_text
from config.node import Node
from config.problems import spell
from config.secrets import MASK

__all__ = ["checked", "taken_over"]

SOURCE = "request"


def checked(document: str, edit: Edit, environ: Mapping[str, str]) -> Loaded:
    """
    Give the configuration that a published document becomes by an edit.

    Raises ConfigError with every mistake, and what the edit raises.
    """
    draft = Draft(document, environ)
    edit(draft)
    try:
        return taken_over(draft.text(), document, environ, source=SOURCE)
    except ConfigError as error:
        # Whoever asks for a change has no text in front of him: the path is the place
        raise ConfigError([replace(each, line=0, column=0) for each in error.problems]) from None


def taken_over(text: str, live: str | None, environ: Mapping[str, str], *, source: str) -> Loaded:
    """
    Read a whole configuration that is to take the place of the live one.

    What is masked in it keeps the value that it has there. Raises ConfigError with every mistake.
    """
    if MASK not in text:
        return load_text(text, source=source, environ=environ)
    root, flaws = documents.compose(text)
    if root is None or flaws:
        raise ConfigError(check_text(text, source=source, environ=environ))
    before = None if live is None else documents.compose(live)[0]
    unknown = list(_unmask(root, before, source))
    written = documents.write(root, {})
    if unknown:
        others = check_text(written, source=source, environ=environ)
        places = {problem.path for problem in unknown}
        raise ConfigError([*unknown, *(each for each in others if each.path not in places)])
    return load_text(written, source=source, environ=environ)


def _unmask(root: Node, live: Node | None, source: str) -> Iterator[Problem]:
    """Put back what was masked; yields a problem for each mask that stands for nothing."""
    for path, node in scalars(root):
        if not is_mask(path, node.raw):
            continue
        known = None if live is None else live.at(path)
        if known is not None and known.kind == "scalar" and shown(path, known.raw) == node.raw:
            node.raw, node.plain = known.raw, known.plain
        else:
            yield Problem(
                source=source,
                path=spell(path),
                line=node.line,
                column=node.column,
                message=f"{MASK} stands for a value that is not shown, and there is none to keep",
                expected="a value",
                remedy="write ${VARIABLE}",
            )
