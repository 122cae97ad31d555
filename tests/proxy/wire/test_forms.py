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
    found = Look(model, False, True, None, 1, None, 0, 0, None, 1, b"", (), False, (), False)
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


DISPOSITION = b"Content-Disposition: form-data; "

AMBIGUOUS = {
    "two dispositions": DISPOSITION + b'name="x"\r\n' + DISPOSITION + b'name="model"',
    "a folded line": DISPOSITION + b'name="x";\r\n name="model"',
    "a bare LF": b"X: 1\n" + DISPOSITION + b'name="model"\r\n' + DISPOSITION + b'name="x"',
    "a bare CR": b"X: 1\r" + DISPOSITION + b'name="model"\r\n' + DISPOSITION + b'name="x"',
    "a name in another coding": DISPOSITION + b"name=\"x\"; name*=utf-8''model",
    "a name in pieces": DISPOSITION + b'name="x"; name*0="mo"; name*1="del"',
    "a name only in pieces": DISPOSITION + b'name*0="mo"; name*1="del"',
    "a blank before the sign": DISPOSITION + b'name="x"; name ="model"',
    "a quote that may be escaped": DISPOSITION + b'name="x"; y="\\"; name=model; z="',
    "an escape in the name": DISPOSITION + b'name="mo\\del"',
    "an empty name": DISPOSITION + b'name=""',
}


@pytest.mark.parametrize("head", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_part_that_two_parsers_read_differently_is_refused(head: bytes) -> None:
    """Else a vendor might find another model in it than the one that was admitted."""
    body = b"--b-7\r\n" + head + b"\r\n\r\nm\r\n--b-7--\r\n"
    with pytest.raises(BadField) as refused:
        forms.scan(body, TYPE)
    assert refused.value.code == "invalid_form"


@pytest.mark.parametrize(
    "said",
    [
        b'name="file"; filename="my; name= x.png"',
        b'name="file"; filename="C:\\x\\y.png"',
        'name="file"; filename="nämé ü.png"'.encode(),
        b"name=file; filename*=utf-8''n%C3%A4me.png; filename=\"n.png\"; ",
    ],
)
def test_a_file_may_be_called_anything(said: bytes) -> None:
    """What stands within quotes is no name of a field."""
    body = b"--b-7\r\n" + DISPOSITION + said + b"\r\n\r\nm\r\n--b-7--\r\n"
    ((name, _, _, is_file),) = forms.scan(body, TYPE).parts
    assert (name, is_file) == ("file", True)


def test_a_boundary_is_said_once_and_stands_where_parts_begin() -> None:
    """Parsers differ in which of two they take, and in which line ends they see before one."""
    hidden = b"\n--b-7\n" + DISPOSITION + b'name="model"\n\nother'
    for body, content_type in (
        (write(("file", hidden, True)), TYPE),
        (write(("a", b"x", False)), TYPE + "; boundary=other"),
        (write(("a", b"x", False)), TYPE + "; boundary*=other"),
    ):
        with pytest.raises(BadField) as refused:
            forms.scan(body, content_type)
        assert refused.value.code == "invalid_form"


@pytest.mark.parametrize(
    ("text", "found"), [("7", 7), (" 07 ", 7), ("", None), ("000000000010", 10)]
)
def test_a_number_is_read_whole(text: str, found: int | None) -> None:
    """Blanks around it are none of it."""
    assert forms.number({"n": text}, "n", 1, 10) == found


@pytest.mark.parametrize(
    "text", ["0", "11", "-1", "1.0", "1e1", "\u0661", "1_0", "0" * 11 + "19", "1" * 5000]
)
def test_what_is_no_number_in_its_bounds_is_refused(text: str) -> None:
    """However many digits it has."""
    with pytest.raises(BadField, match="from 1 to 10"):
        forms.number({"n": text}, "n", 1, 10)


def test_a_field_that_matters_is_no_file() -> None:
    """It would be none to us, and a name to a vendor that takes it as text."""
    form = forms.scan(write(("model", b"other", True)), TYPE)
    with pytest.raises(BadField, match="plain field"):
        form.texts(["model"])


def test_a_field_that_matters_is_read_once() -> None:
    """Twice could be read in two ways; what is no text is named."""
    form = forms.scan(write(("n", b"1", False), ("n", b"2", False), ("q", b"\xff", False)), TYPE)
    for name, code in (("n", "duplicate"), ("q", "invalid_value")):
        with pytest.raises(BadField) as refused:
            form.texts([name])
        assert (refused.value.param, refused.value.code) == (name, code)
    assert form.texts(["nobody"]) == {}
