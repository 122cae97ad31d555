"""
How the weights of `routing.classify` are made: `python -m routing.training FOLDER`.

`FOLDER` holds the files of the public tables that `routing.tables` names (ParetoBandit, Apache-2.0, and LLMRouter, MIT):
questions with the task they belong to, and the score of several models at each. What a question is about teaches the
task; by what share more models failed at it than is usual for its task teaches the complexity. Only the training parts
are read. The tables have no everyday work (letters, summaries, data out of texts), so that sentences which `written`
makes are added.

The same files and the same seed give the same weights: the order is drawn once, and everything else is arithmetic.
Logistic regression and ridge regression by averaged stochastic gradient descent over the features of `classify`.
"""

import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import exp
from pathlib import Path
from statistics import mean, pstdev
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from routing.classify import BUCKETS, OUTCOMES, Model, features, window
from routing.tables import TABLES, Table

__all__ = ["ABOUT", "Example", "body_of", "buckets_of", "examples_of", "main", "train", "written"]

SEED: Final = 4
EPOCHS: Final = 6
RATE: Final = 0.15
RIDGE: Final = 4e-3
LARGEST: Final = 127
ABOUT: Final = (
    "Weights of routing/classify.py, made by routing/training.py (seed 4) from the training parts of ParetoBandit"
    " (paretobandit 0.1.1, Apache-2.0) and LLMRouter (github.com/ulab-uiuc/LLMRouter, MIT), and from sentences that"
    " the script writes."
)

_OPENINGS: Final = ("", "", "Please ", "Can you ", "Hi! ", "I need you to ", "Could you please ")
_WRITTEN: Final = (
    (
        "coding",
        (
            "fix this bug in my {language} {unit}",
            "write a {language} {unit} that {does}",
            "refactor the {unit} so that it {does}",
            "why does my {language} code throw {error}",
            "review this pull request and suggest unit tests for the {unit}",
            "write a SQL query that joins {thing} and orders and groups by month",
            "explain this stack trace: {error} at line 00",
            "add type hints and a docstring to this {language} {unit}",
            "create a Dockerfile and a CI pipeline for a {language} service",
            "implement an API endpoint that {does}",
            "write an HTML page with a button and CSS that {does}",
            "given an array of integers, implement an algorithm in {language} that {does}",
        ),
    ),
    (
        "chat",
        (
            "write a friendly email to my {person} about the {thing}. {filler}",
            "what should I cook for dinner with {thing}",
            "tell me a short story about a {person} and a {thing}. {filler}",
            "give me some ideas for a birthday present for my {person}",
            "who was the first {person} to win the prize",
            "recommend a good book about {thing}",
            "how are you today",
            "translate this sentence into {tongue}: the {thing} is ready",
            "edit the following paragraph and make it sound more polite and professional: {filler}",
            "write a slogan for a company that sells {thing}",
            "what is the capital of the country",
            "plan a three day trip with my {person}. {filler}",
            "compose an engaging blog post about {thing}. {filler}",
            "pretend to be a {person} and answer in that role. {filler}",
            "imagine yourself as a {person} who loves {thing}; describe a day in your life. {filler}",
            "craft a persuasive message to a {person}. {filler}",
            "describe a vivid and unique {person} using strong words, in fewer than two paragraphs",
            "what do you think about {thing}? {filler}",
            "{filler} how should I answer my {person}",
        ),
    ),
    (
        "extraction",
        (
            "extract all names, dates and amounts from the following {paper} and return them as JSON: {filler}",
            "summarize the following {paper} in three bullet points. {filler}",
            "classify the sentiment of this {paper} as positive, negative or neutral: {filler}",
            "evaluate the following reviews on a scale of 0 to 0 and return the answer as a JSON array. {filler}",
            "fill in this schema from the {paper}: name, email, phone, address. {filler}",
            "list the key points and the parties of the {paper} below. {filler}",
            "given these categories, assign one to the {paper}. {filler}",
            "convert the table in this {paper} into CSV with a header. {filler}",
            "which of these labels fits the {paper}: billing, support, sales. {filler}",
            "pull the invoice number, the total and the due date out of this {paper}. {filler}",
            "according to the text, who signed the {paper} and when? {filler}",
            "analyze the following {paper} and identify the main people, places and events. {filler}",
            "given the following records, extract the highest and the lowest value per year. {filler}",
            "tag every entity in this {paper} with its type: {filler}",
            "identify the named entities in the passage and group them. {filler}",
            "count how many times each word occurs in the {paper}: {filler}",
        ),
    ),
    (
        "math",
        (
            "solve for x: 0x + 0 = 00",
            "prove that the sum of two even numbers is even",
            "compute the integral of x squared from 0 to 0",
            "what is the derivative of the function",
            "what percent of 000 is 00",
            "find the eigenvalues of the matrix",
            "a train leaves at 0 and travels 00 miles per hour, how far does it go",
        ),
    ),
    (
        "reasoning",
        (
            "compare the trade-offs of {thing} and {thing} and decide which one we should choose, step by step",
            "analyse the causes of the incident and derive what follows from each assumption",
            "which of the following conclusions is logically valid given these premises",
            "design a strategy for a {person} under these constraints and justify each step",
            "if all of these statements are true, who is lying",
            "what would happen to {thing} if the demand doubled, and why",
        ),
    ),
)
_FILLER: Final = (
    "the {thing} came on time and the {person} was very happy with it",
    "we met last week to talk about {thing} and agreed on the next steps",
    "{thing} cost 000 dollars in 0000 and 000 dollars in 0000",
    "it was founded in the city by a {person} and grew to 000 people",
    "I have used it for years and would not recommend it to my {person}",
    "please keep the tone warm, be concise, and end with a question",
    "on Monday the {paper} was sent to the {person} in the other office",
    "make sure that it mentions {thing} and the names of everybody who helped",
    "first, second and third quarter were better than the year before",
    "the island has beautiful beaches, old temples and good food",
    "her voice was quiet, and the light through the window was golden",
    "customer {person}: account 0000, order 00, shipped, paid, closed",
)
_SLOTS: Final = {
    "{language}": ("Python", "Rust", "TypeScript", "Java", "Go", "C++", "bash", "Kotlin", "React"),
    "{unit}": ("function", "class", "script", "module", "method", "component", "regex", "test"),
    "{does}": (
        "parses a CSV file",
        "retries with backoff",
        "reverses a linked list",
        "validates the input",
        "caches results",
        "sorts an array",
    ),
    "{error}": ("TypeError", "a null pointer exception", "segmentation fault", "KeyError", "404"),
    "{thing}": (
        "flowers",
        "the meeting",
        "bicycles",
        "customers",
        "coffee",
        "renewable energy",
        "the new office",
        "databases",
        "insurance",
    ),
    "{person}": ("colleague", "mother", "friend", "manager", "customer", "scientist", "teacher"),
    "{paper}": (
        "invoice",
        "contract",
        "email",
        "report",
        "article",
        "review",
        "resume",
        "transcript",
    ),
    "{tongue}": ("German", "French", "Japanese", "Spanish", "Chinese"),
}
_EVERYDAY: Final = {"chat": -0.15, "coding": 0.0, "math": 0.0, "reasoning": 0.1, "extraction": -0.1}
"""By how much more models fail at what is written here than at the tables' questions of the task, as we judge."""
COPIES: Final = 48


class Example(NamedTuple):
    """A question with its task, and by what share more models failed at it than at its task, None where nobody knows."""

    text: str
    task: str
    harder: float | None


def body_of(text: str) -> bytes:
    """Return a question as it comes: the body of a request for a chat."""
    return msgspec.json.encode({"model": "auto", "messages": [{"role": "user", "content": text}]})


def train(examples: Sequence[Example], seed: int = SEED) -> Model:
    """Return the weights that some examples teach."""
    rng = random.Random(seed)  # noqa: S311 - the order of examples is no secret
    looked = [(buckets_of(each.text), OUTCOMES.index(each.task), each.harder) for each in examples]
    kinds = len(OUTCOMES) + 1
    weights = [[0.0] * kinds for _ in range(BUCKETS)]
    summed = [[0.0] * kinds for _ in range(BUCKETS)]
    bias, bias_summed = [0.0] * kinds, [0.0] * kinds
    # Every task counts alike, however many examples it has.
    counts = Counter(task for _, task, _ in looked)
    shares = [len(looked) / (len(counts) * max(1, counts[task])) for task in range(len(OUTCOMES))]
    order = list(range(len(looked)))
    for epoch in range(EPOCHS):
        rng.shuffle(order)
        rate = RATE / (1 + epoch)
        for at in order:
            buckets, task, harder = looked[at]
            rows = [weights[bucket] for bucket in buckets]
            errors = _errors(
                [bias[k] + sum([row[k] for row in rows]) for k in range(kinds)], task, harder
            )
            for k, error in enumerate(errors):
                share = 1.0 if k == kinds - 1 else shares[task]
                step = rate * share * error / (len(rows) if k == kinds - 1 else len(rows) ** 0.5)
                bias[k] += step
                for row in rows:
                    row[k] += step - rate * RIDGE * row[k]
        for total, row in zip(summed, weights, strict=True):
            for k in range(kinds):
                total[k] += row[k] / EPOCHS
        for k in range(kinds):
            bias_summed[k] += bias[k] / EPOCHS
    return _quantized(summed, bias_summed, [buckets for buckets, _, _ in looked])


def buckets_of(text: str) -> list[int]:
    """Return the buckets that a question falls into, ascending."""
    return sorted({crc32(each) & (BUCKETS - 1) for each in features(window(body_of(text)))[0]})


def _errors(scores: Sequence[float], task: int, harder: float | None) -> Iterator[float]:
    top = max(scores[:-1])
    powers = [exp(score - top) for score in scores[:-1]]
    for k, power in enumerate(powers):
        yield (1.0 if k == task else 0.0) - power / sum(powers)
    yield 0.0 if harder is None else harder - scores[-1]


def _quantized(
    weights: Sequence[Sequence[float]], bias: Sequence[float], seen: Sequence[Sequence[int]]
) -> Model:
    """Return whole weights: one scale for all tasks, since they are compared, and one for the complexity."""
    task_scale = LARGEST / max(abs(value) for row in weights for value in row[:-1])
    hard_scale = LARGEST / max(abs(row[-1]) for row in weights)
    scales = [task_scale] * len(OUTCOMES) + [hard_scale]
    rows = tuple(
        tuple(round(value * scale) for value, scale in zip(row, scales, strict=True))
        for row in weights
    )
    hards = [sum([rows[bucket][-1] for bucket in buckets]) for buckets in seen]
    whole = [round(value * scale) for value, scale in zip(bias, scales, strict=True)]
    # The middle call is of complexity 0.5.
    whole[-1] = -round(mean(hards))
    return Model(ABOUT, tuple(whole), round(pstdev(hards), 2), rows)


def examples_of(tables: Iterable[Table]) -> list[Example]:
    """Return the questions of tables, and what `written` adds."""
    found: list[Example] = []
    for table in tables:
        rows = table.rows
        fails: dict[str, list[float]] = {}
        for row in rows:
            fails.setdefault(row.task, []).append(1 - mean(row.scores))
        usual = {task: mean(all_of_them) for task, all_of_them in fails.items()}
        found += [
            Example(row.text, row.task, 1 - mean(row.scores) - usual[row.task]) for row in rows
        ]
    return [*found, *written(SEED)]


def written(seed: int) -> Iterator[Example]:
    """Give sentences of everyday work by task, their words drawn."""
    rng = random.Random(seed)  # noqa: S311 - as above
    for task, patterns in _WRITTEN:
        for pattern in patterns:
            for _ in range(COPIES):
                text = pattern.replace(
                    "{filler}", ". ".join(rng.choices(_FILLER, k=rng.randint(1, 5)))
                )
                for slot, words in _SLOTS.items():
                    while slot in text:
                        text = text.replace(slot, rng.choice(words), 1)
                yield Example(rng.choice(_OPENINGS) + text, task, _EVERYDAY[task])


def main(argv: Sequence[str]) -> int:
    """Write `classify.json` beside the sources."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m routing.training FOLDER-OF-THE-TABLES\n")
        return 2
    folder = Path(argv[0])
    model = train(examples_of(read(folder, "train") for read in TABLES.values()))
    head = msgspec.json.encode(
        {"about": model.about, "bias": model.bias, "spread": model.spread}
    ).decode()
    rows = ",\n".join("[" + ",".join(map(str, row)) + "]" for row in model.weights)
    target = Path(__file__).parent / "classify.json"
    target.write_text(f'{head[:-1]},"weights":[\n{rows}\n]}}\n', encoding="utf-8")
    sys.stdout.write(f"wrote {target.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
