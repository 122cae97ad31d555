"""Words for people: plain in files and pipes, coloured on terminals that want it."""

import io

import pytest

from proxy.terminal import Terminal


class Screen(io.StringIO):
    """A terminal that remembers what was written to it."""

    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_plain_text_and_no_status_line() -> None:
    """What is read by a program holds no escape sequence."""
    out = io.StringIO()
    ours = Terminal(out, {})
    ours.status("working")
    ours.say(ours.paint("done", "green", "bold"))
    assert out.getvalue() == "done\n"
    assert not ours.is_live


def test_a_terminal_gets_colour_unless_it_is_asked_not_to() -> None:
    """`NO_COLOR`, set to anything, turns colour off and leaves the status line."""
    assert Terminal(Screen(), {}).paint("done", "green", "bold") == "\x1b[32;1mdone\x1b[0m"
    plain = Terminal(Screen(), {"NO_COLOR": "1"})
    assert plain.paint("done", "green") == "done"
    assert plain.is_live
    assert not Terminal(Screen(), {"TERM": "dumb"}).is_live


def test_a_status_line_makes_room_for_what_is_said() -> None:
    """It is replaced by the next status and gone when a line is written."""
    out = Screen()
    ours = Terminal(out, {"NO_COLOR": "1"})
    ours.status("1 request")
    ours.status("2 requests")
    ours.say("edge-0 ended")
    ours.say("edge-0 is back")
    assert out.getvalue() == (
        "\r\x1b[K1 request\r\x1b[K2 requests\r\x1b[Kedge-0 ended\nedge-0 is back\n"
    )


def test_a_status_line_never_wraps() -> None:
    """A wrapped line could not be replaced."""
    out = Screen()
    Terminal(out, {"NO_COLOR": "1"}).status("x" * 500)
    assert out.getvalue().count("x") == 79


@pytest.mark.parametrize("failure", [BrokenPipeError(), ValueError("closed")])
def test_a_reader_who_left_does_not_end_us(failure: Exception) -> None:
    """`./penstock up | head` must not take the gateway down."""

    class Gone(Screen):
        def write(self, text: str) -> int:
            raise failure

    Terminal(Gone(), {}).say("anybody there?")
