"""
The settings as a tree: which field a path leads to, and what may be written there.

One walk over the models serves the loader (which names are known here? is this a secret?), the
schema for editors and the documentation, so that the three cannot disagree.
"""

import types
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
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


@cache
def _known_fields(section: type[Section]) -> Mapping[str, FieldInfo]:
    """Give what `written_fields` gives, made once: documents have hundreds of thousands of values."""
    return MappingProxyType(written_fields(section))


def section_at(path: Path) -> type[Section] | None:
    """Give the section at a path from the root, or None where there is no section."""
    found = annotation_at(path)
    return found if isinstance(found, type) and issubclass(found, Section) else None


def is_private(path: Path) -> bool:
    """Say whether a path is, or lies within, a value that is never shown (a secret, a header)."""
    annotation: Any = Config
    for step in path:
        section = bare(annotation)
        if section is Provider and step == "headers":
            return True
        annotation = _into(section, step)
        if bare(annotation) is Secret:
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


def annotation_at(path: Path) -> Any:
    """Give the type of what stands at a path from the root, None where nothing may stand."""
    annotation: Any = Config
    for step in path:
        annotation = _into(bare(annotation), step)
    return bare(annotation)


def _into(annotation: Any, step: str | int) -> Any:
    if get_origin(annotation) is tuple:
        element = get_args(annotation)[0]
        # One budget may stand where a list of them may: then there is no index in the path
        return element if isinstance(step, int) else _into(bare(element), step)
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    if isinstance(annotation, type) and issubclass(annotation, Section):
        field = _known_fields(annotation).get(str(step))
        return field.annotation if field is not None else None
    return None
