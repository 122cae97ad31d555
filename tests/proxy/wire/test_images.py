"""Images: what is asked bounds what may be made, and answers say what was."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import images
from proxy.wire.look import BadField
from proxy.wire.meter import StreamMeter, Units
from proxy.wire.sse import EventSplitter

USAGE = {
    "input_tokens": 50,
    "output_tokens": 60,
    "total_tokens": 110,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    "output_tokens_details": {"image_tokens": 60, "text_tokens": 0},
}


def look(**fields: Any) -> Any:
    return images.look(json.dumps({"prompt": "x"} | fields).encode())


def test_what_is_asked_for_is_what_is_reserved() -> None:
    """Images by quality and size; nothing said is left to the vendor."""
    seen = look(model="m", n=3, quality="High", size="1024x1024", partial_images=2, stream=True)
    assert seen.stream
    assert seen.sold.most == Units(images=3, image_kind="high/1024x1024")
    assert seen.sold.output_tokens == 3 * (4160 + 200)
    assert look().model == "dall-e-2"
    assert look().sold.most == Units(images=1, image_kind="/")


@pytest.mark.parametrize(
    "fields",
    [
        *({"n": 0}, {"n": 129}, {"n": 1.5}, {"prompt": 7}, {"size": "a/b"}, {"quality": "x" * 33}),
        *({"partial_images": -1}, {"partial_images": 99}, {"model": ""}, {"images": "x"}),
    ],
)
def test_a_mistake_is_named(fields: dict[str, Any]) -> None:
    """With the field that is wrong."""
    with pytest.raises(BadField) as refused:
        look(**fields)
    assert refused.value.param == next(iter(fields))


def test_the_images_of_an_answer_are_counted() -> None:
    """With the quality and size that the vendor says; tokens where it reports them."""
    answer = {"created": 1, "data": [{}, {}], "quality": "low", "size": "1024x1024"}
    usage = images.meter(json.dumps(answer | {"usage": USAGE}).encode())
    assert usage is not None
    assert usage.units == Units(images=2, image_kind="low/1024x1024")
    assert (usage.input_tokens, usage.image_input_tokens) == (50, 40)
    assert (usage.output_tokens, usage.image_output_tokens) == (60, 60)
    tail = json.dumps(answer | {"usage": USAGE}).encode()[20:]
    cut = images.meter(tail)
    assert cut is not None
    assert (cut.output_tokens, cut.units) == (60, None)
    for body in (b"{}", b"[]", b"nothing", b'{"usage":7}', b'{"usage":{"output_tokens":-1}}'):
        assert images.meter(body) is None


@given(st.data())
def test_a_stream_means_the_same_however_it_is_cut(data: st.DataObject) -> None:
    """Byte by byte or at once: the same bytes, the same usage, the same end."""
    events = [
        {"type": "image_generation.partial_image", "b64_json": "A" * 50},
        {"type": "image_generation.completed", "b64_json": "B" * 50, "usage": USAGE},
    ]
    stream = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events)
    splitter, meter = EventSplitter(), StreamMeter(images.EVENTS, keep_usage=True)
    out, at = b"", 0
    while at < len(stream):
        step = data.draw(st.integers(1, 80))
        whole = splitter.feed(stream[at : at + step])
        at += step
        if whole:
            out += meter.look(whole)
    assert out == stream
    assert meter.finished
    assert meter.usage is not None
    assert meter.usage.image_output_tokens == 60


def test_a_stream_without_its_last_event_is_not_finished() -> None:
    """A partial image is no image."""
    meter = StreamMeter(images.EVENTS, keep_usage=True)
    meter.look(b'data: {"type":"image_edit.partial_image","b64_json":"A"}\n\n')
    assert not meter.finished
    assert meter.output_tokens == 0
    meter.look(b'data: {"type": "image_edit.completed","b64_json":"A"}\n\n')
    assert meter.finished
    assert images.tokens_in({"data": [{}]}) == 0
