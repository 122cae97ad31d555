"""
Calls that differ, as a route must be measured that chooses by what is asked: no cache of answers may make its figure a lie.

What is asked and its words are drawn from a seed, so that every run sends the same; one word in twenty was never sent before.
Each is about as long as the call of the other rows, so that what it costs more is the choice.
"""

from collections.abc import Iterator
from random import Random

__all__ = ["prompts"]

_ASKED = (
    "Tell me in a few plain sentences how the {word} above the {word} is kept, and who looks after it.",
    "Summarize these notes for the {word} team in {number} points: the {word} was late, the {word} was not.",
    "Write a polite reply to a customer whose {word} has not arrived since Monday; offer a {word}.",
    "Write a Python function that merges overlapping {word} and returns the {word} sorted, with type hints.",
    "Why does `for i in range(len({word})): x[i] = {word}({number})` raise an IndexError? Fix it.",
    "A train leaves at {number}:40 and travels {number} km at {number} km/h. When does it arrive?",
    "If {number} pumps empty a {word} in {number} hours, how long do {number} take? Reason step by step.",
    "Extract the {word}, the {word} and the date as JSON: 'Received {number} pieces on the first of March.'",
    "What is the difference between a {word} and a {word}, and when would you take the {word}?",
    "Translate into English: 'Der {word} neben dem {word} ist seit gestern nicht mehr in Betrieb.'",
)
_WORDS = (
    "gate turbine valve pump bridge river station meter ledger invoice parcel garden kitchen engine"
    " window letter harbour market forest library machine battery camera contract customer driver"
    " factory highway island journal keyboard lantern mirror needle office painter quarter railway"
    " sensor ticket uniform village warehouse teacher surgeon molecule planet cell theorem matrix"
    " list index queue parser schema request token cache thread branch test module vector budget"
    " price refund order account report manager visitor student course lesson exam grade answer"
)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def prompts(count: int, seed: int = 1) -> Iterator[str]:
    """Yield so many prompts, no two alike."""
    draw = Random(seed)
    words = _Words(draw)
    for number in range(count):
        yield f"{draw.choice(_ASKED).format_map(words)} Case {number}."


class _Words(dict[str, str]):
    """Draws anew for each name in a sentence."""

    def __init__(self, draw: Random) -> None:
        self._draw = draw
        self._known = _WORDS.split()

    def __missing__(self, name: str) -> str:
        draw = self._draw
        if name == "number":
            return str(draw.randint(2, 990))
        if draw.random() < 0.4:
            return "".join(draw.choices(_LETTERS, k=draw.randint(4, 10)))
        return draw.choice(self._known)
