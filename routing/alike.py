"""
Choices that were made before, for calls that are alike.

A choice is a pure function of the call and of what is known of models, which changes a few times in a second at most.
So what matters of a call is rounded, its size to eighths of a power of two and its complexity to tenths, and what is equal then is
chosen once for as long as the facts hold.
Every replica rounds alike, so that it does not matter which of them has made a choice before.

Whether a context is too small is not judged by a rounded size: where one might be, the call's own size decides.
"""

from routing.scoring import Call, Choice, Facts, Field, NoneFits, chosen

__all__ = ["Choices", "rounded_complexity", "rounded_tokens"]

KEPT_MODELS = 20_000
"""Choices are kept until so many models stand in them."""
_LEAST_STEP = 64


def rounded_tokens(tokens: int) -> int:
    """Return a size in tokens, rounded up by an eighth at most; by less than 64 tokens where that is more."""
    step = max(_LEAST_STEP, 1 << max(tokens.bit_length() - 4, 0))
    return -(-tokens // step) * step


def rounded_complexity(complexity: float) -> float:
    """Return a complexity to the tenth: it is a rough guess."""
    return int(complexity * 10.0 + 0.5) / 10.0


class Choices:
    """
    The choices among the contenders of a field, for calls that are alike.

    Those of `resort` stand behind them, and serve only when none of them can.
    """

    __slots__ = (
        *("_facts", "_made", "_most"),
        *("explores_below", "field", "resort", "sets_effort"),
    )

    def __init__(self, field: Field, resort: Field | None = None) -> None:
        self.field = field
        self.resort = resort
        self.sets_effort = field.policy.sets_effort
        # The tie of a request, of 32 bits, below which it is led to a model that was seen little.
        self.explores_below = int(field.policy.explore * 2**32)
        self._most = max(KEPT_MODELS // max(len(field.contenders), 1), 16)
        self._made: dict[Call, Choice] = {}
        self._facts: Facts | None = None

    def choose(self, call: Call, facts: Facts, input_tokens: int) -> Choice:
        """
        Return the choice for a call of which size and complexity are rounded; its own size is `input_tokens`.

        It belongs to all calls that are alike, and is not to be changed. Raises `NoneFits`.
        """
        made = self._made
        if facts is not self._facts:
            made.clear()
            self._facts = facts
        choice = made.get(call)
        if choice is None:
            try:
                choice = chosen(self.field, self.resort, call, facts)
            except NoneFits:
                return self._exact(call, facts, input_tokens)
            if len(made) >= self._most:
                made.clear()
            made[call] = choice
        return self._exact(call, facts, input_tokens) if choice.overflows else choice

    def _exact(self, call: Call, facts: Facts, input_tokens: int) -> Choice:
        """Return the choice for the size that a call has. Raises `NoneFits`."""
        return chosen(self.field, self.resort, call._replace(input_tokens=input_tokens), facts)
