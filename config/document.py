"""
A YAML document as a tree that still knows where everything was written.

Rules of this file:

- YAML is read as events (libyaml's parser where PyYAML carries it) and composed here, so that a
  document that is too deep, too large or an alias bomb is refused while it is read, and every
  mistake carries its line and column.
- Keys are texts, always: a team may be called `no` or `42`. A key twice in a mapping is a mistake.
- A scalar keeps how it was written (`raw`, `plain`); what it means is decided by its field
  (`config.scalars`).
- `${VARIABLE}` is expanded in scalars after parsing, so that no value of the environment can
  change the structure. References are shielded while YAML is parsed, because `{token: ${X}}` would
  otherwise be a mapping within a mapping.
- Anchors, aliases and merge keys (`<<`) work; a mistake in shared text is reported where the text is.

References: YAML 1.1 merge keys, https://yaml.org/type/merge.html; `${NAME:-default}` as in POSIX shell.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import yaml

from config.node import NULLS, REFERENCE, Entry, Node, describe
from config.problems import quoted
from config.scalars import Plain

LARGEST_BYTES = 8 * 1024 * 1024
DEEPEST = 64
MOST_NODES = 1_000_000

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_BODY = re.compile(rf"(?P<name>{_NAME})(?P<with_default>:-(?P<default>(?:(?!\$\{{).)*))?")
_SHIELDED = re.compile(r"\$\$(?:\{[^}\n]*\})?|\$\{[^}\n]*\}")
# What YAML calls printable: https://yaml.org/spec/1.1/#c-printable
_UNPRINTABLE = re.compile(
    "[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
_SHIELDS = ",[]{}:#"
_BEFORE = "write the anchor (&name) before what refers to it"
_MEND_YAML = "look at this line and the one before it: brackets, quotes, indentation"
_PRIVATE_PLANE = range(0xF0000, 0xFFFF0)
_ESCAPED = re.compile(r"\\U([0-9a-fA-F]{8})")
_BARE = re.compile(r"(?!.*:$)(?:[A-Za-z0-9_./$+]|-(?=[0-9.]))[A-Za-z0-9_./@$+:{}-]*")

# A key that is longer needs a mark before it: https://yaml.org/spec/1.2.2/#rule-c-s-implicit-json-key
_LONGEST_SIMPLE_KEY = 1024

# What YAML 1.1 makes something else of: https://yaml.org/type/bool.html, https://yaml.org/type/null.html
_NO_TEXTS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


@dataclass(frozen=True, slots=True)
class Flaw:
    """A mistake in the text itself."""

    line: int
    column: int
    message: str
    remedy: str = ""
    path: tuple[str | int, ...] = ()


class _Refused(Exception):
    def __init__(self, flaw: Flaw) -> None:
        self.flaw = flaw


# A file that was cut short, by a full disk or a command that failed, must not take everything away that runs.
_EMPTY = Flaw(1, 1, "it is empty", "write {} if nothing is to be set")


def compose(text: str) -> tuple[Node | None, list[Flaw]]:
    """
    Read one YAML document whose root is a mapping; `{}` is an empty one, and an empty text is none.

    Gives the tree, or None where there is none, and everything that is wrong with the text.
    Top-level keys that begin with `x-` (a place for anchors) are left out of the tree.
    """
    flaw = _unreadable(text)
    if flaw is not None:
        return None, [flaw]
    shields = _shields(text)
    if shields is None:
        return None, [Flaw(1, 1, "thousands of private-use characters", "take them out")]
    shield, unshield = shields
    composer = _Composer(unshield)
    try:
        root = composer.compose(_SHIELDED.sub(lambda found: shield(found[0]), text))
    except _Refused as refused:
        return None, [*composer.flaws, refused.flaw]
    root.entries = {name: each for name, each in root.entries.items() if not name.startswith("x-")}
    return root, composer.flaws


def _unreadable(text: str) -> Flaw | None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        return Flaw(line, 1, "a character that is not Unicode text", "save the file as UTF-8")
    if size > LARGEST_BYTES:
        return Flaw(
            1, 1, f"the document has {size} bytes; at most {LARGEST_BYTES} are read", "divide it"
        )
    odd = _UNPRINTABLE.search(text)
    if odd is not None:
        line, column = (
            text.count("\n", 0, odd.start()) + 1,
            odd.start() - text.rfind("\n", 0, odd.start()),
        )
        return Flaw(line, column, f"the control character U+{ord(odd[0]):04X}", "take it out")
    return None


def _shields(text: str) -> tuple[Callable[[str], str], Callable[[str], str]] | None:
    """
    Make a pair of functions that put characters with a meaning in YAML aside, and back.

    They become private-use characters (allowed in YAML, one for one, so that columns stay true)
    from a range that the text does not use, be it directly or by an escape. None if there is none.
    """
    used = set(map(ord, text)) | {int(each, 16) for each in _ESCAPED.findall(text)}
    width = len(_SHIELDS)
    free = (at for at in _PRIVATE_PLANE[::width] if used.isdisjoint(range(at, at + width)))
    start = next(free, None)
    if start is None:
        return None
    there = {ord(character): chr(start + n) for n, character in enumerate(_SHIELDS)}
    back = {start + n: character for n, character in enumerate(_SHIELDS)}

    def unshield(part: str) -> str:
        return part if part.isascii() else part.translate(back)

    return lambda part: part.translate(there), unshield


class _Composer:
    """Events in, tree out; `flaws` collects what does not end the reading."""

    def __init__(self, unshield: Callable[[str], str]) -> None:
        self.flaws: list[Flaw] = []
        self._unshield = unshield
        self._anchors: dict[str, Node | None] = {}  # None while the anchored node is being read
        self._nodes = 0
        self._depth = 0
        self._parser: Any = None

    def compose(self, text: str) -> Node:
        """Read the one document of `text`, or raise `_Refused`."""
        # The C parser is ten times as fast, but a PyYAML built without libyaml has none.
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            self._parser = loader(text)
            return self._document()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            said = self._unshield(error.problem or error.context or "it cannot be read")
            raise _Refused(
                Flaw(line, column, f"not YAML: {_readable(said)}", _MEND_YAML)
            ) from error
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            raise _Refused(Flaw(1, 1, "not YAML: it cannot be read", _MEND_YAML)) from error
        finally:
            if self._parser is not None:
                self._parser.dispose()

    def _document(self) -> Node:
        self._next()  # the stream begins
        if isinstance(self._next(), yaml.StreamEndEvent):
            raise _Refused(_EMPTY)
        root = self._node(self._next(), ())
        self._next()  # the document ends
        more = self._next()
        if not isinstance(more, yaml.StreamEndEvent):
            raise _Refused(
                _flaw_at(more, "a second document begins here", "write everything in one")
            )
        if root.is_nothing:
            raise _Refused(_EMPTY)
        if root.kind != "mapping":
            raise _Refused(
                Flaw(
                    root.line,
                    root.column,
                    f"the document is {describe(root)}; expected sections such as 'providers:'",
                    "write sections by name",
                )
            )
        return root

    def _next(self) -> Any:
        return self._parser.get_event()

    def _node(self, event: Any, path: tuple[str | int, ...]) -> Node:
        if isinstance(event, yaml.AliasEvent):
            self._count(event)
            return self._alias(event)
        anchor = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        if event.tag not in {None, "!", "tag:yaml.org,2002:str"}:
            self.flaws.append(
                _flaw_at(event, f"the YAML tag {_tag(event)}", "write it without a tag", path)
            )
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        else:
            node = self._container(event, path)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _count(self, event: Any) -> None:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise _Refused(_flaw_at(event, f"more than {MOST_NODES} values", "divide it"))

    def _scalar(self, event: Any) -> Node:
        self._count(event)
        mark = event.start_mark
        plain = not event.style and event.tag is None
        return Node("scalar", mark.line + 1, mark.column + 1, self._unshield(event.value), plain)

    def _container(self, event: Any, path: tuple[str | int, ...]) -> Node:
        self._count(event)
        # A document that is all opening brackets must not be followed down to find out
        if self._depth >= DEEPEST:
            raise _Refused(_flaw_at(event, f"nested more than {DEEPEST} levels deep", "nest less"))
        self._depth += 1
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, yaml.SequenceStartEvent):
            node = Node("list", line, column)
            items: list[Node] = []
            while not isinstance(event := self._next(), yaml.SequenceEndEvent):
                items.append(self._node(event, (*path, len(items))))
            node.items = items
        else:
            node = Node("mapping", line, column, entries=self._entries(path))
        self._depth -= 1
        for child in node.children():
            node.size += child.size
            node.height = max(node.height, child.height + 1)
        if node.size > MOST_NODES:
            raise _Refused(
                Flaw(
                    line,
                    column,
                    f"more than {MOST_NODES} values once its aliases are followed",
                    "write fewer aliases of aliases",
                )
            )
        if node.height > DEEPEST:
            raise _Refused(
                Flaw(line, column, f"nested more than {DEEPEST} levels deep", "nest less")
            )
        return node

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self._anchors:
            name = quoted(self._unshield(event.anchor))
            raise _Refused(
                _flaw_at(event, f"not YAML: no anchor {name} before this alias", _BEFORE)
            )
        node = self._anchors[event.anchor]
        if node is None:
            raise _Refused(_flaw_at(event, "an alias to what it stands in", "write it out"))
        return node

    def _entries(self, path: tuple[str | int, ...]) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        merged: list[Node] = []
        has_merge = False
        while not isinstance(key_event := self._next(), yaml.MappingEndEvent):
            key = self._node(key_event, path)
            # An alias may stand for a key; the place is where it is written
            line, column = key_event.start_mark.line + 1, key_event.start_mark.column + 1
            if key.kind != "scalar":
                what = f"a key that is {describe(key)}"
                self.flaws.append(Flaw(line, column, what, "a key is a text", path))
                self._node(self._next(), path)
                continue
            name = key.raw
            value = self._node(self._next(), (*path, name))
            if name == "<<" and key.plain:
                merged += self._merged(value, (line, column), path, again=has_merge)
                has_merge = True
            elif name in entries:
                message = f"duplicate key; first on line {entries[name].line}"
                self.flaws.append(Flaw(line, column, message, "keep one", (*path, name)))
            else:
                entries[name] = Entry(line, column, value)
        for other in merged:
            for name, entry in other.entries.items():
                entries.setdefault(name, entry)
        return entries

    def _merged(
        self, value: Node, at: tuple[int, int], path: tuple[str | int, ...], *, again: bool
    ) -> list[Node]:
        if again:
            self.flaws.append(
                Flaw(*at, "duplicate key", "merge several with <<: [*one, *two]", (*path, "<<"))
            )
            return []
        found = list(value.items) if value.kind == "list" else [value]
        if not all(each.kind == "mapping" for each in found):
            what = "a merge key takes a mapping or a list of mappings"
            self.flaws.append(Flaw(*at, what, "write <<: *anchor", (*path, "<<")))
            return []
        return found


def _flaw_at(event: Any, message: str, remedy: str = "", path: tuple[str | int, ...] = ()) -> Flaw:
    mark = event.start_mark
    return Flaw(mark.line + 1, mark.column + 1, message, remedy, path)


def _tag(event: Any) -> str:
    return quoted(event.tag.replace("tag:yaml.org,2002:", "!!", 1))


def _readable(said: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in said)


# From tree to values...


def expand(root: Node, environ: Mapping[str, str]) -> list[tuple[Node, str, str]]:
    """
    Give every scalar its value, and list those that cannot have one as (node, message, remedy).

    A scalar that is exactly one reference is `Plain`, so that its field decides its type; where
    `:-` gives it an empty default, it is nothing (None). One that holds a reference among other
    text is a text.
    """
    wrong: list[tuple[Node, str, str]] = []
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.kind != "scalar":
            waiting.extend(node.children())
        elif "$" in node.raw:
            wrong.extend((node, *why) for why in _expand_references(node, environ))
        elif node.plain:
            node.value = None if node.is_nothing else Plain(node.raw)
        else:
            node.value = node.raw
    return wrong


def _expand_references(node: Node, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    wrong: list[tuple[str, str]] = []
    explicitly_nothing = False

    def one(found: re.Match[str]) -> str:
        nonlocal explicitly_nothing
        if found[0] == "$$":
            return "$"
        body = _BODY.fullmatch(found["body"] or "")
        if body is None:
            nested = "${" in (found["body"] or "")
            wrong.append(
                (
                    "malformed reference; expected ${NAME} or ${NAME:-default}",
                    "a default cannot hold a reference" if nested else "write $$ for a plain $",
                )
            )
            return ""
        value = environ.get(body["name"])
        if body["with_default"] is not None:
            explicitly_nothing = not (value or body["default"])
            return value or body["default"]
        if value is None:
            wrong.append((f"the variable {body['name']} is not set", ""))
            return ""
        return value

    text = REFERENCE.sub(one, node.raw)
    node.unset = bool(wrong)
    if node.is_one_reference:
        node.value = None if explicitly_nothing else Plain(text)
    elif node.plain and not node.has_reference:
        node.value = Plain(text)
    else:
        node.value = text
    return wrong


def to_data(node: Node) -> Any:
    """Give the tree as dictionaries, lists and scalars; what is shared is given again and again."""
    if node.kind == "mapping":
        return {name: to_data(entry.node) for name, entry in node.entries.items()}
    if node.kind == "list":
        return [to_data(item) for item in node.items]
    return node.value


# From values to tree...


class TooDeep(ValueError):
    """A value is nested deeper than a document may be."""


def from_data(value: object, *, _depth: int = 0) -> Node:
    """
    Make a tree of dictionaries, lists and scalars, as if they had been written in a document.

    A text means what it would mean in quotes: its references are references, and it is no number.
    Raises TooDeep.
    """
    if _depth >= DEEPEST:
        raise TooDeep(f"nested more than {DEEPEST} levels deep")
    if isinstance(value, Mapping):
        entries = {
            str(name): Entry(0, 0, from_data(inner, _depth=_depth + 1))
            for name, inner in value.items()
        }
        return Node("mapping", 0, 0, entries=entries)
    if isinstance(value, list | tuple):
        return Node("list", 0, 0, items=[from_data(each, _depth=_depth + 1) for each in value])
    if isinstance(value, str):
        # Without quotes where every reader takes it for the same text
        plain = bool(value) and (_is_bare_key(value) or value.startswith("${"))
        return Node("scalar", 0, 0, str(value), plain)
    if value is None or isinstance(value, bool):
        return Node("scalar", 0, 0, {None: "null", True: "true", False: "false"}[value], plain=True)
    if isinstance(value, Decimal):
        return Node("scalar", 0, 0, f"{value:f}", plain=True)
    return Node("scalar", 0, 0, repr(value), plain=True)


# From tree to text...


def write(root: Node, instead: Mapping[int, str]) -> str:
    """
    Write the tree as YAML: the same text for the same tree, on every machine.

    References stay unexpanded; aliases are written out; comments are gone. `instead` gives other
    text for scalars, by the `id` of their node.
    """
    if not root.entries:
        return "{}\n"
    return "\n".join(_lines(root, instead)) + "\n"


def _lines(node: Node, instead: Mapping[int, str]) -> Iterator[str]:
    if node.kind == "mapping":
        for name, entry in node.entries.items():
            key = name if _is_bare_key(name) else _in_quotes(name)
            if len(key) > _LONGEST_SIMPLE_KEY:
                yield f"? {key}"
                key = ""
            if entry.node.items or entry.node.entries:
                yield f"{key}:"
                for line in _lines(entry.node, instead):
                    yield f"  {line}"
            else:
                yield f"{key}: {_leaf(entry.node, instead)}"
        return
    for item in node.items:
        if not (item.items or item.entries):
            yield f"- {_leaf(item, instead)}"
            continue
        mark = "- "
        for line in _lines(item, instead):
            yield mark + line
            mark = "  "


def _leaf(node: Node, instead: Mapping[int, str]) -> str:
    if node.kind != "scalar":
        return "{}" if node.kind == "mapping" else "[]"
    if id(node) in instead:
        return _in_quotes(instead[id(node)])
    if node.is_nothing:
        return "null"
    return node.raw if node.plain and _is_bare(node.raw) else _in_quotes(node.raw)


def _is_bare(text: str) -> bool:
    return text not in NULLS and _BARE.fullmatch(text) is not None


def _is_bare_key(name: str) -> bool:
    """Say whether every reader of YAML takes it for a text, as we do."""
    return _is_bare(name) and name[0].isalpha() and name.casefold() not in _NO_TEXTS


def _in_quotes(text: str) -> str:
    """Quote for YAML: double quotes, and an escape for everything that some reader might refuse."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable() and character <= "\uffff":
        return character
    return f"\\U{ord(character):08x}"
