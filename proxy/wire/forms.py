"""
Forms: bodies in ``multipart/form-data``, looked at and changed where they lie.

A form is scanned once for its boundaries (one search per part, however large a file is); only the few small
fields that matter are read, and nothing is decoded or copied. The model's name is replaced between the pieces of the
body as the caller sent it: `Spliced` is those pieces, which the connection writes one after another.

RFC 7578, RFC 2046 section 5.1.1. A body is refused when two parsers could read a field that matters differently: one that
is given twice, or whose header has its name twice.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from proxy.wire.look import BadField, Look

__all__ = ["Form", "Part", "Spliced", "is_form", "rewrite", "scan"]

MOST_PARTS: Final = 256
MOST_HEAD: Final = 8 * 1024
# Longer than this no field is that is not a file.
MOST_FIELD: Final = 256 * 1024

_BOUNDARY = re.compile(r';[ \t]*boundary=(?:"([^"\\]{1,70})"|([^ \t;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb';[ \t]*name=(?:"([^"]*)"|([^ \t;"\r\n]+))', re.IGNORECASE)
_FILE = re.compile(rb";[ \t]*filename\*?=", re.IGNORECASE)


class Part(NamedTuple):
    """One field: its name, where its value lies in the body, and whether it is a file."""

    name: str
    start: int
    end: int
    is_file: bool


class Form:
    """A form as it was scanned; `boundary` is without its dashes."""

    __slots__ = ("body", "boundary", "parts")

    def __init__(self, body: bytes, boundary: bytes, parts: list[Part]) -> None:
        self.body = body
        self.boundary = boundary
        self.parts = parts

    def texts(self, names: Iterable[str]) -> dict[str, str]:
        """Return the fields of these names that are there. Raises `BadField` for one that is there twice."""
        wanted = frozenset(names)
        found: dict[str, str] = {}
        for part in self.parts:
            if part.name not in wanted or part.is_file:
                continue
            if part.name in found:
                raise BadField(
                    part.name, f"{part.name} is given more than once; keep one", "duplicate"
                )
            if part.end - part.start > MOST_FIELD:
                raise BadField(part.name, f"{part.name} is longer than {MOST_FIELD} bytes")
            try:
                found[part.name] = self.body[part.start : part.end].decode()
            except UnicodeDecodeError:
                raise BadField(part.name, f"{part.name} is not UTF-8; send UTF-8") from None
        return found

    def files(self, *names: str) -> list[memoryview]:
        """Return the contents of the files of these names, where they lie."""
        view = memoryview(self.body)
        return [
            view[part.start : part.end]
            for part in self.parts
            if part.is_file and part.name in names
        ]

    def span(self, name: str) -> tuple[int, int]:
        """Say where the value of a field lies; before the first part where there is no such field."""
        for part in self.parts:
            if part.name == name and not part.is_file:
                return part.start, part.end
        return 0, 0


class Spliced:
    """A body in pieces, some of them the caller's own bytes; `len` is of all of them."""

    __slots__ = ("_size", "pieces")

    def __init__(self, pieces: "Iterable[bytes | memoryview[int]]") -> None:
        self.pieces = tuple(pieces)
        self._size = sum(map(len, self.pieces))

    def __len__(self) -> int:
        """Return the length of the whole body in bytes."""
        return self._size

    def __bytes__(self) -> bytes:
        """Return the body in one piece."""
        return b"".join(self.pieces)


def is_form(content_type: str) -> bool:
    """Say whether a body of this type is a form."""
    return content_type[:19].lower() == "multipart/form-data"


def scan(body: bytes, content_type: str) -> Form:
    """Find the fields of a form. Raises `BadField`."""
    said = _BOUNDARY.search(content_type)
    if said is None:
        raise _broken("its content-type names no boundary")
    try:
        boundary = (said[1] or said[2]).encode("ascii")
    except UnicodeEncodeError:
        raise _broken("its boundary is not ASCII") from None
    delimiter = b"--" + boundary
    at = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    if at == 1:
        raise _broken("the boundary of its content-type is not in the body")
    parts: list[Part] = []
    while True:
        at += len(delimiter)
        if body.startswith(b"--", at):
            if body[at + 2 :].strip():
                raise _broken("something stands behind its last boundary")
            return Form(body, boundary, parts)
        line_end = body.find(b"\r\n", at, at + 1024)
        if line_end < 0 or body[at:line_end].strip(b" \t"):
            raise _broken("a boundary is not followed by a line end")
        begin = line_end + 2
        head_end = body.find(b"\r\n\r\n", begin - 2, begin + MOST_HEAD)
        if head_end < 0:
            raise _broken("the head of a part has no end")
        start = head_end + 4
        end = body.find(b"\r\n" + delimiter, start - 2)
        if end < 0:
            raise _broken("its last boundary is missing")
        if len(parts) == MOST_PARTS:
            raise _broken(f"it has more than {MOST_PARTS} parts")
        parts.append(_part(body[begin : head_end + 2], start, max(start, end)))
        at = end + 2


def rewrite(body: bytes, seen: Look, upstream_model: str) -> "bytes | Spliced":
    """Give the body that goes upstream: with another model's name, or with one where the caller named none."""
    ((start, end),) = seen.cuts
    if upstream_model == seen.model and end:
        return body
    view = memoryview(body)
    new = upstream_model.encode()
    if not end:
        new = b'--%b\r\ncontent-disposition: form-data; name="model"\r\n\r\n%b\r\n' % (
            seen.form,
            new,
        )
        start = end = body.find(b"--" + seen.form)
    return Spliced((view[:start], new, view[end:]))


def number(texts: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    """Read a whole number of a form, None where it is not there. Raises `BadField`."""
    text = texts.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or not low <= int(text[:12]) <= high:
        raise BadField(name, f"{name} must be a whole number from {low} to {high}")
    return int(text)


def flag(texts: Mapping[str, str], name: str) -> bool:
    """Read a switch of a form. Raises `BadField`."""
    text = texts.get(name, "").strip().lower()
    if text not in {"", "true", "false", "1", "0"}:
        raise BadField(name, f"{name} must be true or false")
    return text in {"true", "1"}


def _part(head: bytes, start: int, end: int) -> Part:
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() != b"content-disposition":
            continue
        names = _NAME.findall(value)
        if len(names) != 1:
            raise _broken("a part has no name, or more than one")
        name = (names[0][0] or names[0][1]).decode("utf-8", "replace")
        # Some clients write a list as `image[]`.
        return Part(name.removesuffix("[]"), start, end, _FILE.search(value) is not None)
    raise _broken("a part has no content-disposition")


def _broken(why: str) -> BadField:
    return BadField(None, f"the form cannot be read: {why}", "invalid_form")
