"""
Other catalogues' JSON as models of a configuration: what was understood, what was not, and what is wrong, by path.

Three shapes are known, and told apart by what they hold:

- ``litellm``: LiteLLM's ``model_prices_and_context_window.json``, a mapping of names to flat records, USD per token;
- ``openrouter``: OpenRouter's ``GET /api/v1/models``, ``{"data": [...]}``, USD per token as text;
- ``models.dev``: ``api.json`` of models.dev, providers that hold models, USD per million tokens.

Pure. A record with a mistake is left out and named; a member that has no place here is counted, not guessed at.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final

__all__ = [
    "SHAPES",
    "BadCatalogue",
    "Imported",
    "Mistake",
    "Reading",
    "Unplaced",
    "read",
    "section",
    "snippet",
]

LARGEST_BYTES: Final = 64 * 1024 * 1024
MOST_TOKENS: Final = 10**9
MOST_USD: Final = 100_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
_PER_MILLION = Decimal(10**6)
_NANO = Decimal("1e-9")


class BadCatalogue(ValueError):
    """The file as a whole cannot be read; the message says why and what is expected."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with a record that was left out: where it stands, and what was expected there."""

    path: str
    message: str

    def __str__(self) -> str:
        """Give one line."""
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A member that has no place in the configuration, in how many records, and one of them."""

    member: str
    count: int
    example: str


@dataclass(frozen=True, slots=True)
class Imported:
    """
    A model that was understood.

    `seller` is who the catalogue says sells it, `upstream` what it is asked for there, and `name` the same as a name
    of the configuration; `price` is USD per million tokens by the configuration's names, empty where there is none.
    """

    name: str
    upstream: str
    seller: str
    tags: tuple[str, ...]
    context: int | None
    max_output: int | None
    price: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Reading:
    """All of a catalogue: its shape, the models in its order, and what was not taken."""

    shape: str
    models: tuple[Imported, ...]
    unplaced: tuple[Unplaced, ...]
    mistakes: tuple[Mistake, ...]


class _Wrong(Exception):
    def __init__(self, path: str, message: str) -> None:
        self.mistake = Mistake(path, message)


@dataclass(slots=True)
class _Record:
    """One record on its way: every member that is read is taken off what was not understood."""

    path: str
    said: Mapping[str, Any]
    left: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.left = set(self.said)

    def take(self, name: str) -> Any:
        self.left.discard(name)
        return self.said.get(name)

    def inner(self, name: str) -> "_Record":
        value = self.take(name)
        path = f"{self.path}.{name}"
        if value is not None and not isinstance(value, dict):
            raise _Wrong(path, f"found {_shown(value)}, expected an object")
        return _Record(path, value or {})

    def tokens(self, name: str) -> int | None:
        value = self.take(name)
        if value is None or value == "":
            return None
        number = _number(value)
        if number is None or number != number.to_integral_value() or not 0 <= number <= MOST_TOKENS:
            raise _Wrong(
                f"{self.path}.{name}", f"found {_shown(value)}, expected a number of tokens"
            )
        return int(number) or None

    def usd(self, name: str, factor: Decimal) -> Decimal | None:
        """Read a price; `factor` makes it USD per million tokens."""
        value = self.take(name)
        if value is None or value == "":
            return None
        number = _number(value)
        if number is None or number < 0 or number * factor > MOST_USD:
            raise _Wrong(f"{self.path}.{name}", f"found {_shown(value)}, expected a price in USD")
        return (number * factor).quantize(_NANO).normalize()

    def flag(self, name: str) -> bool:
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise _Wrong(f"{self.path}.{name}", f"found {_shown(value)}, expected true or false")
        return bool(value)

    def words(self, name: str) -> tuple[str, ...]:
        value = self.take(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise _Wrong(f"{self.path}.{name}", f"found {_shown(value)}, expected a list of words")
        return tuple(value)

    def word(self, name: str) -> str:
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            raise _Wrong(f"{self.path}.{name}", f"found {_shown(value)}, expected a text")
        return value or ""


def read(data: bytes, shape: str = "", only: Sequence[str] = ()) -> Reading:
    """
    Read a catalogue; `shape` is one of `SHAPES`, or empty to tell by what it holds.

    With `only` there is but what has a name of these forms (`*` stands for anything), and nothing is said of all else.
    Raises `BadCatalogue` when it is none at all.
    """
    if len(data) > LARGEST_BYTES:
        raise BadCatalogue(f"more than {LARGEST_BYTES} bytes")
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadCatalogue(f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadCatalogue(
            f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except (RecursionError, ValueError) as error:
        raise BadCatalogue(f"not JSON that can be read: {type(error).__name__}") from None
    shape = shape or _shape_of(found)
    models: dict[tuple[str, str], Imported] = {}
    unplaced: Counter[str] = Counter()
    examples: dict[str, str] = {}
    mistakes = []
    for path, name, said in _RECORDS[shape](found):
        if only and not any(fnmatchcase(each, form) for each in _called(name) for form in only):
            # Whatever is wrong with it: which of these its name is, only the record says.
            continue
        try:
            if not isinstance(said, dict):
                raise _Wrong(path, f"found {_shown(said)}, expected an object")
            record = _Record(path, said)
            model, left = _MODELS[shape](name, record)
            if only and not any(fnmatchcase(model.name, form) for form in only):
                continue
            if not _NAME.fullmatch(model.name):
                raise _Wrong(path, f"found the name {_shown(model.name)}, which no model can have")
            if (model.seller, model.name) in models:
                raise _Wrong(path, f"a second {_shown(model.name)}")
        except _Wrong as wrong:
            mistakes.append(wrong.mistake)
            continue
        models[model.seller, model.name] = model
        for member in left:
            unplaced[member] += 1
            examples.setdefault(member, path)
    return Reading(
        shape,
        tuple(models.values()),
        tuple(
            Unplaced(member, count, examples[member]) for member, count in unplaced.most_common()
        ),
        tuple(mistakes),
    )


def _called(name: str) -> Iterator[str]:
    """Yield what the model of a record may be called: its name in the catalogue, and that without what stands before a slash."""
    name = name.rpartition("\n")[2].lstrip("@~")
    while name:
        yield name
        name = name.partition("/")[2]


def _shape_of(found: Any) -> str:
    if isinstance(found, dict):
        if isinstance(found.get("data"), list):
            return "openrouter"
        values = [each for each in found.values() if isinstance(each, dict)]
        if values and all(isinstance(each.get("models"), dict) for each in values):
            return "models.dev"
        if any("litellm_provider" in each or "mode" in each for each in values):
            return "litellm"
    raise BadCatalogue(
        "none of the shapes that are known: LiteLLM's price map, OpenRouter's /models"
        ' ({"data": [...]}), or api.json of models.dev (providers with "models")'
    )


# LiteLLM...


def _litellm_records(found: Any) -> Iterator[tuple[str, str, Any]]:
    for name, said in _object(found).items():
        if name != "sample_spec":
            yield name, name, said


_LITELLM_MODES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "chat": ("chat",),
        "responses": ("chat",),
        "completion": ("chat",),
        "embedding": ("embedding",),
        "rerank": ("rerank",),
        "image_generation": ("image",),
        "audio_transcription": ("transcription", "audio"),
        "audio_speech": ("speech", "audio"),
        "moderation": ("moderation",),
        "realtime": ("realtime", "audio"),
        "ocr": ("ocr",),
    }
)
_LITELLM_FLAGS = (
    ("supports_reasoning", "reasoning"),
    ("supports_vision", "vision"),
    ("supports_function_calling", "tools"),
    ("supports_response_schema", "json"),
    ("supports_audio_input", "audio"),
    ("supports_audio_output", "audio"),
    ("supports_video_input", "video"),
    ("supports_pdf_input", "pdf"),
)
_LITELLM_PRICES = (
    ("input_cost_per_token", "input"),
    ("output_cost_per_token", "output"),
    ("cache_read_input_token_cost", "cached_input"),
    ("cache_creation_input_token_cost", "cache_write"),
    ("cache_creation_input_token_cost_above_1hr", "cache_write_1h"),
    ("input_cost_per_audio_token", "audio_input"),
    ("output_cost_per_audio_token", "audio_output"),
    ("output_cost_per_reasoning_token", "reasoning"),
)


def _litellm(name: str, record: _Record) -> tuple[Imported, set[str]]:
    seller = record.word("litellm_provider")
    tags = list(_LITELLM_MODES.get(record.word("mode"), ()))
    tags += [tag for flag, tag in _LITELLM_FLAGS if record.flag(flag)]
    most_input, most_output = record.tokens("max_input_tokens"), record.tokens("max_output_tokens")
    context = most_input or record.tokens("max_tokens")
    record.left -= {"max_tokens", "source", "comment", "deprecation_date"}
    bare = name.removeprefix(f"{seller}/")
    price = _price(record, _LITELLM_PRICES, _PER_MILLION)
    return _imported(bare, seller, tags, (context, most_output), price), record.left


# OpenRouter...


def _openrouter_records(found: Any) -> Iterator[tuple[str, str, Any]]:
    listed = found.get("data") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise BadCatalogue('expected {"data": [...]}, as OpenRouter answers GET /api/v1/models')
    for at, said in enumerate(listed):
        name = said.get("id") if isinstance(said, dict) else None
        yield f"data[{at}]", name if isinstance(name, str) else "", said


_OPENROUTER_PRICES = (
    ("prompt", "input"),
    ("completion", "output"),
    ("input_cache_read", "cached_input"),
    ("input_cache_write", "cache_write"),
    ("audio", "audio_input"),
    ("internal_reasoning", "reasoning"),
)
_PARAMETERS = (
    ("reasoning", "reasoning"),
    ("tools", "tools"),
    ("structured_outputs", "json"),
)


def _openrouter(name: str, record: _Record) -> tuple[Imported, set[str]]:
    record.left -= {
        "id",
        "name",
        "description",
        "created",
        "canonical_slug",
        "hugging_face_id",
        "links",
    }
    if not name:
        raise _Wrong(f"{record.path}.id", "missing")
    made = record.inner("architecture")
    takes, gives = made.words("input_modalities"), made.words("output_modalities")
    can = record.words("supported_parameters")
    tags = [
        *_by_modality(takes, gives),
        *(tag for parameter, tag in _PARAMETERS if parameter in can),
    ]
    best = record.inner("top_provider")
    context = record.tokens("context_length")
    most_output = best.tokens("max_completion_tokens")
    pricing = record.inner("pricing")
    # A router has no price of its own, which is said as -1.
    routed = any(_number(pricing.said.get(each)) == -1 for each in ("prompt", "completion"))
    price = {} if routed else _price(pricing, _OPENROUTER_PRICES, _PER_MILLION)
    free = {each for each in pricing.left if _number(pricing.said[each]) == 0}
    left = record.left | {f"pricing.{each}" for each in (pricing.left - free if not routed else ())}
    return _imported(name, "openrouter", tags, (context, most_output), price), left


# models.dev...


def _models_dev_records(found: Any) -> Iterator[tuple[str, str, Any]]:
    for seller, provider in _object(found).items():
        models = provider.get("models") if isinstance(provider, dict) else None
        if not isinstance(models, dict):
            yield f"{seller}.models", seller, models
            continue
        for name, said in models.items():
            yield f"{seller}.models.{name}", f"{seller}\n{name}", said


_MODELS_DEV_PRICES = (
    ("input", "input"),
    ("output", "output"),
    ("cache_read", "cached_input"),
    ("cache_write", "cache_write"),
    ("input_audio", "audio_input"),
    ("output_audio", "audio_output"),
    ("reasoning", "reasoning"),
)


def _models_dev(name: str, record: _Record) -> tuple[Imported, set[str]]:
    seller, _, bare = name.partition("\n")
    record.left -= {
        "id",
        "name",
        "description",
        "family",
        "release_date",
        "last_updated",
        "open_weights",
    }
    modalities = record.inner("modalities")
    takes, gives = modalities.words("input"), modalities.words("output")
    tags = [*_by_modality(takes, gives)]
    flags = (("reasoning", "reasoning"), ("tool_call", "tools"), ("structured_output", "json"))
    tags += [tag for flag, tag in flags if record.flag(flag)]
    limit = record.inner("limit")
    context, most_output = limit.tokens("context"), limit.tokens("output")
    cost = record.inner("cost")
    price = _price(cost, _MODELS_DEV_PRICES, Decimal(1))
    left = record.left | {f"cost.{each}" for each in cost.left}
    left |= {f"limit.{each}" for each in limit.left - {"input"}}
    return _imported(bare, seller, tags, (context, most_output), price), left


# What they share...


def _by_modality(takes: tuple[str, ...], gives: tuple[str, ...]) -> Iterator[str]:
    if "text" in gives:
        yield "chat"
        if "image" in takes:
            yield "vision"
    for each in ("audio", "video"):
        if each in takes or each in gives:
            yield each
    if "pdf" in takes or "file" in takes:
        yield "pdf"
    if "image" in gives:
        yield "image"
    if "embeddings" in gives or "embedding" in gives:
        yield "embedding"


def _price(
    record: _Record, names: tuple[tuple[str, str], ...], factor: Decimal
) -> Mapping[str, Decimal]:
    """Return a price by the configuration's names; one that is as the price that contains it is left out."""
    found = {ours: usd for theirs, ours in names if (usd := record.usd(theirs, factor)) is not None}
    if "input" not in found and "output" not in found:
        return {}
    found.setdefault("input", Decimal(0))
    found.setdefault("output", Decimal(0))
    contained = {
        **dict.fromkeys(("cached_input", "cache_write", "audio_input"), "input"),
        **dict.fromkeys(("audio_output", "reasoning"), "output"),
    }
    return {
        ours: usd
        for ours, usd in found.items()
        # OpenRouter says 0 where a kind is not priced on its own.
        if ours not in contained or (usd not in (0, found[contained[ours]]))
    }


def _imported(
    upstream: str,
    seller: str,
    tags: list[str],
    sizes: tuple[int | None, int | None],
    price: Mapping[str, Decimal],
) -> Imported:
    context, max_output = sizes
    if "chat" in tags and (context or 0) >= 200_000:
        tags.append("long-context")
    if max_output is not None and context is not None and max_output > context:
        max_output = context
    name = upstream.lstrip("@~")
    return Imported(name, upstream, seller, tuple(dict.fromkeys(tags)), context, max_output, price)


def _object(found: Any) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise BadCatalogue("expected an object at the top")
    return found


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number) < 10**15 else None


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


_RECORDS: Final[Mapping[str, Callable[[Any], Iterator[tuple[str, str, Any]]]]] = MappingProxyType(
    {
        "litellm": _litellm_records,
        "openrouter": _openrouter_records,
        "models.dev": _models_dev_records,
    }
)
_MODELS: Final[Mapping[str, Callable[[str, _Record], tuple[Imported, set[str]]]]] = (
    MappingProxyType({"litellm": _litellm, "openrouter": _openrouter, "models.dev": _models_dev})
)
SHAPES: Final = tuple(_RECORDS)


def section(model: Imported, provider: str) -> dict[str, Any]:
    """Return a model as a section of the configuration, served by a provider of it; prices as numbers."""
    said: dict[str, Any] = {}
    if model.tags:
        said["tags"] = list(model.tags)
    if model.context is not None:
        said["context"] = model.context
    if model.max_output is not None:
        said["max_output"] = model.max_output
    if model.price:
        said["price"] = {name: _plain(usd) for name, usd in model.price.items()}
    deployment = {"provider": provider}
    if model.upstream != model.name:
        deployment["name"] = model.upstream
    said["deployments"] = [deployment]
    return said


def snippet(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Return sections as YAML, one model per line, to be pasted into a configuration."""
    lines = [f"  {json.dumps(name)}: {json.dumps(said)}" for name, said in sections.items()]
    return "\n".join(["models:" if lines else "models: {}", *lines]) + "\n"


def _plain(usd: Decimal) -> int | float:
    return int(usd) if usd == usd.to_integral_value() else float(usd)
