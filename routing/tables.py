"""
Public tables of how models did at the same questions, read from the files that their authors publish.

None of them is part of the checkout: whoever measures or trains gets the files (`FILES`), and what was read is checked
by its digest, so that a figure is always that of the same rows.

- **LLMRouter** (github.com/ulab-uiuc/LLMRouter, MIT): 5,608 and 500 questions of 14 sets, nine open models of 7 to 51
  billion parameters, their scores from 0 to 1. It tells no tokens of the answers, so that a call costs what its input
  and `ANSWER_TOKENS` cost at the prices that the same repository lists.
- **RouterBench** (arXiv 2403.12031, github.com/withmartian/routerbench, MIT): eleven models with scores and what each
  answer cost, in the authors' form of comma-separated values; any part of it may be read.
"""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

__all__ = [
    "FILES",
    "LLMROUTER_TASKS",
    "BadTable",
    "Row",
    "Table",
    "read_llmrouter",
    "read_routerbench",
]

ANSWER_TOKENS: Final = 256
_BYTES_PER_TOKEN: Final = 4
_NANO: Final = 10**9


class Published(NamedTuple):
    """A file of a table: where it is published, and the SHA-256 of its bytes."""

    url: str
    sha256: str


_LLMROUTER: Final = "https://raw.githubusercontent.com/ulab-uiuc/LLMRouter/4e7a796942ce26e9d5f2b93191c7c2585c99c2e3/data/"
_ROUTERBENCH: Final = (
    "https://raw.githubusercontent.com/shuhao02/RouterDC/0e63989c5bf4363330b8a4616386e3f7f116d9f8/"
    "datasets/routerbench_zs/"
)
FILES: Final[Mapping[str, Published]] = MappingProxyType(
    {
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
        "arc_challenge_test.csv": Published(
            _ROUTERBENCH + "arc_challenge_test.csv",
            "7bffb55faca2e1f9d19f7197c652884780a1e0f7fe14bad5b2b1c6afbe7a6769",
        ),
        "arc_challenge_train.csv": Published(
            _ROUTERBENCH + "arc_challenge_train.csv",
            "59e044850520be06f74dd9766b9ab4621d783f7fa5269d7dda118b9abb115d78",
        ),
        "mbpp_test.csv": Published(
            _ROUTERBENCH + "mbpp_test.csv",
            "156fb843b706b765162d74f5fc4928322be5041791b45bd3e1bd732d998c4032",
        ),
        "mbpp_train.csv": Published(
            _ROUTERBENCH + "mbpp_train.csv",
            "2a985adc3a3016b5ae4d62229722cdff9ece58aa1338206a6b12e4957304452b",
        ),
        "winograde_test.csv": Published(
            _ROUTERBENCH + "winograde_test.csv",
            "de7c8689d4b682c860b660988808ee2e40366b12076811e7891081facec4a2e1",
        ),
        "winograde_train.csv": Published(
            _ROUTERBENCH + "winograde_train.csv",
            "f6d54caab59bebb9facf3407c515a07a20faf4e75c639b7e91988ceaf312906a",
        ),
    }
)
"""What is read, by the name that it has in the folder."""

LLMROUTER_TASKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "math": "math",
        "gsm8k": "math",
        "agentverse-mgsm": "math",
        "mbpp": "coding",
        "human_eval": "coding",
        "natural_qa": "chat",
        "trivia_qa": "chat",
        "commongen": "chat",
        "commonsense_qa": "chat",
        "openbook_qa": "chat",
        "arc_challenge": "chat",
        "mmlu": "chat",
        "gpqa": "reasoning",
        "agentverse-logicgrid": "reasoning",
    }
)
"""The task that each set of questions of the LLMRouter table belongs to."""


class BadTable(ValueError):
    """A table cannot be read; the message names the file and says what to do."""


class Row(NamedTuple):
    """A question: its text, the set it is from, and the score (0 to 1) and the cost (nano-USD) of each model."""

    text: str
    kind: str
    scores: tuple[float, ...]
    costs_nusd: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Questions, and the models in the order of `Row.scores`; `digest` is that of the files that were read."""

    name: str
    models: tuple[str, ...]
    rows: tuple[Row, ...]
    digest: str


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
        kinds = {
            row["query"]: row["task_name"] for row in map(json.loads, queries.splitlines() or ())
        }
        tested = {each["question"] for each in json.loads(kept_for_test)}
        entries = [each for each in json.loads(scored) if each["question"] not in tested]
        models = tuple(entries[0]["scores"])
        prices = [
            (_per_token(price["input_price"]), _per_token(price["output_price"]))
            for price in (json.loads(priced)[model] for model in models)
        ]
        rows = tuple(
            Row(
                each["question"],
                kinds[each["question"]],
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


def read_routerbench(folder: Path, part: str) -> Table:
    """Return what there is of RouterBench, its files named `SET_PART.csv`. Raises `BadTable`."""
    names = [name for name in FILES if name.endswith(f"_{part}.csv")]
    models: tuple[str, ...] = ()
    rows: list[Row] = []
    read = []
    for name in names:
        data = _bytes(folder, name)
        read.append(data)
        entries = list(csv.DictReader(data.decode().splitlines(keepends=True)))
        columns = list(entries[0]) if entries else []
        found = tuple(each.removesuffix(_COST) for each in columns if each.endswith(_COST))
        if models and found != models:
            raise BadTable(f"{folder / name}: it is of other models than the files before it")
        models = found
        try:
            rows += _routerbench_rows(entries, models)
        except (ValueError, LookupError, TypeError) as error:
            raise BadTable(f"{folder / name}: not as published: {error!r}") from error
    return Table("routerbench", models, tuple(rows), _digest(*read))


_COST: Final = "|total_cost"


def _routerbench_rows(entries: Sequence[Mapping[str, str]], models: Sequence[str]) -> Iterator[Row]:
    """Give the rows in which every model has a score and a cost."""
    for each in entries:
        if all(each[model] and each[model + _COST] for model in models):
            yield Row(
                each["prompt"],
                each["eval_name"],
                tuple(float(each[model]) for model in models),
                tuple(round(float(each[model + _COST]) * _NANO) for model in models),
            )


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
            f"{path} cannot be read: {error.strerror}; it is published at {published.url}"
        ) from error
    if hashlib.sha256(data).hexdigest() != published.sha256:
        raise BadTable(f"{path} is another file than was published at {published.url}")
    return data


def _digest(*data: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(each).digest() for each in data)).hexdigest()
