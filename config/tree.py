"""
The settings as a tree: which field a path leads to, and what may be written there.

One walk over the models serves the loader (which names are known here? is this a secret?), the
schema for editors and the documentation, so that the three cannot disagree.
"""

import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from config.models import Config
from config.problems import Path
from config.providers import Provider
from config.secrets import Secret
from config.section import Section


def written_fields(section: type[Section]) -> dict[str, FieldInfo]:
    """Give the fields of a section by the name they have in YAML."""
    return {
        str(field.validation_alias or attribute): field
        for attribute, field in section.model_fields.items()
    }


def section_at(path: Path) -> type[Section] | None:
    """Give the section at a path from the root, or None where there is no section; one may stand where a list of them may."""
    return _place_at(path).section


def annotation_at(path: Path) -> Any:
    """Give the type of what stands at a path from the root, None where nothing may stand."""
    return _place_at(path).annotation


def is_private(path: Path) -> bool:
    """Say whether a path is, or lies within, a value that is never shown (a secret, a header)."""
    place = _ROOT
    for step in path:
        place = place.into(step)
        if place.is_private:
            return True
    return False


def bare(annotation: Any) -> Any:
    """Take `Annotated` and `| None` off a type."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in {Union, types.UnionType}:
            left = [each for each in get_args(annotation) if each is not type(None)]
            if len(left) != 1:
                return annotation
            annotation = left[0]
        else:
            return annotation


# The walk...


class _Place:
    """What may stand at a place. Made once for each, and not for each walk: documents have hundreds of thousands of values."""

    __slots__ = ("_each", "_is_list", "annotation", "is_private", "section")

    def __init__(self, annotation: Any, *, is_private: bool = False) -> None:
        found = bare(annotation)
        self.annotation = found
        self.is_private = is_private or found is Secret
        self.section = found if isinstance(found, type) and issubclass(found, Section) else None
        kind = get_origin(found)
        self._is_list = kind is tuple
        # What every name of a mapping leads to, and every index of a list
        self._each: _Place | None = None
        if kind in {dict, tuple}:
            self._each = _Place(get_args(found)[kind is dict])
            if self._is_list:
                # One budget may stand where a list of them may: then there is no index in the path
                self.section = self._each.section

    def into(self, step: str | int) -> "_Place":
        """Give what stands there by a name or an index."""
        if self._each is not None and not (self._is_list and isinstance(step, str)):
            return self._each
        return _NOTHING if self.section is None else _places(self.section).get(str(step), _NOTHING)


@cache
def _places(section: type[Section]) -> Mapping[str, _Place]:
    return {
        name: _Place(field.annotation, is_private=section is Provider and name == "headers")
        for name, field in written_fields(section).items()
    }


def _place_at(path: Path) -> _Place:
    place = _ROOT
    for step in path:
        place = place.into(step)
    return place


_NOTHING = _Place(None)
_ROOT = _Place(Config)
