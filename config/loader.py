"""
From YAML and an environment to a `Config`, or to everything that is wrong, at once.

The steps: compose the text (`config.document`), expand references, check every field
(`config.models`) and what places say of each other (`config.clashes`), then place each mistake in the text.
Either all of a document is taken or none of it.

The document that is published to replicas is the text "as written": every caller's key is replaced
by its hash, keyed where the environment has a key secret (`config.keys`), and other references stay
unexpanded, so that a replica takes its providers' keys from its own environment. What came from the
environment is in no problem and in no document; the key secret is no variable that one can refer to.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from config import clashes
from config import document as documents
from config.keys import VARIABLE, BadKeySecret, KeySecrets
from config.models import Config
from config.node import Node, describe
from config.outline import caller_key_hash, keys_in
from config.problems import ConfigError, Path, Problem, nearest, quoted, spell
from config.secrets import masked_url
from config.tree import is_private, section_at, written_fields

__all__ = [
    "ConfigError",
    "Loaded",
    "Problem",
    "as_written",
    "check_file",
    "check_text",
    "former_documents",
    "load_file",
    "load_published",
    "load_text",
    "rekeyed",
]

# What a replica is told on its command line; the variables need not be set where it runs.
NOT_FOR_REPLICAS: tuple[tuple[str, str], ...] = (
    ("store", "redis"),
    ("store", "ledger"),
    ("admin", "token"),
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration without mistakes, its published form, and warnings (never errors)."""

    config: Config
    document: str = field(repr=False)
    problems: tuple[Problem, ...]
    key_id: str = ""
    """The id of the key secret that keys were hashed with, empty where there is none."""


def load_text(text: str, *, source: str, environ: Mapping[str, str]) -> Loaded:
    """
    Read a configuration; `source` is what problems call it.

    Raises ConfigError with every mistake, and nothing else, whatever the text is.
    """
    return _load(text, source, environ, published=False)


def load_file(path: str | os.PathLike[str], environ: Mapping[str, str]) -> Loaded:
    """Read a configuration from a UTF-8 file; as `load_text`, also when there is no such file."""
    source = os.fspath(path)
    return load_text(_read(source), source=source, environ=environ)


def former_documents(path: str | os.PathLike[str], environ: Mapping[str, str]) -> list[str]:
    """
    Give what a file was published as before its keys were hashed with the first key secret.

    That is without a key secret, and with each of the others first; nothing where the file has mistakes.
    """
    others = {name: value for name, value in environ.items() if name != VARIABLE}
    said = [each.strip() for each in environ.get(VARIABLE, "").split(",") if each.strip()]
    turned = [",".join([each, *(one for one in said if one != each)]) for each in said[1:]]
    try:
        return [
            load_file(path, {**others, **named}).document
            for named in ({}, *({VARIABLE: text} for text in turned))
        ]
    except ConfigError:
        return []


def check_text(text: str, *, source: str, environ: Mapping[str, str]) -> tuple[Problem, ...]:
    """List everything that is wrong with a text, warnings included; never raises."""
    try:
        return load_text(text, source=source, environ=environ).problems
    except ConfigError as error:
        return error.problems


def check_file(path: str | os.PathLike[str], environ: Mapping[str, str]) -> tuple[Problem, ...]:
    """List everything that is wrong with a file, warnings included; never raises."""
    try:
        return load_file(path, environ).problems
    except ConfigError as error:
        return error.problems


def as_written(text: str, environ: Mapping[str, str], *, source: str = "configuration") -> str:
    """Give the published form of a configuration; raises ConfigError if it has mistakes."""
    return load_text(text, source=source, environ=environ).document


def load_published(
    document: str, environ: Mapping[str, str], *, source: str = "live configuration"
) -> Config:
    """
    Read a published document where a replica runs; raises ConfigError if it cannot.

    References are resolved in the replica's environment. The settings in `NOT_FOR_REPLICAS` take
    their default where the variable is not set there.
    """
    return _load(document, source, environ, published=True).config


def _read(source: str) -> str:
    try:
        with open(source, "rb") as file:  # noqa: PTH123 - may be a pipe or /dev/stdin
            data = file.read(documents.LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "no path"
        raise ConfigError([_without_place(source, f"cannot be read: {why}")]) from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(data) > documents.LARGEST_BYTES:
            return data.decode("utf-8", "replace")  # refused for its size
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            [
                Problem(
                    source=source,
                    path="",
                    line=line,
                    column=error.start - data.rfind(b"\n", 0, error.start),
                    message="not UTF-8",
                    remedy="save the file as UTF-8",
                )
            ]
        ) from error


def _without_place(source: str, message: str) -> Problem:
    return Problem(source=source, path="", line=0, column=0, message=message)


def _load(text: str, source: str, environ: Mapping[str, str], *, published: bool) -> Loaded:
    root, flaws = documents.compose(text)
    problems = [
        Problem(
            source=source,
            path=spell(flaw.path),
            line=flaw.line,
            column=flaw.column,
            message=flaw.message,
            remedy=flaw.remedy,
        )
        for flaw in flaws
    ]
    if root is None:
        raise ConfigError(problems)
    try:
        secrets = KeySecrets.said(environ)
    except BadKeySecret as error:
        raise ConfigError([*problems, _without_place(VARIABLE, str(error))]) from None
    reading = _Reading(root, source)
    others = {name: value for name, value in environ.items() if name != VARIABLE}
    problems += reading.expand(others, published=published)
    config, found = reading.validate()
    problems += found
    problems += reading.check_places(published=published, secrets=secrets)
    problems.sort(key=lambda each: (each.line, each.column, each.path))
    if config is None or any(each.severity == "error" for each in problems):
        raise ConfigError(problems)
    document = text if published else _publishable(root, secrets)
    if len(document.encode()) > documents.LARGEST_BYTES:
        # Anchors unfold as they are published, and no replica would read the result
        message = f"more than {documents.LARGEST_BYTES} bytes in its published form"
        raise ConfigError([_without_place(source, message)])
    return Loaded(config, document, tuple(problems), "" if secrets is None else secrets.id)


def rekeyed(document: str, secrets: KeySecrets) -> str:
    """
    Give a published document in which every hash is keyed.

    What some secret has keyed already, here or not, stays as it is.
    """
    root, flaws = documents.compose(document)
    if root is None or flaws:
        return document
    documents.expand(root, {})  # a hash refers to nothing; what is not set stays as it was written
    return _publishable(root, secrets)


def _publishable(root: Node, secrets: KeySecrets | None) -> str:
    """Write the document with every caller's key as its hash, and without anchors and comments."""
    hashes: dict[int, str] = {}
    for _, key in keys_in(root):
        node = key.node.get("key")
        digest = caller_key_hash(node)
        # A valid document has a readable key in each of these places
        assert node is not None
        assert digest is not None
        hashes[id(node)] = digest if secrets is None else secrets.keyed(digest)
    return documents.write(root, hashes)


class _Reading:
    """One document on its way to a `Config`; knows where everything was written."""

    def __init__(self, root: Node, source: str) -> None:
        self._root = root
        self._source = source

    def expand(self, environ: Mapping[str, str], *, published: bool) -> Iterator[Problem]:
        """Give every scalar its value; yields references that have none."""
        wrong: dict[int, list[tuple[str, str]]] = {}
        for node, message, remedy in documents.expand(self._root, environ):
            wrong.setdefault(id(node), []).append((message, remedy))
        if published:
            for names in NOT_FOR_REPLICAS:
                setting = self._root.get(*names)
                if setting is not None and wrong.pop(id(setting), None) is not None:
                    setting.value, setting.unset = None, False
        if not wrong:
            return
        for path, each in _walk(self._root, ()):
            # A shared scalar is reported once, where it is met first
            # and nobody is told to write a secret into the file
            for message, remedy in wrong.pop(id(each), ()):
                fallback = "set it" if is_private(path) else "set it, or write ${NAME:-default}"
                yield self._problem(
                    path, each.line, each.column, message, remedy=remedy or fallback
                )

    def validate(self) -> tuple[Config | None, list[Problem]]:
        """Check every field."""
        try:
            # by_name=False: in YAML a field has one name only
            config = Config.model_validate(
                documents.to_data(self._root), by_alias=True, by_name=False
            )
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
            return None, [found for each in errors for found in self._field_problem(each)]
        return config, []

    def check_places(self, *, published: bool, secrets: KeySecrets | None) -> Iterator[Problem]:
        """Check what one place says about another."""
        for clash in clashes.check(self._root, published=published, key_secrets=secrets):
            yield self._problem(
                clash.path,
                clash.where.line,
                clash.where.column,
                clash.message,
                nearest=clash.nearest,
                remedy=clash.remedy,
                severity=clash.severity,
            )

    def _problem(self, path: Path, line: int, column: int, message: str, **more: str) -> Problem:
        return Problem(
            source=self._source,
            path=spell(path),
            line=line,
            column=column,
            message=message,
            **more,
        )

    # What pydantic says, in our words...

    def _field_problem(self, error: Any) -> Iterator[Problem]:
        kind: str = error["type"]
        place = _locate(self._root, error["loc"])
        context: dict[str, Any] = error.get("ctx", {})
        if kind == "extra_forbidden":
            yield self._unknown_field(place)
        elif kind == "missing":
            name = str(error["loc"][-1])
            section = section_at(place.path)
            known = written_fields(section) if section else {}
            yield self._problem(
                (*place.path, name),
                place.key_line,
                place.key_column,
                "missing",
                expected=(known[name].description or "") if name in known else "",
                remedy=f"add '{name}:'",
            )
        elif place.node.unset or (kind == "too_short" and place.node.items):
            return  # what is wrong there, or in its items, is said elsewhere
        elif place.is_key:
            yield self._wrong(place, quoted(str(place.path[-1])), context)
        elif kind == "mistake":
            yield self._wrong(place, self._found(place), context)
        else:
            expected = _EXPECTED.get(kind)
            if expected is None:
                expected = str(error["msg"])
            yield self._wrong(place, describe(place.node), {"expected": expected})

    def _unknown_field(self, place: "_Place") -> Problem:
        name = str(place.path[-1])
        section = section_at(place.path[:-1])
        known = list(written_fields(section)) if section else []
        meant = nearest(name, known)
        return self._problem(
            place.path,
            place.key_line,
            place.key_column,
            "unknown field",
            found=name,
            expected=", ".join(known),
            nearest=meant,
            remedy="" if meant else f"known here: {', '.join(known)}",
        )

    def _wrong(self, place: "_Place", found: str, context: dict[str, Any]) -> Problem:
        expected = str(context.get("expected", ""))
        remedy = str(context.get("remedy", ""))
        node = place.node
        if node.kind == "scalar" and node.has_reference and not node.is_one_reference:
            # "remove the quotes" would not help
            remedy = remedy and "a number is read where ${VARIABLE} stands alone"
        line, column = (
            (place.key_line, place.key_column) if place.is_key else (node.line, node.column)
        )
        choices = context.get("choices", ())
        return self._problem(
            place.path,
            line,
            column,
            f"found {found}, expected {expected}",
            found=found,
            expected=expected,
            nearest="" if is_private(place.path) else nearest(node.raw, choices),
            remedy=remedy,
        )

    def _found(self, place: "_Place") -> str:
        """Say what was found as it was written, unless that would show a secret."""
        node = place.node
        if node.kind != "scalar" or node.is_nothing:
            return describe(node)
        if is_private(place.path):
            return "a text that is not shown"
        return quoted(masked_url(node.raw), longest=60)


@dataclass(frozen=True, slots=True)
class _Place:
    path: Path
    node: Node
    key_line: int
    key_column: int
    is_key: bool


def _locate(root: Node, location: tuple[str | int, ...]) -> _Place:
    """
    Find what pydantic's `loc` speaks of.

    A step that leads nowhere is left out: the index of a budget that was written without a list,
    a field that is missing, and the marks that pydantic adds.
    """
    node, line, column, is_key = root, root.line, root.column, False
    steps: list[str | int] = []
    for step in location:
        if isinstance(step, int):
            if node.kind == "list" and step < len(node.items):
                node = node.items[step]
                line, column = node.line, node.column
                steps.append(step)
        elif step == "[key]" and location[-1] == step:
            is_key = True
        elif (entry := node.entries.get(step)) is not None:
            node, line, column = entry.node, entry.line, entry.column
            steps.append(step)
    return _Place(tuple(steps), node, line, column, is_key)


def _walk(node: Node, path: Path) -> Iterator[tuple[Path, Node]]:
    yield path, node
    for at, item in enumerate(node.items):
        yield from _walk(item, (*path, at))
    for name, entry in node.entries.items():
        yield from _walk(entry.node, (*path, name))


# Errors of shape that pydantic finds itself; all others are raised by `config.scalars`.
_EXPECTED = {
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "too_short": "at least one entry",
    "too_long": "fewer entries",
}
