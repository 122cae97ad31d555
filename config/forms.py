"""Short forms of sections: one in the place of a list, a value in the place of a section, a price in the place of a mapping."""

from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


class OneOrMore:
    """Metadata for a tuple that may be written as a single entry without a list."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Make a list of what is none."""
        return core_schema.no_info_before_validator_function(
            lambda value: [value] if isinstance(value, dict | BaseModel) else value, handler(source)
        )

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Tell editors of both forms."""
        listed = handler(core)
        return {"anyOf": [listed["items"], listed]}


class Alone:
    """Metadata for a section that may be written as the value of one of its fields alone."""

    def __init__(self, field: str) -> None:
        self.field = field

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Make a section of what is none."""
        return core_schema.no_info_before_validator_function(
            lambda value: (
                value if isinstance(value, dict | BaseModel | list) else {self.field: value}
            ),
            handler(source),
        )

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Tell editors of both forms."""
        section = handler(core)
        alone = handler.resolve_ref_schema(section)["properties"][self.field]
        (value,) = (each for each in alone["anyOf"] if each.get("type") != "null")
        return {"anyOf": [value, section]}


class OneForAll:
    """Metadata for a mapping that may be written as one value, which then stands under `default`."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Make a mapping of what is none."""
        return core_schema.no_info_before_validator_function(
            lambda value: value if isinstance(value, dict) else {"default": value}, handler(source)
        )

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Tell editors of both forms."""
        mapping = handler(core)
        (each,) = (
            mapping.get("patternProperties") or {"": mapping["additionalProperties"]}
        ).values()
        return {"anyOf": [each, mapping]}
