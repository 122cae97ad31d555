"""Requests of Ollama, read and written."""

from typing import Any

import msgspec

from proxy.wire.look import BadField
from proxy.wire.translate import effort
from proxy.wire.translate.core import (
    CannotExpress,
    Conversation,
    Media,
    OutputFormat,
    Reasoning,
    Sampling,
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
    Written,
)
from proxy.wire.translate.fields import Fields, decode_object, encode, parse_object
from proxy.wire.translate.words import Drops

__all__ = ["FAMILY", "read_generate", "read_request", "think_of", "write_request"]

FAMILY = "ollama.chat"

# Images come without a type: how the base64 of each kind begins.
_MAGIC = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
)
_OPTIONS = (
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("min_p", "min_p"),
    ("frequency_penalty", "frequency_penalty"),
    ("presence_penalty", "presence_penalty"),
    ("repetition_penalty", "repeat_penalty"),
    ("seed", "seed"),
)


# Reading a request...


def read_request(body: bytes) -> Conversation:
    """
    Read an /api/chat body.

    Raises `BadField` for what is no such request, and `CannotExpress` for what only Ollama has.
    """
    top = parse_object(body)
    extra: dict[str, Any] = {}
    system: list[Text] = []
    turns: list[Turn] = []
    reader = _Messages(extra)
    for message in top.each("messages"):
        turn = reader.read(message)
        if turn.role == "system" and not turns:
            system += [part for part in turn.parts if isinstance(part, Text)]
        else:
            turns.append(turn)
    if not system and not turns:
        raise BadField("messages", "messages must not be empty.")
    tools = tuple(_read_tool(tool, extra) for tool in top.each("tools"))
    return _read_rest(top, tuple(system), tuple(turns), tools, extra)


def read_generate(body: bytes) -> Conversation:
    """
    Read an /api/generate body: a conversation of one turn.

    Raises `BadField` for what is no such request, and `CannotExpress` for what only Ollama has.
    """
    top = parse_object(body)
    for name in ("suffix", "template", "context", "raw"):
        if top.any(name):
            raise CannotExpress(name, "only a model that runs in Ollama knows it.")
    prompt, system = top.text("prompt"), top.text("system")
    images = [_image(data) for data in top.texts("images")]
    if not prompt and not images:
        raise BadField("prompt", "prompt is required.", "missing")
    parts = (*((Text(prompt),) if prompt else ()), *images)
    instructions = (Text(system),) if system else ()
    return _read_rest(top, instructions, (Turn("user", parts),), (), {})


def _read_rest(
    top: Fields,
    system: tuple[Text, ...],
    turns: tuple[Turn, ...],
    tools: tuple[Tool, ...],
    extra: dict[str, Any],
) -> Conversation:
    options = top.fields("options") or Fields({}, "options")
    stream = top.boolean("stream")
    cap = options.whole("num_predict")
    # How long the model stays in memory is for who runs it.
    top.any("keep_alive")
    read = Conversation(
        model=top.need_text("model"),
        system=system,
        turns=turns,
        tools=tools,
        output=_read_format(top),
        sampling=Sampling(
            temperature=options.number("temperature"),
            top_p=options.number("top_p"),
            top_k=options.whole("top_k"),
            min_p=options.number("min_p"),
            frequency_penalty=options.number("frequency_penalty"),
            presence_penalty=options.number("presence_penalty"),
            repetition_penalty=options.number("repeat_penalty"),
            seed=options.whole("seed"),
            logprobs=top.boolean("logprobs"),
            top_logprobs=top.whole("top_logprobs", 0),
        ),
        thinking=_read_think(top),
        # -1 and -2 are "without end" and "until the context is full".
        max_tokens=cap if cap is not None and cap > 0 else None,
        stop=options.texts("stop"),
        stream=True if stream is None else stream,
        include_usage=True,
        family=FAMILY,
    )
    extra.update(options.rest())
    extra.update(top.rest())
    return msgspec.structs.replace(read, extra=extra) if extra else read


class _Messages:
    """Reads messages; calls and results without ids are matched by name and order."""

    def __init__(self, extra: dict[str, Any]) -> None:
        self._extra = extra
        self._calls = 0
        self._open: list[tuple[str, str]] = []

    def read(self, message: Fields) -> Turn:
        role = message.choice("role", "system", "user", "assistant", "tool")
        if role is None:
            raise message.missing("role")
        parts: list[Any] = []
        thinking = message.text("thinking")
        if thinking:
            parts.append(Reasoning(thinking))
        content = message.text("content")
        if content:
            parts.append(Text(content))
        parts += [_image(data) for data in message.texts("images")]
        parts += [self._read_call(call) for call in message.each("tool_calls")]
        if role == "tool":
            name = message.text("tool_name") or message.text("name") or ""
            given = self._match(message.text("tool_call_id"), name)
            media = tuple(part for part in parts if isinstance(part, Text | Media))
            parts = [ToolResult(given, media, name)]
        self._extra.update(message.rest())
        return Turn("user" if role == "tool" else role, tuple(parts))  # type: ignore[arg-type]  # of the choice

    def _read_call(self, call: Fields) -> ToolCall:
        function = call.need_fields("function")
        given, name = call.text("id") or f"call_{self._calls}", function.need_text("name")
        self._calls += 1
        self._open.append((given, name))
        function.any("index")
        call.any("type")
        arguments = encode(function.object("arguments") or {}).decode()
        self._extra.update(function.rest())
        self._extra.update(call.rest())
        return ToolCall(given, name, arguments)

    def _match(self, given: str | None, name: str) -> str:
        for at, (call, called) in enumerate(self._open):
            if call == given if given else not name or called == name:
                del self._open[at]
                return call
        return given or f"call_{name or self._calls}"


def _image(data: str) -> Media:
    kind = next((kind for begin, kind in _MAGIC if data.startswith(begin)), "image/png")
    return Media("image", kind, data=data)


def _read_tool(tool: Fields, extra: dict[str, Any]) -> Tool:
    tool.choice("type", "function")
    function = tool.need_fields("function")
    read = Tool(
        function.need_text("name"), function.text("description"), function.object("parameters")
    )
    extra.update(function.rest())
    extra.update(tool.rest())
    return read


def _read_format(top: Fields) -> OutputFormat | None:
    form = top.any("format")
    match form:
        case None | "":
            return None
        case "json":
            return OutputFormat("json")
        case dict():
            return OutputFormat("json_schema", form)
        case _:
            raise BadField("format", "format must be json or a JSON schema.", "invalid_type")


def _read_think(top: Fields) -> Thinking | None:
    think = top.any("think")
    match think:
        case None:
            return None
        case bool():
            return Thinking(shown=True) if think else Thinking(off=True)
        case "low" | "medium" | "high" | "max":
            return Thinking(think, shown=True)
        case _:
            raise BadField("think", "think must be true, false, low, medium or high.")


# Writing a request...


def write_request(conversation: Conversation, target: Target) -> Written:
    """Write an /api/chat body; raises `CannotExpress`."""
    drops = Drops(conversation, FAMILY)
    names = {
        part.id: part.name
        for turn in conversation.turns
        for part in turn.parts
        if isinstance(part, ToolCall)
    }
    messages: list[dict[str, Any]] = []
    if conversation.system:
        content = "\n".join(text.text for text in conversation.system)
        messages.append({"role": "system", "content": content})
    for turn in conversation.turns:
        if turn.name is not None:
            drops.add("participant")
        if turn.role == "user":
            messages += [
                _write_result(part, names, drops)
                for part in turn.parts
                if isinstance(part, ToolResult)
            ]
        message = _write_message(turn, drops)
        if len(message) > 1:
            messages.append(message)
    if not messages:
        raise drops.cannot("turns", "there is nothing to answer.")
    body: dict[str, Any] = {"model": target.model, "messages": messages}
    _write_tools(conversation, body, drops)
    _write_options(conversation, body, target, drops)
    body["stream"] = conversation.stream
    if conversation.family == FAMILY:
        for path, value in conversation.extra.items():
            head, _, name = path.rpartition(".")
            if "[" in path:
                drops.add(path)
            elif head == "options":
                body.setdefault("options", {})[name] = value
            elif not head:
                body[path] = value
    return Written(encode(body), drops.names())


def _write_message(turn: Turn, drops: Drops) -> dict[str, Any]:
    """Write all of a turn but its results."""
    texts: list[str] = []
    thoughts: list[str] = []
    images: list[str] = []
    calls: list[dict[str, Any]] = []
    for part in turn.parts:
        if getattr(part, "cache", None) is not None:
            drops.add("cache_control")
        match part:
            case Reasoning():
                if part.signature or part.redacted:
                    drops.add("reasoning")
                if part.text:
                    thoughts.append(part.text)
            case Media():
                _write_media(part, texts, images, drops)
            case ToolCall():
                arguments = None if part.custom else decode_object(part.arguments)
                if arguments is None:
                    raise drops.cannot("turns", f"the arguments of {part.name} are no JSON object.")
                call = {"id": part.id, "function": {"name": part.name, "arguments": arguments}}
                calls.append(call)
            case ToolResult():
                images += [
                    inner.data
                    for inner in part.content
                    if isinstance(inner, Media) and inner.kind == "image" and inner.data
                ]
            case _:
                texts.append(part.text)
    message: dict[str, Any] = {"role": turn.role}
    if texts or images or calls or thoughts:
        message["content"] = "\n".join(texts)
    if thoughts:
        message["thinking"] = "".join(thoughts)
    if images:
        message["images"] = images
    if calls:
        message["tool_calls"] = calls
    return message


def _write_media(media: Media, texts: list[str], images: list[str], drops: Drops) -> None:
    if media.detail not in {None, "auto"}:
        drops.add("detail")
    if media.text is not None:
        texts.append("\n".join(line for line in (media.name, media.context, media.text) if line))
    elif media.kind == "image" and media.data is not None:
        images.append(media.data)
    else:
        raise drops.cannot("turns", "this model's server takes text, and images by their data.")


def _write_result(result: ToolResult, names: dict[str, str], drops: Drops) -> dict[str, Any]:
    texts = [part.text for part in result.content if isinstance(part, Text)]
    if result.failed:
        texts.insert(0, "Error:")
    message = {"role": "tool", "content": "\n".join(texts), "tool_call_id": result.id}
    name = result.name or names.get(result.id)
    if name:
        message["tool_name"] = name
    for part in result.content:
        if isinstance(part, Media) and (part.kind != "image" or part.data is None):
            raise drops.cannot("turns", "a tool's result holds text and images here.")
    return message


def _write_tools(conversation: Conversation, body: dict[str, Any], drops: Drops) -> None:
    tools, choice = conversation.tools, conversation.tool_choice
    if choice is not None:
        if choice.mode == "none":
            # What may not be called is not offered.
            tools = ()
        elif choice.names:
            tools = tuple(tool for tool in tools if tool.name in choice.names)
        if choice.mode == "required":
            drops.add("tool_choice")
    if conversation.parallel_tool_calls is False and tools:
        drops.add("parallel_tool_calls")
    written = []
    for tool in tools:
        if tool.custom:
            raise drops.cannot("tools", f"the tool {tool.name} takes free text; give it a schema.")
        if tool.cache is not None:
            drops.add("cache_control")
        if tool.strict:
            drops.add("tools[].strict")
        function: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        function["parameters"] = tool.schema or {"type": "object", "properties": {}}
        written.append({"type": "function", "function": function})
    if written:
        body["tools"] = written


def _write_options(
    conversation: Conversation, body: dict[str, Any], target: Target, drops: Drops
) -> None:
    if conversation.n > 1:
        raise drops.cannot("n", "this model's server gives one answer at a time.")
    sampling = conversation.sampling
    if sampling.logprobs and conversation.family != FAMILY:
        raise drops.cannot("logprobs", "log probabilities are not translated.")
    drops.add_sampling(sampling, "logit_bias", "top_logprobs")
    options: dict[str, Any] = {}
    for name, word in _OPTIONS:
        value = getattr(sampling, name)
        if value is not None:
            options[word] = value
    cap = target.output_cap if target.output_cap is not None else conversation.max_tokens
    if cap is not None:
        options["num_predict"] = cap
    if conversation.stop:
        options["stop"] = list(conversation.stop)
    if options:
        body["options"] = options
    if conversation.output is not None:
        schema = conversation.output.schema
        body["format"] = "json" if schema is None else schema
    if conversation.thinking is not None:
        body["think"] = think_of(conversation.thinking, target.model)
    for field in ("user", "service_tier", "verbosity"):
        if getattr(conversation, field) is not None:
            drops.add(field)


def think_of(thinking: Thinking, model: str) -> bool | str:
    """Return how a model is told how much to think: one family of them takes a word."""
    if thinking.off:
        return False
    level = effort.effort_of(thinking)
    if "gpt-oss" in model and level is not None:
        return effort.nearest(level, ("low", "medium", "high"))
    return True
