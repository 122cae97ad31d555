"""Laws of what the mock vendor says."""

from loadtests.mock import words


def test_a_text_is_the_sum_of_its_tokens():
    """`say(n)` has n tokens, one word each, also beyond the end of the text."""
    many = 3 * len(words.TOKENS) + 5
    assert words.say(many) == "".join(words.token(at) for at in range(many))
    assert len(words.say(many).split()) == many
    assert words.say(0) == ""
