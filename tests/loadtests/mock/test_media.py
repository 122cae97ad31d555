"""The mock's images, audio and moderations: full answers, and units in its books."""

import base64
import json
from typing import Any

import httpx2
import pytest

from loadtests import mock
from loadtests.mock.media import PICTURE, read_form


async def test_what_was_used_is_in_the_books() -> None:
    """Images, characters and milliseconds of whole answers; of a refused one nothing."""
    async with mock.serve() as vendor, httpx2.AsyncClient(base_url=vendor.base_url) as client:
        images = await client.post(
            "/images/generations", json={"model": "sim", "prompt": "x", "n": 2}
        )
        assert len(images.json()["data"]) == 2
        speech = {"model": "sim", "input": "hello", "voice": "v"}
        sound = await client.post("/audio/speech", json=speech)
        assert sound.headers["content-type"] == "audio/mpeg"
        written = await client.post(
            "/audio/transcriptions", data={"model": "sim;seconds=3"}, files={"file": b"\r\n--x"}
        )
        assert written.json()["usage"] == {"type": "duration", "seconds": 3}
        refused = {"model": "sim;status=500", "prompt": "x"}
        assert (await client.post("/images/generations", json=refused)).status_code == 500
        judged = await client.post("/moderations", json={"model": "sim", "input": "x"})
        assert judged.json()["results"][0]["flagged"] is False
        totals = vendor.books()["totals"]
    assert (totals["images"], totals["characters"], totals["audio_ms"]) == (2, 5, 3000)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/images/generations", {"model": "sim"}),
        ("/audio/speech", {"model": "sim", "input": "x"}),
        ("/moderations", {"model": "sim"}),
    ],
)
async def test_a_bad_call_is_refused(path: str, body: dict[str, Any]) -> None:
    """As the vendor refuses it, with the field."""
    async with mock.serve() as vendor, httpx2.AsyncClient(base_url=vendor.base_url) as client:
        answer = await client.post(path, json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] in {"prompt", "voice", "input"}
        bad = await client.post("/audio/transcriptions", content=b"nothing")
        assert bad.status_code == 400


def test_a_form_is_read_as_it_came() -> None:
    """Fields as text, files by their size; a doubled field is no form."""
    body = (
        b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n'
        b'--b\r\ncontent-disposition: form-data; name="f[]"; filename="x"\r\n\r\n\r\n--\r\n'
        b"--b--\r\n"
    )
    assert read_form(body) == ({"a": "1"}, {"f": 4})
    with pytest.raises(ValueError, match="boundary"):
        read_form(body[:-6])


async def test_a_stream_of_images_is_whole() -> None:
    """Partial ones first, then the picture with its usage."""
    asked = {"model": "sim;tokens=5", "prompt": "x", "stream": True, "partial_images": 1}
    async with mock.serve() as vendor, httpx2.AsyncClient(base_url=vendor.base_url) as client:
        text = (await client.post("/images/generations", json=asked)).text
    first, last = [json.loads(one.removeprefix("data: ")) for one in text.strip().split("\n\n")]
    assert (first["type"], last["type"]) == (
        "image_generation.partial_image",
        "image_generation.completed",
    )
    assert base64.b64decode(last["b64_json"]) == base64.b64decode(PICTURE)
    assert last["usage"]["output_tokens"] == 5
