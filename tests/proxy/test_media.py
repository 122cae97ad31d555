"""
Images, audio and moderations: bytes pass, forms as well, and what is not sold by the token is reserved, metered and billed.

What the ledger says and what the vendor's own books say must agree, to the image, the character and the microsecond.
"""

import asyncio
import json
import struct
from typing import Any

import pytest

from loadtests.mock.media import BYTES_PER_CHARACTER, PICTURE
from tests.proxy.edge_rig import Edge, Rig, eventually
from tests.proxy.partners import (
    PROMPT,
    Answer,
    Line,
    answer_head,
    at,
    event,
    once,
    piece,
    request,
    sse_head,
    whole,
)
from tests.proxy.stories import (
    booked,
    caller_gets,
    caller_gets_head,
    caller_sends,
    tell,
    vendor_gets,
    vendor_says,
)

IMAGES = "/v1/images/generations"
EDITS = "/v1/images/edits"
VARIATIONS = "/v1/images/variations"
SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
MODERATIONS = "/v1/moderations"

PER_IMAGE = {"per_image": {"default": 0.04, "hd": 0.08, "hd/1024x1792": 0.12}}
PER_SECOND = {"per_second": 0.0001}
SOON = {"after_ms": 1, "times": 0, "max_share": 0.5}
PER_CHARACTER = {"per_character": 0.000015}
SOUND = b"\xff\xfb" + bytes(range(256)) * 64
BOUNDARY = "----boundary7f3"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def form(**fields: str | bytes) -> bytes:
    """Write a form; bytes are files."""
    parts = []
    for name, value in fields.items():
        file = isinstance(value, bytes)
        head = f'content-disposition: form-data; name="{name}"'
        head += f'; filename="{name}.bin"\r\ncontent-type: application/octet-stream' if file else ""
        data = value if isinstance(value, bytes) else value.encode()
        parts.append(f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + data + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def sends_form(body: bytes, path: str, content_type: str = FORM) -> bytes:
    """Write a request with a form."""
    return request(body, f"Content-Type: {content_type}", path=path)


async def ask_form(rig: Rig, body: bytes, path: str, content_type: str = FORM) -> Answer:
    return await rig.ask(body, f"Content-Type: {content_type}", path=path)


def image(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "prompt": PROMPT} | fields).encode()


def priced(price: dict[str, Any], *deployments: Any) -> dict[str, Any]:
    return {"m": {"deployments": list(deployments), "price": price}}


# Images...


async def test_images_are_billed_by_the_piece(edge: Edge) -> None:
    """As many as came, at the price of the quality and size that were asked for."""
    rig = await edge(models=priced(PER_IMAGE, "sim;usage=off"))
    for fields, images, nusd in (
        ({}, 1, 40_000_000),
        ({"n": 3, "quality": "hd"}, 3, 240_000_000),
        ({"n": 2, "quality": "hd", "size": "1024x1792"}, 2, 240_000_000),
    ):
        answer = await rig.ask(image(**fields), path=IMAGES)
        assert len(answer.json["data"]) == images
        entry = (await rig.entries())[-1]
        assert (entry.images, entry.cost_nusd, entry.token_source) == (images, nusd, "provider")
        assert (entry.protocol, entry.input_tokens, entry.output_tokens) == ("openai.images", 0, 0)
    assert rig.mock.books()["totals"]["images"] == 6


async def test_image_tokens_are_billed_as_the_vendor_reports_them(edge: Edge) -> None:
    """Whole and as a stream of partial images, which passes byte for byte."""
    price = {"input": 5, "output": 8, "image_output": 40}
    rig = await edge(models=priced(price, "sim;tokens=100;prompt=20"))
    for stream in (False, True):
        body = image(stream=stream, partial_images=2) if stream else image()
        answer = await rig.ask(body, path=IMAGES)
        assert answer.complete
        if stream:
            kinds = [json.loads(one)["type"] for one in answer.events]
            assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
        entry = (await rig.entries())[-1]
        assert (entry.input_tokens, entry.output_tokens, entry.stream) == (20, 100, int(stream))
        assert (entry.images, entry.image_output_tokens) == (1, 100)
        assert entry.cost_nusd == 20 * 5000 + 100 * 40_000


async def test_a_strict_budget_holds_images_before_they_are_made(edge: Edge) -> None:
    """What it cannot hold at the dearest that the call leaves open is refused; the difference is given back."""
    budget = {"usd": 0.25, "per": "month", "mode": "strict"}
    rig = await edge(models=priced(PER_IMAGE, "sim;usage=off"), team={"budget": budget})
    refused = await rig.ask(image(n=3), path=IMAGES)
    assert (refused.status, refused.error["code"]) == (402, "budget_exhausted")
    assert (await rig.ask(image(n=3, quality="standard", size="1x1"), path=IMAGES)).status == 200
    assert (await rig.ask(image(), path=IMAGES)).status == 200
    spent = (await rig.scopes())["{c0}:s:team:acme/support"].budgets["month"].spent_nusd
    assert spent == 160_000_000
    assert rig.mock.books()["totals"]["calls"] == 2


async def test_a_price_that_sells_something_else_does_not_open_a_strict_budget(edge: Edge) -> None:
    """What an image costs says nothing of a chat."""
    budget = {"usd": 1, "per": "month", "mode": "strict"}
    rig = await edge(models=priced(PER_IMAGE, "sim"), team={"budget": budget})
    chat = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
    refused = await rig.ask(chat)
    assert (refused.status, refused.error["code"]) == (400, "none_eligible")
    speech = await rig.ask(b'{"model":"m","input":"x","voice":"v"}', path=SPEECH)
    assert speech.error["code"] == "none_eligible"


async def test_a_form_passes_byte_for_byte_but_for_the_models_name(edge: Edge) -> None:
    """The picture, the boundary and fields that nobody knows stay as they came."""
    rig = await edge(models=priced(PER_IMAGE, at("v")), scripted=["v"])
    body = form(prompt="x", model="m", image=SOUND, mask=b"", unheard_of="\u00fc")
    answer = json.dumps({"created": 1, "data": [{"b64_json": PICTURE}]}).encode()
    stage = await (
        tell(rig)
        >> caller_sends(sends_form(body, EDITS))
        << vendor_gets()
        >> vendor_says(whole(answer))
        << caller_gets(200, body=answer)
        << booked({"protocol": "openai.image_edits", "images": 1, "cost_nusd": 40_000_000})
    )
    assert stage.asked is not None
    assert stage.asked.line == "POST /v1/images/edits HTTP/1.1"
    assert stage.asked.body == body.replace(b"\r\n\r\nm\r\n", b"\r\n\r\nupstream-m\r\n")
    assert stage.asked.header("content-type") == FORM


async def test_a_form_without_a_model_means_the_vendors_own(edge: Edge) -> None:
    """As at OpenAI; where the deployment has another name for it, that is put in."""
    models = {"dall-e-2": {"deployments": ["sim;usage=off"], "price": PER_IMAGE}}
    rig = await edge(models=models)
    answer = await ask_form(rig, form(image=SOUND, n="2"), VARIATIONS)
    assert (answer.status, len(answer.json["data"])) == (200, 2)
    assert (await rig.ask(b'{"prompt":"x"}', path=IMAGES)).status == 200
    assert [entry.images for entry in await rig.entries()] == [2, 1]
    assert rig.mock.books()["complaints"] == []


@pytest.mark.parametrize(
    ("path", "body", "content_type", "code", "param"),
    [
        (EDITS, form(model="m", prompt="x"), FORM, "missing", "image"),
        (EDITS, form(model="m", image=SOUND), FORM, "missing", "prompt"),
        (EDITS, form(model="m", prompt="x", image=SOUND, n="many"), FORM, "invalid_value", "n"),
        (EDITS, form(model="m", prompt="x")[:-9], FORM, "invalid_form", None),
        (EDITS, b"nothing", FORM, "invalid_form", None),
        (EDITS, b"nothing", "multipart/form-data", "invalid_form", None),
        (VARIATIONS, b"{}", "application/json", "invalid_form", None),
        (TRANSCRIPTIONS, form(model="m"), FORM, "missing", "file"),
        (TRANSCRIPTIONS, form(file=SOUND), FORM, "missing", "model"),
        (TRANSCRIPTIONS, form(model="m", file=SOUND) * 2, FORM, "invalid_form", None),
        (TRANSCRIPTIONS, b"{}", "application/json", "invalid_form", None),
        (IMAGES, b'{"model":"m"}', "application/json", "missing", "prompt"),
        (IMAGES, image(n=0), "application/json", "invalid_value", "n"),
        (IMAGES, image(n="x"), "application/json", "invalid_type", "n"),
        (IMAGES, b'{"model":"m","prompt":"x","N":9}', "application/json", "invalid_value", "N"),
        (SPEECH, b'{"model":"m","input":""}', "application/json", "invalid_value", "input"),
        (SPEECH, b'{"model":"m","input":"x","speed":9}', "application/json", None, "speed"),
        (MODERATIONS, b'{"model":"m"}', "application/json", "missing", "input"),
        (MODERATIONS, b'{"model":"m","input":7}', "application/json", "invalid_type", "input"),
    ],
)
async def test_a_mistake_is_named(
    edge: Edge, *, path: str, body: bytes, content_type: str, code: str | None, param: str | None
) -> None:
    """400 in OpenAI's envelope, with the field, before anything is admitted."""
    rig = await edge(models=priced(PER_IMAGE | PER_SECOND, "sim;usage=off"))
    answer = await ask_form(rig, body, path, content_type)
    assert answer.status == 400
    assert answer.error["param"] == param
    assert code in {None, answer.error["code"]}
    assert rig.mock.books()["totals"]["calls"] == 0


async def test_a_model_that_is_named_twice_is_refused(edge: Edge) -> None:
    """Two parsers could read two names."""
    rig = await edge(models=priced(PER_SECOND, "sim"))
    twice = form(model="m", file=SOUND).replace(f"--{BOUNDARY}--".encode(), form(model="other"))
    answer = await ask_form(rig, twice, TRANSCRIPTIONS)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (
        *(400, "duplicate", "model"),
    )


# Speech...


async def test_speech_passes_as_it_comes(edge: Edge) -> None:
    """The first sound is with the caller before the last is made; characters are billed, and seconds are measured."""
    rig = await edge(models=priced(PER_CHARACTER, at("v")), scripted=["v"])
    text = "\u00fcber " * 20
    body = json.dumps({"model": "m", "input": text, "voice": "alloy", "response_format": "pcm"})
    stage = await (
        tell(rig)
        >> caller_sends(request(body.encode(), path=SPEECH))
        << vendor_gets(model="upstream-m", voice="alloy")
        >> vendor_says(
            answer_head(b"content-type: audio/pcm", b"transfer-encoding: chunked"),
            piece(SOUND),
        )
        << caller_gets_head(200, content_type="audio/pcm")
    )
    assert await stage.caller.chunk() == SOUND
    assert stage.line is not None
    await stage.line.says(piece(SOUND), piece(b""))
    assert await stage.caller.chunk() == SOUND
    assert await stage.caller.chunk() == b""
    (entry,) = await rig.entries()
    assert (entry.protocol, entry.characters, entry.outcome) == ("openai.speech", 100, "ok")
    assert entry.cost_nusd == 100 * 15_000
    assert entry.audio_output_us == 2 * len(SOUND) * 1_000_000 // 48_000
    assert entry.token_source == "estimated"


async def test_speech_that_is_cut_is_no_whole_answer(edge: Edge) -> None:
    """Its framing breaks; what was sent to be spoken is owed."""
    rig = await edge(models=priced(PER_CHARACTER, at("v")), scripted=["v"])

    head = answer_head(b"content-type: audio/mpeg", b"transfer-encoding: chunked")
    rig.vendors["v"].habit = once(head, piece(SOUND))
    answer = await rig.ask(b'{"model":"m","input":"four"}', path=SPEECH)
    assert (answer.status, answer.complete, answer.body) == (200, False, SOUND)
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.characters) == ("upstream_lost", 4)
    assert entry.cost_nusd == 4 * 15_000


async def test_speech_in_events_says_its_tokens(edge: Edge) -> None:
    """With `stream_format` sse it is a stream like any other."""
    price = {"input": 1, "output": 12}
    rig = await edge(models=priced(price, "sim;tokens=50;prompt=9"))
    body = b'{"model":"m","input":"hello","voice":"v","stream_format":"sse"}'
    answer = await rig.ask(body, path=SPEECH)
    assert json.loads(answer.events[-1])["type"] == "speech.audio.done"
    (entry,) = await rig.entries()
    assert (entry.input_tokens, entry.output_tokens, entry.audio_output_tokens) == (9, 50, 50)
    assert (entry.cost_nusd, entry.characters) == (9 * 1000 + 50 * 12_000, 5)
    assert rig.mock.books()["totals"]["characters"] == 5


# Transcriptions...


def wav(seconds: int) -> bytes:
    """Write a recording of silence at 8 kHz."""
    data = bytes(16_000 * seconds - 44)
    head = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16_000, 2, 16
    )
    return head + struct.pack("<4sI", b"data", len(data)) + data


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, TRANSLATIONS])
@pytest.mark.parametrize("kind", ["json", "verbose_json", "srt", "vtt"])
async def test_a_recording_is_billed_by_the_second(edge: Edge, path: str, kind: str) -> None:
    """As the vendor's usage says, or the duration, or the last subtitle."""
    usage = "on" if kind == "json" else "off"
    rig = await edge(models=priced(PER_SECOND, f"sim;seconds=9;usage={usage}"))
    body = form(file=SOUND, model="m", response_format=kind, temperature="0.5")
    answer = await ask_form(rig, body, path)
    assert (answer.status, answer.complete) == (200, True)
    json_types = {"json": "application/json", "verbose_json": "application/json"}
    assert (answer.header("content-type") or "").startswith(json_types.get(kind, "text/plain"))
    (entry,) = await rig.entries()
    assert (entry.audio_input_us, entry.token_source) == (9_000_000, "provider")
    assert (entry.cost_nusd, entry.input_tokens, entry.output_tokens) == (900_000, 0, 0)
    assert rig.mock.books()["totals"]["audio_ms"] == 9000


async def test_a_recording_that_nobody_measures_is_measured_here(edge: Edge) -> None:
    """By the head of a WAV file exactly, else by its size; and it is marked as estimated."""
    rig = await edge(models=priced(PER_SECOND, "sim;usage=off"))
    for recording, us in ((wav(3), 3_000_000), (bytes(80_000), 10_000_000)):
        body = form(model="m", file=recording, response_format="text")
        assert (await ask_form(rig, body, TRANSCRIPTIONS)).status == 200
        entry = (await rig.entries())[-1]
        assert (entry.audio_input_us, entry.token_source) == (us, "estimated")
        assert entry.cost_nusd == us * 100_000 // 1_000_000


async def test_a_transcription_by_the_token(edge: Edge) -> None:
    """Whole and as a stream: the vendor's tokens, audio told apart."""
    price = {"input": 1, "output": 2, "audio_input": 3}
    rig = await edge(models=priced(price, "sim;tokens=7;prompt=40"))
    for stream in ("false", "true"):
        body = form(model="m", file=SOUND, stream=stream)
        answer = await ask_form(rig, body, TRANSCRIPTIONS)
        assert answer.complete
        entry = (await rig.entries())[-1]
        assert (entry.input_tokens, entry.audio_input_tokens, entry.output_tokens) == (40, 40, 7)
        assert entry.cost_nusd == 40 * 3000 + 7 * 2000
    assert json.loads(answer.events[-1])["type"] == "transcript.text.done"


async def test_a_cut_transcript_ends_in_an_error(edge: Edge) -> None:
    """As every stream: well-formed, typed, settled."""
    rig = await edge(models=priced(PER_SECOND, at("v")), scripted=["v"])

    first = event({"type": "transcript.text.delta", "delta": "a"})
    rig.vendors["v"].habit = once(sse_head(), piece(first))
    answer = await ask_form(rig, form(model="m", file=wav(2), stream="true"), TRANSCRIPTIONS)
    assert answer.ends_in_error["code"] == "upstream_lost"
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.audio_input_us) == ("upstream_lost", 2_000_000)


async def test_a_strict_budget_holds_the_longest_that_a_file_can_be(edge: Edge) -> None:
    """A WAV file says how long it is; of any other the size is all that is known."""
    budget = {"usd": 0.005, "per": "month", "mode": "strict"}
    rig = await edge(models=priced(PER_SECOND, "sim;seconds=4"), team={"budget": budget})
    refused = await ask_form(rig, form(model="m", file=bytes(80_000)), TRANSCRIPTIONS)
    assert (refused.status, refused.error["code"]) == (402, "budget_exhausted")
    assert (await ask_form(rig, form(model="m", file=wav(5)), TRANSCRIPTIONS)).status == 200
    (entry,) = await rig.entries()
    assert entry.cost_nusd == 400_000


async def test_a_recording_goes_elsewhere_when_its_provider_fails(edge: Edge) -> None:
    """The form is sent again as it came, with the other deployment's name; who refused is owed nothing."""
    rig = await edge(models=priced(PER_SECOND, "sim;status=503", at("v")), scripted=["v"])
    heard: list[bytes] = []

    async def serve(line: Line) -> None:
        while True:
            heard.append((await line.gets()).body)
            await line.says(whole(b'{"text":"hi","usage":{"type":"duration","seconds":2}}'))

    rig.vendors["v"].habit = serve
    body = form(model="m", file=SOUND)
    for _ in range(3):
        assert (await ask_form(rig, body, TRANSCRIPTIONS)).status == 200
    assert set(heard) == {body.replace(b"\r\n\r\nm\r\n", b"\r\n\r\nupstream-m\r\n")}
    entries = await rig.entries()
    assert sum(entry.audio_input_us for entry in entries) == 6_000_000
    assert {entry.cost_nusd for entry in entries if entry.outcome != "ok"} <= {0}


async def test_a_caller_who_leaves_a_recording_lets_go_of_everything(edge: Edge) -> None:
    """What was sent is owed; the vendor is hung up on."""
    rig = await edge(models=priced(PER_SECOND, "sim;hang=head"))
    caller = await rig.caller()
    await caller.send(sends_form(form(model="m", file=wav(2)), TRANSCRIPTIONS))
    await rig.mock.until(lambda books: books.totals.in_flight == 1)
    await caller.leave()
    await eventually(lambda: not rig.edge.exchanges)
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.cost_nusd) == ("client_left", 200_000)


# Moderations...


async def test_a_moderation_is_governed_and_may_be_free(edge: Edge) -> None:
    """Without a model it means the vendor's own; it counts as a request, and costs what its tokens do."""
    free = {"deployments": ["sim"], "price": {"input": 0, "output": 0}}
    rig = await edge(
        models={"omni-moderation-latest": free, "m": ["sim"]}, key={"limits": {"rpm": 3}}
    )
    for body in (
        b'{"input":"x"}',
        b'{"input":[{"type":"text","text":"x"}],"model":"omni-moderation-latest"}',
        b'{"model":"m","input":["abcd","efgh"]}',
    ):
        answer = await rig.ask(body, path=MODERATIONS)
        assert answer.json["results"][0]["flagged"] is False
    assert (await rig.ask(b'{"input":"x"}', path=MODERATIONS)).status == 429
    entries = await rig.entries()
    assert [entry.protocol for entry in entries] == ["openai.moderations"] * 3
    assert [entry.cost_nusd > 0 for entry in entries] == [False, False, True]


async def test_a_picture_is_not_made_twice(edge: Edge) -> None:
    """However late its first part is: no second deployment is asked beside the first."""
    slow = "sim;ttft_ms=60;tokens=5;prompt=3"
    model = {"deployments": [slow, slow], "price": PER_IMAGE, "hedge": SOON}
    rig = await edge(models={"m": model})
    answer = await rig.ask(image(stream=True, partial_images=1), path=IMAGES)
    assert answer.complete
    assert rig.mock.books()["totals"]["calls"] == 1
    assert await rig.outcomes() == ["ok"]


async def test_many_forms_at_once(edge: Edge) -> None:
    """Each is answered and booked, and both books agree."""
    rig = await edge(models=priced(PER_CHARACTER | PER_SECOND, "sim;seconds=2"))
    body = form(model="m", file=SOUND)
    speech = b'{"model":"m","input":"hello","voice":"v"}'
    answers = await asyncio.gather(
        *(ask_form(rig, body, TRANSCRIPTIONS) for _ in range(10)),
        *(rig.ask(speech, path=SPEECH) for _ in range(10)),
    )
    assert {answer.status for answer in answers} == {200}
    assert {len(answer.body) for answer in answers[10:]} == {5 * BYTES_PER_CHARACTER}
    entries = await rig.entries()
    totals = rig.mock.books()["totals"]
    assert totals["characters"] == sum(entry.characters for entry in entries) == 50
    assert totals["audio_ms"] == sum(entry.audio_input_us for entry in entries) // 1000 == 20_000
