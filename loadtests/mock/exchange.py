"""What passes between a caller and the mock vendor, in the words that all of its protocols share: what was asked, and what is said."""

from typing import NamedTuple

# Stands for every id in a plan; the vendor puts one of its own, as long, in its place.
PLACEHOLDER = b"000000000000000000000000"
ID = PLACEHOLDER.decode()


class Asked(NamedTuple):
    """What a call asks for, as far as it changes the answer: the key of the plan table."""

    path: str
    model: str
    stream: bool = False
    include_usage: bool = False
    cap: int | None = None
    body_bytes: int = 0
    inputs: int = 1
    base64: bool = False
    dimensions: int | None = None
    format: str = ""
    characters: int = 0
    partial: int = 0


class Said(NamedTuple):
    """A piece of an answer's body, the completion tokens that are out with it, and the pauses before it."""

    payload: bytes
    tokens: int
    beat: int = 0
