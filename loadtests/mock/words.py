"""What the mock vendor says: plain sentences, one token a word, for as long as it is asked to."""

_TEXT = (
    "Water comes down from the lake through a steel pipe as wide as a room. "
    "At its head stands a gate, and at its foot a turbine waits for as much as it can use and no more. "
    "When the valley asks for light, the gate opens a little further; when the valley sleeps, it closes again. "
    "Nobody down there thinks about the pipe, which is how one knows that it was built well. "
    "The keeper walks along it every morning with a lamp and a small hammer. "
    "She taps the rivets, listens, and writes a number into a book. "
    "What went in at the top must come out at the bottom, and the book has to agree with both. "
    "If a valve sticks, the water takes the other branch, and the lamps in the kitchens do not even flicker. "
    "Once a year an inspector adds up all the numbers and finds nothing to complain about. "
    "Then they sit on the wall above the gate, share a loaf of bread, and watch the river do its work. "
)

# A token is a word with the blank before it, as most tokenizers have it.
TOKENS: tuple[str, ...] = tuple(
    word if at == 0 else f" {word}" for at, word in enumerate(_TEXT.split())
)


def token(at: int) -> str:
    """Give the token number `at`, counted from 0; the text starts over when it ends."""
    if at and at % len(TOKENS) == 0:
        return f" {TOKENS[0]}"
    return TOKENS[at % len(TOKENS)]


def say(tokens: int) -> str:
    """Give a text of so many tokens."""
    return "".join(token(at) for at in range(tokens))
