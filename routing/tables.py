"""
Public tables of how models did at the same questions, read from what their authors publish.

None of them is part of the checkout: whoever measures or trains gets the files (`FILES`), and each is checked by its
digest, so that a figure is always that of the same rows.

- **ParetoBandit** (arXiv 2604.00136, Apache-2.0): 1,785 questions to learn from and 1,824 to test with, of MMLU, GSM8K,
  BIG-Bench Hard and six other sets; three models, a judged reward from 0 to 1, and what each answer cost.
  It comes as a part of the authors' Python package.
- **LLMRouter** (github.com/ulab-uiuc/LLMRouter, MIT): 5,608 and 500 questions of 14 sets, nine open models of 7 to 51
  billion parameters, their scores from 0 to 1. It tells no tokens of the answers, so that a call costs what its input
  and `ANSWER_TOKENS` cost at the prices that the same repository lists.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

__all__ = [
    "FILES",
    "LLMROUTER_TASKS",
    "PARETOBANDIT_TASKS",
    "TABLES",
    "BadTable",
    "Published",
    "Row",
    "Table",
    "fold_of",
    "read_llmrouter",
    "read_paretobandit",
]

ANSWER_TOKENS: Final = 256
_BYTES_PER_TOKEN: Final = 4
_NANO: Final = 10**9


class Published(NamedTuple):
    """A file of a table: how one gets it, and the SHA-256 of its bytes."""

    how: str
    sha256: str


_LLMROUTER: Final = (
    "https://github.com/ulab-uiuc/LLMRouter/raw/4e7a796942ce26e9d5f2b93191c7c2585c99c2e3/data/"
)
_WHEEL: Final = "paretobandit-0.1.1-py3-none-any.whl"
FILES: Final[Mapping[str, Published]] = MappingProxyType(
    {
        _WHEEL: Published(
            "pip download --no-deps paretobandit==0.1.1",
            "b30b2a154fe24b619e60b0cbac7bbae1aed387daf45aceecc3dbe5af8b711853",
        ),
        "train.json": Published(
            _LLMROUTER + "dcrouter_preprocessed/train.json",
            "ad3ae70149998f02cbf0dd4557ccb6afcf365ac9391b7371329ffc22201e90e3",
        ),
        "test.json": Published(
            _LLMROUTER + "dcrouter_preprocessed/test.json",
            "fbb6d3e3f62c7018e5446d3154cc05812d3124381f774738e9f0bac5bff79c79",
        ),
        "default_query_train.jsonl": Published(
            _LLMROUTER + "example_data/query_data/default_query_train.jsonl",
            "f1b2e3281dc3f9e082016812e1a778ca30e9828c7e58fa0a9f6dc52350ad4b8c",
        ),
        "default_query_test.jsonl": Published(
            _LLMROUTER + "example_data/query_data/default_query_test.jsonl",
            "0fdf4b4236fb81c1a673a01950fb974e02599c83164b0e7832888aefaa490e27",
        ),
        "default_llm.json": Published(
            _LLMROUTER + "example_data/llm_candidates/default_llm.json",
            "278f790564efd758ab28a9b6ce141d3fa057219de9bad40b31562c4286549552",
        ),
    }
)
"""What is read, by the name that it has in the folder."""

LLMROUTER_TASKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("math", "gsm8k", "agentverse-mgsm"), "math"),
        **dict.fromkeys(("mbpp", "human_eval"), "coding"),
        **dict.fromkeys(("natural_qa", "trivia_qa", "commongen", "commonsense_qa"), "chat"),
        **dict.fromkeys(("openbook_qa", "arc_challenge", "mmlu"), "chat"),
        **dict.fromkeys(("gpqa", "agentverse-logicgrid"), "reasoning"),
    }
)
"""The task that each set of questions of the LLMRouter table belongs to."""

PARETOBANDIT_TASKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("gsm8k", "bbh/multistep_arithmetic_two"), "math"),
        "mbpp": "coding",
        **dict.fromkeys(("mmlu", "openbookqa", "arc_challenge", "truthful_qa"), "chat"),
        **dict.fromkeys(("hellaswag", "winogrande"), "chat"),
    }
)
"""The same for ParetoBandit; what is not here is of BIG-Bench Hard, and reasoning."""


class BadTable(ValueError):
    """A table cannot be read; the message names the file and says what to do."""


class Row(NamedTuple):
    """A question: its text, the set it is from, its task, and the score (0 to 1) and the cost (nano-USD) of each model."""

    text: str
    kind: str
    task: str
    scores: tuple[float, ...]
    costs_nusd: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Questions, and the models in the order of `Row.scores`; `digest` is that of the files that were read."""

    name: str
    models: tuple[str, ...]
    rows: tuple[Row, ...]
    digest: str


def read_paretobandit(folder: Path, part: str) -> Table:
    """Return a part ('train' or 'test') of the ParetoBandit table. Raises `BadTable`."""
    inner = {"train": "val", "test": "test_holdout"}[part]
    wheel = _bytes(folder, _WHEEL)
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            data = archive.read(f"pareto_bandit/data/examples/{inner}.jsonl")
        entries = [json.loads(line) for line in data.splitlines()]
        models = tuple(entries[0]["arms"])
        rows = tuple(
            Row(
                each["prompt"],
                each["source"],
                PARETOBANDIT_TASKS.get(each["source"], "reasoning"),
                tuple(float(each["arms"][model]["reward"]) for model in models),
                tuple(round(float(each["arms"][model]["cost"]) * _NANO) for model in models),
            )
            for each in entries
        )
    except (ValueError, LookupError, TypeError, zipfile.BadZipFile) as error:
        raise BadTable(f"{folder / _WHEEL}: not as published: {error!r}") from error
    return Table("paretobandit", models, rows, _digest(data))


def read_llmrouter(folder: Path, part: str) -> Table:
    """
    Return a part ('train' or 'test') of the LLMRouter table. Raises `BadTable`.

    Of the training part 119 questions are in the test part as well, and are left out of it.
    """
    scored = _bytes(folder, f"{part}.json")
    kept_for_test = _bytes(folder, "test.json") if part == "train" else b"[]"
    queries = _bytes(folder, f"default_query_{part}.jsonl")
    priced = _bytes(folder, "default_llm.json")
    try:
        kinds = {row["query"]: row["task_name"] for row in map(json.loads, queries.splitlines())}
        tested = {each["question"] for each in json.loads(kept_for_test)}
        entries = [each for each in json.loads(scored) if each["question"] not in tested]
        models = tuple(entries[0]["scores"])
        listed = json.loads(priced)
        prices = [
            (_per_token(listed[model]["input_price"]), _per_token(listed[model]["output_price"]))
            for model in models
        ]
        rows = tuple(
            Row(
                each["question"],
                kinds[each["question"]],
                LLMROUTER_TASKS[kinds[each["question"]]],
                tuple(float(each["scores"][model]) for model in models),
                tuple(
                    len(each["question"].encode()) // _BYTES_PER_TOKEN * into + ANSWER_TOKENS * out
                    for into, out in prices
                ),
            )
            for each in entries
        )
    except (ValueError, LookupError, TypeError) as error:
        raise BadTable(f"{folder}: the LLMRouter table is not as published: {error!r}") from error
    return Table("llmrouter", models, rows, _digest(scored, kept_for_test, queries, priced))


def fold_of(row: Row, folds: int) -> int:
    """Return to which of so many folds a question belongs: by its text, so that equal ones stay together in all tables."""
    return int.from_bytes(hashlib.sha256(row.text.encode()).digest()[:8]) % folds


TABLES: Final = MappingProxyType({"paretobandit": read_paretobandit, "llmrouter": read_llmrouter})
"""What reads each table, by its name."""


def _per_token(usd_per_million: Any) -> int:
    """Return nano-USD per token."""
    return round(float(usd_per_million) * 1000)


def _bytes(folder: Path, name: str) -> bytes:
    published = FILES[name]
    path = folder / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadTable(
            f"{path} cannot be read: {error.strerror}; get it: {published.how}"
        ) from error
    if hashlib.sha256(data).hexdigest() != published.sha256:
        raise BadTable(f"{path} is another file than was published; get it: {published.how}")
    return data


def _digest(*data: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(each).digest() for each in data)).hexdigest()
