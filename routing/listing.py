"""
What models are good for: tags, modalities, window and quality, from a file of ours (`models.json`).

The rules of this file:

- `routing.catalogue` says what models cost; here stands what that catalogue does not hold, for the same models.
- A model is found by what an upstream calls it: vendors' prefixes, regions, dates and packagings are taken off
  (`called`), so that `us.anthropic.claude-opus-4-5-20251101-v1:0` is `claude-opus-4-5`.
- Quality is a prior from 0 to 1 for each task, on one scale; every number names its source, and what was read there.
  A model without numbers of its own has those of a rule that is named as its source (docs/catalogue.md).
- What the configuration says goes before what is listed.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

import msgspec

__all__ = [
    "MODALITIES",
    "TAGS",
    "TASKS",
    "Listed",
    "Prior",
    "Source",
    "called",
    "listed",
    "listing",
    "sources",
]

TASKS: Final = (
    "chat",
    "coding",
    "reasoning",
    "math",
    "multilingual",
    "long-context",
    "tools",
    "extraction",
)
"""What a call may be about; `routing.classify` gives one of them, and priors are per task."""

TAGS: Final = (
    "chat",
    "coding",
    "multilingual",
    "long-context",
    "reasoning",
    "vision",
    "tools",
    "json",
    "audio",
    "video",
    "pdf",
    "image",
    "embedding",
    "rerank",
    "transcription",
    "speech",
    "realtime",
    "moderation",
    "ocr",
)
"""The tags that the listing gives; a configuration may give others."""

MODALITIES: Final = ("text", "image", "audio", "video", "pdf", "embedding")

_PREFIX = re.compile(
    r"^(?:(?:global|regional|us|eu|apac|au|jp)\.)?"
    r"(?:(?:anthropic|amazon|meta|mistral|openai|google|qwen|deepseek|moonshotai|zai|nvidia|cohere|ai21|writer)\.)?"
)
_REVISION = re.compile(r"-v\d+:\d+$|:0$|@.*$|:(?!\d).*$")
_DATE = re.compile(r"-(?:20\d{6}|20\d\d-\d\d-\d\d)(?=-|$)")
_PACKAGING = re.compile(
    r"-(?:latest|instruct|it|fp8|fp16|bf16|awq|gptq|maas|tee|versatile|instant|preview|hf)$"
)
_SEPARATORS = str.maketrans("._ :", "----")


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where facts or numbers come from: an address with its date, or a rule of ours."""

    says: str
    url: str
    date: str
    licence: str
    rule: str
    equating: dict[str, dict[str, float]] = {}
    medians: dict[str, dict[str, float]] = {}
    counted: dict[str, int] = {}


class Prior(msgspec.Struct, frozen=True, array_like=True):
    """
    How good a model is at one task, 0 to 1, and why.

    `read` is what the source says: its number, or the model or class that the rule takes; `under` is the name there.
    """

    value: float
    source: str
    read: float | str
    under: str = ""


class Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What is known of a model: `seller` is the id in the price catalogue of who lists it first.

    `context` and `max_output` are tokens, None where nobody says; `facts` are a source and the place in it.
    """

    id: str
    vendor: str
    seller: str
    tags: tuple[str, ...]
    input: tuple[str, ...]
    output: tuple[str, ...]
    facts: tuple[str, str]
    context: int | None = None
    max_output: int | None = None
    priors: dict[str, Prior] = msgspec.field(name="quality", default_factory=dict)

    @property
    def quality(self) -> Mapping[str, float]:
        """The prior of each task, 0 to 1; nothing for what answers no prompts."""
        return {task: prior.value for task, prior in self.priors.items()}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sources: dict[str, Source]
    models: tuple[Listed, ...]


def called(name: str) -> str:
    """Return the name of a model without what varies between those who sell it; comparable, not for show."""
    bare = name.lower().strip().rsplit("/", 1)[-1]
    bare = _REVISION.sub("", bare)
    bare = _PREFIX.sub("", bare).translate(_SEPARATORS)
    bare = _DATE.sub("", bare)
    while (shorter := _PACKAGING.sub("", bare)) != bare:
        bare = shorter
    return bare


def listed(*names: str) -> Listed | None:
    """Return what is known of the model that is called by the first of these names that is listed."""
    index = _index()
    for name in names:
        found = index.get(called(name))
        if found is not None:
            return found
    return None


def listing() -> tuple[Listed, ...]:
    """Return every model of the file, by vendor and name."""
    return _read().models


def sources() -> Mapping[str, Source]:
    """Return the sources by the names that `Prior.source` and `Listed.facts` use."""
    return MappingProxyType(_read().sources)


@cache
def _read() -> _File:
    data = files("routing").joinpath("models.json").read_bytes()
    return msgspec.json.decode(data, type=_File)


@cache
def _index() -> Mapping[str, Listed]:
    return MappingProxyType({called(each.id): each for each in _read().models})
