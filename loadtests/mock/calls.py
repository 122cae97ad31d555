"""
What a call asks of the mock vendor, read from its URL and body: the few fields that change an answer, and those that a vendor insists on.

Whatever else a body holds is passed over; what is missing or impossible is refused in the words of the vendor that is played.
"""

import functools
import re
from collections.abc import Callable

import msgspec

from loadtests.mock import converse, gemini, media
from loadtests.mock import plan as plans
from loadtests.mock.behaviour import BadOption
from loadtests.mock.exchange import Asked


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Call(msgspec.Struct):
    """What a chat call must have, and what changes its answer."""

    model: str
    messages: msgspec.Raw
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


class _CompletionCall(msgspec.Struct):
    model: str
    prompt: msgspec.Raw
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


class _EmbeddingCall(msgspec.Struct):
    model: str
    input: str | list[str | int | list[int]]
    encoding_format: str | None = None
    dimensions: int | None = None


class _MessagesCall(msgspec.Struct):
    """What a call for a message must have, and what changes its answer."""

    model: str
    messages: msgspec.Raw
    max_tokens: int
    stream: bool | None = None


class _CountCall(msgspec.Struct):
    model: str
    messages: msgspec.Raw


class _ResponsesCall(msgspec.Struct):
    """What a call for a response must have, and what changes its answer."""

    model: str
    input: msgspec.Raw
    stream: bool | None = None
    max_output_tokens: int | None = None


class _ImageCall(msgspec.Struct):
    model: str
    prompt: str
    n: int | None = None
    stream: bool | None = None
    partial_images: int | None = None


class _SpeechCall(msgspec.Struct):
    model: str
    input: str
    voice: str | dict[str, str]
    stream_format: str | None = None


class _ModerationCall(msgspec.Struct):
    model: str
    input: str | list[msgspec.Raw]


class _GenerationConfig(msgspec.Struct):
    max_output_tokens: int | None = msgspec.field(default=None, name="maxOutputTokens")


class _GeminiCall(msgspec.Struct):
    """What a call of Gemini's must have, and what changes its answer."""

    contents: msgspec.Raw = msgspec.Raw()
    # What tokens are counted of may be a whole request instead.
    request: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw, name="generateContentRequest")
    config: _GenerationConfig | None = msgspec.field(default=None, name="generationConfig")


class _InferenceConfig(msgspec.Struct):
    max_tokens: int | None = msgspec.field(default=None, name="maxTokens")


class _ConverseCall(msgspec.Struct):
    """What a call of Bedrock's must have, and what changes its answer."""

    messages: msgspec.Raw
    config: _InferenceConfig | None = msgspec.field(default=None, name="inferenceConfig")


class _OllamaOptions(msgspec.Struct):
    num_predict: int | None = None


class _OllamaCall(msgspec.Struct):
    """What a call of Ollama's must have, and what changes its answer."""

    model: str
    messages: msgspec.Raw
    stream: bool = True
    options: _OllamaOptions | None = None


# How msgspec names a field in its own words.
_FIELD = re.compile(r"(?:`\$\.|missing required field `)([a-z_]+)")

_read_chat = msgspec.json.Decoder(_Call).decode
_read_completion = msgspec.json.Decoder(_CompletionCall).decode
_read_messages = msgspec.json.Decoder(_MessagesCall).decode
_read_responses = msgspec.json.Decoder(_ResponsesCall).decode
_read_count = msgspec.json.Decoder(_CountCall).decode
_read_image = msgspec.json.Decoder(_ImageCall).decode
_read_speech = msgspec.json.Decoder(_SpeechCall).decode
_read_moderation = msgspec.json.Decoder(_ModerationCall).decode
_read_gemini = msgspec.json.Decoder(_GeminiCall).decode
_read_converse = msgspec.json.Decoder(_ConverseCall).decode
_read_ollama = msgspec.json.Decoder(_OllamaCall).decode
_read_embedding = msgspec.json.Decoder(_EmbeddingCall).decode


class BadCall(ValueError):
    """A body that OpenAI would refuse; `param` names the field where one can be named."""

    def __init__(self, words: str, param: str | None = None) -> None:
        super().__init__(words)
        self.param = param


def _ask_chat(body: bytes) -> Asked:
    call = _read_chat(body)
    return _asked(plans.CHAT, call, body)


def _ask_completion(body: bytes) -> Asked:
    call = _read_completion(body)
    return _asked(plans.COMPLETIONS, call, body)


def _asked(path: str, call: _Call | _CompletionCall, body: bytes) -> Asked:
    cap = call.max_tokens if call.max_completion_tokens is None else call.max_completion_tokens
    if cap is not None and cap < 1:
        raise BadCall(f"Invalid 'max_tokens': {cap} is less than the minimum of 1.", "max_tokens")
    options = call.stream_options
    if options is None:
        return Asked(path, call.model, bool(call.stream), False, cap, len(body))
    if not call.stream:
        raise BadCall(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
        )
    return Asked(path, call.model, True, options.include_usage, cap, len(body))


def _ask_embedding(body: bytes) -> Asked:
    call = _read_embedding(body)
    if call.encoding_format not in {None, "float", "base64"}:
        raise BadCall("Invalid 'encoding_format'.", "encoding_format")
    inputs = 1
    if isinstance(call.input, list) and not (call.input and isinstance(call.input[0], int)):
        inputs = len(call.input)
    return Asked(
        plans.EMBEDDINGS,
        call.model,
        body_bytes=len(body),
        inputs=inputs,
        base64=call.encoding_format == "base64",
        dimensions=call.dimensions,
    )


def _ask_messages(body: bytes) -> Asked:
    call = _read_messages(body)
    if call.max_tokens < 1:
        raise BadCall("max_tokens: Input should be greater than or equal to 1")
    return Asked(
        plans.MESSAGES, call.model, bool(call.stream), cap=call.max_tokens, body_bytes=len(body)
    )


def _ask_count(body: bytes) -> Asked:
    return Asked(plans.COUNT, _read_count(body).model, body_bytes=len(body))


def _ask_responses(body: bytes) -> Asked:
    call = _read_responses(body)
    cap = call.max_output_tokens
    if cap is not None and cap < 1:
        raise BadCall(f"Invalid 'max_output_tokens': {cap}.", "max_output_tokens")
    return Asked(plans.RESPONSES, call.model, bool(call.stream), cap=cap, body_bytes=len(body))


def _ask_image(body: bytes) -> Asked:
    call = _read_image(body)
    return Asked(
        media.IMAGES,
        call.model,
        bool(call.stream),
        body_bytes=len(body),
        inputs=call.n or 1,
        partial=call.partial_images or 0,
    )


def _ask_picture(path: str) -> Callable[[bytes], Asked]:
    def ask(body: bytes) -> Asked:
        form = media.read_form(body)
        if "image" not in form.files:
            raise BadCall("image is missing", "image")
        return Asked(
            path,
            form.fields["model"],
            form.fields.get("stream") == "true",
            body_bytes=len(body),
            inputs=int(form.fields.get("n", 1)),
            partial=int(form.fields.get("partial_images", 0)),
        )

    return ask


def _ask_recording(path: str) -> Callable[[bytes], Asked]:
    def ask(body: bytes) -> Asked:
        form = media.read_form(body)
        if "file" not in form.files:
            raise BadCall("file is missing", "file")
        return Asked(
            path,
            form.fields["model"],
            form.fields.get("stream") == "true",
            body_bytes=len(body),
            format=form.fields.get("response_format", "json"),
        )

    return ask


def _ask_speech(body: bytes) -> Asked:
    call = _read_speech(body)
    return Asked(
        media.SPEECH,
        call.model,
        call.stream_format == "sse",
        body_bytes=len(body),
        characters=len(call.input),
    )


def _ask_moderation(body: bytes) -> Asked:
    return Asked(media.MODERATIONS, _read_moderation(body).model, body_bytes=len(body))


def _ask_gemini(verb: str, model: str, body: bytes) -> Asked:
    call = _read_gemini(body)
    if not call.contents and not (call.request and verb == gemini.COUNT):
        raise BadCall("* GenerateContentRequest.contents: contents is not specified")
    cap = None if call.config is None else call.config.max_output_tokens
    if cap is not None and cap < 1:
        raise BadCall(f"Unable to submit request because it has a maxOutputTokens of {cap}.")
    return Asked(verb, model, verb == gemini.STREAM, cap=cap, body_bytes=len(body))


def _ask_converse(verb: str, model: str, body: bytes) -> Asked:
    call = _read_converse(body)
    cap = None if call.config is None else call.config.max_tokens
    if cap is not None and cap < 1:
        raise BadCall(f"The value at inferenceConfig.maxTokens must be 1 or more, not {cap}.")
    return Asked(verb, model, verb == converse.STREAM, cap=cap, body_bytes=len(body))


def _ask_ollama(body: bytes) -> Asked:
    call = _read_ollama(body)
    cap = None if call.options is None else call.options.num_predict
    return Asked(
        plans.OLLAMA,
        call.model,
        call.stream,
        # -1 and -2 are its words for no cap.
        cap=cap if cap is not None and cap >= 0 else None,
        body_bytes=len(body),
    )


def refusal_of(mistake: Exception) -> tuple[str, str | None]:
    """Give the words in which a vendor refuses a call that cannot be read, and the field that they are about where one can be named."""
    if isinstance(mistake, msgspec.ValidationError):
        words = str(mistake)
        found = _FIELD.search(words)
        return words, found[1] if found else None
    if isinstance(mistake, BadCall):
        return str(mistake), mistake.param
    if isinstance(mistake, BadOption):
        return str(mistake), "model"
    return f"We could not parse the JSON body of your request: {mistake}", None


def reader_of(url: bytes) -> Callable[[bytes], Asked] | None:
    """Give the reader of a URL's bodies; Gemini's and Bedrock's URLs hold the model."""
    ask = READERS.get(url)
    if ask is not None:
        return ask
    if (named := gemini.asked_at(url)) is not None:
        return functools.partial(_ask_gemini, *named)
    if (named := converse.asked_at(url)) is not None:
        return functools.partial(_ask_converse, *named)
    return None


READERS: dict[bytes, Callable[[bytes], Asked]] = {
    media.MODERATIONS.encode(): _ask_moderation,
    media.IMAGES.encode(): _ask_image,
    media.EDITS.encode(): _ask_picture(media.EDITS),
    media.VARIATIONS.encode(): _ask_picture(media.VARIATIONS),
    media.SPEECH.encode(): _ask_speech,
    media.TRANSCRIPTIONS.encode(): _ask_recording(media.TRANSCRIPTIONS),
    media.TRANSLATIONS.encode(): _ask_recording(media.TRANSLATIONS),
    b"/v1/chat/completions": _ask_chat,
    b"/v1/completions": _ask_completion,
    b"/v1/embeddings": _ask_embedding,
    b"/v1/responses": _ask_responses,
    b"/api/chat": _ask_ollama,
    b"/v1/messages": _ask_messages,
    b"/v1/messages?beta=true": _ask_messages,
    b"/v1/messages/count_tokens": _ask_count,
    b"/v1/messages/count_tokens?beta=true": _ask_count,
}
