"""
The official openai client for what is not chatted about: images, audio, moderations, files, batches and realtime, against processes.

What the client was given, what the vendor says that it served and what the ledger says that it cost must agree, to the image and the character.
"""

import asyncio
import base64
import contextlib
import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from governance.reconcile import verify
from loadtests.mock.media import BYTES_PER_CHARACTER, PICTURE
from store.cells import FIRST
from tests.integration.processes import KEY, Books, Gateway, running, wait_until

MEDIA: dict[str, tuple[str, dict[str, Any]]] = {
    "dall-e-2": ("sim;usage=off", {"per_image": {"default": 0.04, "hd": 0.08}}),
    "gpt-image": ("sim;tokens=100;prompt=20", {"input": 5, "output": 40}),
    "tts": ("sim;tokens=9;prompt=3", {"per_character": 0.000015}),
    "whisper": ("sim;seconds=9", {"per_second": 0.0001}),
    "omni-moderation-latest": ("sim", {"input": 0, "output": 0}),
    "batchable": ("sim;tokens=5;prompt=40", {"input": 1, "output": 2}),
    "realtime": ("sim;tokens=10;prompt=100;audio_in=30;audio_out=4", {"input": 4, "output": 16}),
}
# What the client says of itself is no fault of ours: of what OpenAI will end, and of how it uses its own library.
pytestmark = [
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:connect:DeprecationWarning"),
]
SOUND = io.BytesIO(bytes(range(256)) * 32)
SOUND.name = "speech.mp3"


class MediaGateway(Gateway):
    """A gateway whose one provider sells everything, and keeps files."""

    def document(self) -> dict[str, Any]:
        """Write the configuration."""
        document = super().document()
        document["providers"]["mock"]["files"] = True
        document["models"] |= {
            name: {"price": price, "deployments": [{"provider": "mock", "name": upstream}]}
            for name, (upstream, price) in MEDIA.items()
        }
        return document


@pytest.fixture(scope="module")
def gateway(make_redis: Callable[..., Any]) -> Iterator[Gateway]:
    """Share the processes among the tests."""
    with running(make_redis().url, make=MediaGateway) as made:
        yield made


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    """Give a client of the gateway's."""
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def test_images(client: openai.OpenAI, books: Books, gateway: Gateway) -> None:
    """Generated, edited and varied, as JSON and as forms, by the piece and by the token."""
    made = client.images.generate(model="dall-e-2", prompt="x", n=2, quality="hd")
    assert [one.b64_json for one in made.data or ()] == [PICTURE] * 2
    picture = io.BytesIO(base64.b64decode(PICTURE))
    picture.name = "picture.png"
    client.images.edit(model="dall-e-2", image=picture, prompt="x", n=3)
    client.images.create_variation(image=picture)
    tokens = client.images.generate(model="gpt-image", prompt="x")
    assert tokens.usage is not None
    assert (tokens.usage.input_tokens, tokens.usage.output_tokens) == (20, 100)
    entries = books.entries(4)
    assert [entry.images for entry in entries] == [2, 3, 1, 1]
    assert [entry.cost_nusd for entry in entries] == [
        *(160_000_000, 120_000_000, 40_000_000),
        20 * 5000 + 100 * 40_000,
    ]
    totals = gateway.vendor_books()["totals"]
    assert (totals["images"], totals["complaints"]) == (7, 0)


def test_a_stream_of_an_image(client: openai.OpenAI, books: Books) -> None:
    """Partial images as they come, then the picture with its usage."""
    with client.images.generate(
        model="gpt-image", prompt="x", stream=True, partial_images=2
    ) as stream:
        events = list(stream)
    assert [event.type for event in events] == [
        *["image_generation.partial_image"] * 2,
        "image_generation.completed",
    ]
    (entry,) = books.entries(1)
    assert (entry.stream, entry.output_tokens, entry.image_output_tokens) == (1, 100, 100)


def test_speech(client: openai.OpenAI, books: Books, gateway: Gateway) -> None:
    """As sound, whole and while it is made, and as events."""
    whole = client.audio.speech.create(model="tts", voice="alloy", input="hello")
    assert len(whole.content) == 5 * BYTES_PER_CHARACTER
    with client.audio.speech.with_streaming_response.create(
        model="tts", voice="alloy", input="good morning"
    ) as streamed:
        assert sum(map(len, streamed.iter_bytes())) == 12 * BYTES_PER_CHARACTER
    client.audio.speech.create(model="tts", voice="alloy", input="bye", stream_format="sse")
    entries = books.entries(3)
    assert [entry.characters for entry in entries] == [5, 12, 3]
    assert [entry.cost_nusd for entry in entries] == [5 * 15_000, 12 * 15_000, 3 * 15_000]
    assert gateway.vendor_books()["totals"]["characters"] == 20


def test_transcriptions(client: openai.OpenAI, books: Books, gateway: Gateway) -> None:
    """In every form that the client reads, streamed and translated."""
    for kind in ("json", "verbose_json", "text", "srt", "vtt"):
        said = client.audio.transcriptions.create(
            model="whisper", file=SOUND, response_format=kind, language="en"
        )
        assert said
    with client.audio.transcriptions.create(model="whisper", file=SOUND, stream=True) as stream:
        assert [event.type for event in stream][-1] == "transcript.text.done"
    client.audio.translations.create(model="whisper", file=SOUND)
    entries = books.entries(7)
    measured = [entry.audio_input_us for entry in entries if entry.token_source == "provider"]
    assert measured == [9_000_000] * 6
    assert {entry.cost_nusd for entry in entries if entry.token_source == "provider"} == {900_000}
    assert gateway.vendor_books()["totals"]["audio_ms"] == 63_000


def test_moderations(client: openai.OpenAI, books: Books) -> None:
    """Free, without a model's name, and admitted all the same."""
    judged = client.moderations.create(input=["x", "y"])
    assert judged.results[0].flagged is False
    (entry,) = books.entries(1)
    assert (entry.protocol, entry.cost_nusd) == ("openai.moderations", 0)


def test_errors_are_the_clients_own(client: openai.OpenAI, books: Books) -> None:
    """With code and field, for forms as well."""
    with pytest.raises(openai.NotFoundError) as missing:
        client.audio.transcriptions.create(model="nobody", file=SOUND)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        client.images.generate(model="dall-e-2", prompt="x", n=0)
    assert bad.value.param == "n"
    with pytest.raises(openai.NotFoundError) as gone:
        client.files.retrieve("file-nobody")
    assert gone.value.code == "not_found"
    books.entries(0)


def test_files(client: openai.OpenAI) -> None:
    """Kept, listed, read and deleted."""
    made = client.files.create(file=("notes.txt", b"some notes"), purpose="assistants")
    assert made.bytes == len(b"some notes")
    assert client.files.retrieve(made.id).purpose == "assistants"
    assert client.files.content(made.id).read() == b"some notes"
    assert made.id in [one.id for one in client.files.list()]
    assert client.files.delete(made.id).deleted
    assert made.id not in [one.id for one in client.files.list()]


def test_realtime(gateway: Gateway, client: openai.OpenAI, books: Books) -> None:
    """Sync and async: each response is an entry with the usage that the client was told."""
    with client.realtime.connect(model="realtime") as session:
        session.conversation.item.create(
            item={
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "Say something."}],
            }
        )
        session.response.create()
        for event in session:
            if event.type == "response.done":
                break
        assert event.response.usage is not None
        assert event.response.usage.output_tokens == 10

    async def ask() -> None:
        async with (
            openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY) as theirs,
            theirs.realtime.connect(model="realtime") as session,
        ):
            await session.response.create()
            async for event in session:
                if event.type == "response.done":
                    return

    asyncio.run(ask())
    entries = books.entries(2)
    assert {(entry.input_tokens, entry.audio_output_tokens) for entry in entries} == {(100, 4)}
    assert gateway.vendor_books()["totals"]["completion_tokens"] == 20


def test_a_batch(make_redis: Callable[..., Any]) -> None:
    """Uploaded, created, watched and read; the control bills it by its output, and all of it is in the database."""
    calls = "".join(
        json.dumps(
            {
                "custom_id": f"c{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": "batchable",
                    "max_tokens": 50,
                    "messages": [{"role": "user", "content": "x"}],
                },
            }
        )
        + "\n"
        for number in range(4)
    )
    with running(make_redis().url, make=MediaGateway) as gateway:
        ledger = gateway.start_control()
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
            made = client.files.create(file=("calls.jsonl", calls.encode()), purpose="batch")
            batch = client.batches.create(
                input_file_id=made.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
            )
            while batch.status != "completed":
                batch = client.batches.retrieve(batch.id)
            assert batch.output_file_id is not None
            output = client.files.content(batch.output_file_id).text.splitlines()
            assert [json.loads(line)["custom_id"] for line in output] == ["c0", "c1", "c2", "c3"]
            assert [one.id for one in client.batches.list()] == [batch.id]

        def billed() -> list[Any]:
            where = f"file:{Path(ledger)}?mode=ro"
            with contextlib.closing(sqlite3.connect(where, uri=True)) as books:
                return books.execute(
                    "SELECT cost_nusd, input_tokens, output_tokens FROM entries"
                    " WHERE protocol = 'openai.batches' ORDER BY attempt_id"
                ).fetchall()

        wait_until(lambda: len(billed()) == 2, "the batch is not billed")
        (advance, *_), (more, read, written) = billed()
        assert advance + more == 4 * (40 * 1000 + 5 * 2000) // 2
        assert (read, written) == (160, 20)
        totals = gateway.vendor_books()["totals"]
        assert (totals["prompt_tokens"], totals["completion_tokens"]) == (160, 20)
        verdict = gateway.ask_store(lambda client: verify({FIRST: client}, Path(ledger)))
        assert verdict.is_equal(), verdict
