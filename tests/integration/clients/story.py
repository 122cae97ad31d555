"""What every client asks for in the same words, and how a client's script tells what it was given."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

URL = os.environ["PENSTOCK_URL"]
KEY = os.environ["PENSTOCK_KEY"]
MODELS = os.environ["PENSTOCK_MODELS"].split(",")
VECTORS = os.environ["PENSTOCK_VECTORS"].split(",")

HELLO = "Say hello."
WEATHER = "What is the weather in Oslo, and what in Reykjavik?"
REPORT = "rain, 4 degrees"
EMBED = ["the gate", "the gate and the pipe"]
THINK = "Think."
JOURNEY = "Plan a journey."
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Journey(BaseModel):
    """What a plan says."""

    city: str
    days: int


def raised(ask: Callable[[], Any]) -> str:
    """Give the name of what a call raises."""
    try:
        ask()
    except Exception as error:
        return type(error).__name__
    return "nothing"


def tell(told: dict[str, Any]) -> None:
    """Give the tests what was seen: one document on the last line."""
    sys.stdout.write(json.dumps(told) + "\n")
