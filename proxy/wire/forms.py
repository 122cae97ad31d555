"""
Forms: bodies in ``multipart/form-data``, looked at and changed where they lie.

A form is scanned once for its boundaries (one search per part, however large a file is); only the few small
fields that matter are read, and nothing is decoded or copied. The model's name is replaced between the pieces of the
body as the caller sent it: `Spliced` is those pieces, which the connection writes one after another.

RFC 7578, RFC 2046 section 5.1.1. A body is refused when two parsers could read it differently, or a vendor might serve
another model than the one that was admitted: a boundary that is said twice, or stands where no part begins; a part whose
head has a folded or a bare line, two dispositions, two names, or a name in RFC 2231's way; a field that matters and is
given twice, or as a file.
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
# However it is spelled, it is said once.
_BOUNDARIES = re.compile(r"boundary[ \t]*(?:\*[0-9*]*)?[ \t]*=", re.IGNORECASE)
# A parameter of a part's disposition. A backslash before a quote may escape it or not: parsers differ.
_PARAMETER = re.compile(
    rb';[ \t]*([^\s;="]+)=(?:"((?:[^"\\]|\\(?!"))*)"|([^\s;"]*))[ \t]*', re.IGNORECASE
)
_WHOLE = re.compile(r"[0-9]{1,12}")
# What may end a line, or go on with the one before.
_BROKEN_LINE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\n[ \t]|\0")


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
            if part.name not in wanted:
                continue
            if part.is_file:
                raise BadField(
                    part.name, f"{part.name} is sent as a file; send it as a plain field"
                )
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
    if said is None or len(_BOUNDARIES.findall(content_type)) > 1:
        raise _broken("its content-type does not name one boundary")
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
            if body.count(delimiter) > len(parts) + 1:
                raise _broken("its boundary stands within a part")
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
    if _WHOLE.fullmatch(text) is None or not low <= int(text) <= high:
        raise BadField(name, f"{name} must be a whole number from {low} to {high}")
    return int(text)


def flag(texts: Mapping[str, str], name: str) -> bool:
    """Read a switch of a form. Raises `BadField`."""
    text = texts.get(name, "").strip().lower()
    if text not in {"", "true", "false", "1", "0"}:
        raise BadField(name, f"{name} must be true or false")
    return text in {"true", "1"}


def _part(head: bytes, start: int, end: int) -> Part:
    if _BROKEN_LINE.search(head):
        raise _broken("the head of a part has a line that is folded, or ends without CR LF")
    said = [
        value
        for key, _, value in (line.partition(b":") for line in head.split(b"\r\n"))
        if key.strip().lower() == b"content-disposition"
    ]
    if len(said) != 1:
        raise _broken("a part has no content-disposition, or more than one")
    value = said[0].rstrip(b"; \t")
    names: list[bytes] = []
    is_file = False
    at = value.find(b";")
    while 0 <= at < len(value):
        parameter = _PARAMETER.match(value, at)
        if parameter is None:
            raise _broken("a part's content-disposition can be read in more than one way")
        key, extended, _ = parameter[1].lower().partition(b"*")
        if key == b"name":
            # In RFC 2231's way it may stand in pieces and in another coding, and not every parser knows.
            names.append(b"" if extended else parameter[2] or parameter[3] or b"")
        is_file = is_file or key == b"filename"
        at = parameter.end()
    if len(names) != 1 or not names[0] or b"\\" in names[0]:
        raise _broken("a part has no plain name, or more than one")
    # Some clients write a list as `image[]`.
    return Part(names[0].decode("utf-8", "replace").removesuffix("[]"), start, end, is_file)


def _broken(why: str) -> BadField:
    return BadField(None, f"the form cannot be read: {why}", "invalid_form")
