"""Forms are scanned where they lie: whatever is cut off or doubled is refused, and nothing but the model's name changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import forms
from proxy.wire.look import BadField, Look

TYPE = 'multipart/form-data; boundary="b-7"'
NAMES = st.text("abcmodel_", min_size=1, max_size=8)


def write(*parts: tuple[str, bytes, bool]) -> bytes:
    """Write a form of (name, value, whether it is a file)."""
    pieces = []
    for name, value, is_file in parts:
        file = '; filename="x"' if is_file else ""
        head = f'--b-7\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        pieces += [head.encode(), value, b"\r\n"]
    return b"".join(pieces) + b"--b-7--\r\n"


def seen(form: forms.Form, model: str) -> Look:
    found = Look(model, False, True, None, (), 1, None, 0, 0, None, 1, b"", (), False, (), False)
    found.cuts, found.form = (form.span("model"),), form.boundary
    return found


@given(st.lists(st.tuples(NAMES, st.binary(max_size=60), st.booleans()), max_size=6))
def test_what_was_written_is_found(parts: list[tuple[str, bytes, bool]]) -> None:
    """Names, values byte for byte, and which are files, whatever the values hold but the boundary itself."""
    body = write(*parts)
    form = forms.scan(body, TYPE)
    found = [(part.name, body[part.start : part.end], part.is_file) for part in form.parts]
    assert found == parts


@given(st.binary(max_size=40), st.text(min_size=1, max_size=12))
def test_another_name_changes_nothing_else(file: bytes, model: str) -> None:
    """The rest stays as it came, also where the caller named no model."""
    body = write(("file", file, True), ("model", b"mine", False), ("more", b"x", False))
    new = bytes(forms.rewrite(body, seen(forms.scan(body, TYPE), "mine"), model))
    assert new == write(
        ("file", file, True), ("model", model.encode(), False), ("more", b"x", False)
    )
    without = write(("file", file, True))
    added = forms.rewrite(without, seen(forms.scan(without, TYPE), "theirs"), model)
    form = forms.scan(bytes(added), TYPE)
    assert form.texts(["model"]) == {"model": model}
    assert [bytes(one) for one in form.files("file")] == [file]
    assert len(added) == len(bytes(added))


def test_the_same_name_is_the_same_body() -> None:
    """Nothing is copied where nothing changes."""
    body = write(("model", b"m", False))
    assert forms.rewrite(body, seen(forms.scan(body, TYPE), "m"), "m") is body


def test_the_pieces_of_a_large_form_are_the_callers_own_bytes() -> None:
    """A recording is not copied to change a name in front of it."""
    body = write(("model", b"m", False), ("file", bytes(1 << 20), True))
    spliced = forms.rewrite(body, seen(forms.scan(body, TYPE), "m"), "other")
    assert isinstance(spliced, forms.Spliced)
    assert [piece.obj is body for piece in spliced.pieces if isinstance(piece, memoryview)] == [
        *(True, True)
    ]


@given(st.data())
def test_a_cut_form_is_refused(data: st.DataObject) -> None:
    """At any byte before its last boundary."""
    body = write(("model", b"m", False), ("file", b"\r\n--b-", True))
    cut = data.draw(st.integers(0, len(body) - 5))
    with pytest.raises(BadField) as refused:
        forms.scan(body[:cut], TYPE)
    assert refused.value.code == "invalid_form"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (write(("a", b"x", False)), "multipart/form-data"),
        (write(("a", b"x", False)), "multipart/form-data; boundary=\u00fc"),
        (write(("a", b"x", False)), "multipart/form-data; boundary=other"),
        (write(("a", b"x", False)) + b"more", TYPE),
        (b"--b-7\r\n\r\nx\r\n--b-7--", TYPE),
        (b"--b-7\r\ncontent-disposition: form-data\r\n\r\nx\r\n--b-7--", TYPE),
        (b'--b-7\r\ncontent-disposition: x; name="a"; name="b"\r\n\r\nx\r\n--b-7--', TYPE),
        (b'--b-7 x\r\ncontent-disposition: x; name="a"\r\n\r\nx\r\n--b-7--', TYPE),
        (b"--b-7\r\n" + b"a" * 9000 + b"\r\n\r\nx\r\n--b-7--", TYPE),
        (write(*[("a", b"", False)] * 257), TYPE),
        (b"", TYPE),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, content_type: str) -> None:
    """With words, and never with another error."""
    with pytest.raises(BadField) as refused:
        forms.scan(body, content_type)
    assert refused.value.code == "invalid_form"


def test_a_field_that_matters_is_read_once() -> None:
    """Twice could be read in two ways; what is no text is named."""
    form = forms.scan(write(("n", b"1", False), ("n", b"2", False), ("q", b"\xff", False)), TYPE)
    for name, code in (("n", "duplicate"), ("q", "invalid_value")):
        with pytest.raises(BadField) as refused:
            form.texts([name])
        assert (refused.value.param, refused.value.code) == (name, code)
    assert form.texts(["nobody"]) == {}
