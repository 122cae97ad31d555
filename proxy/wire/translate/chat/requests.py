"""Requests of Chat Completions, read and written."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from proxy.wire.look import BadField
from proxy.wire.translate import effort
from proxy.wire.translate.chat import parts
from proxy.wire.translate.core import (
    CannotExpress,
    Conversation,
    Media,
    OutputFormat,
    Reasoning,
    Refusal,
    Sampling,
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    Written,
)
from proxy.wire.translate.fields import Fields, encode, parse_object
from proxy.wire.translate.words import Drops, safe_id, safe_names

__all__ = ["FAMILY", "is_reasoning_model", "read_request", "thinking_members", "write_request"]

FAMILY = "openai.chat"
MAX_STOPS = 4
MAX_NAME = 64
MAX_ID = 40

_REASONS = re.compile(r"o\d|gpt-(?:[5-9]|\d\d)(?!.*chat)")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_AUDIO_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg"}
_AUDIO_FORMATS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
_DOCUMENT_SUFFIXES = {
    ".pdf": "application/pdf",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".html": "text/html",
}


# Reading a request...


def read_request(body: bytes) -> Conversation:
    """
    Read a chat completion's body.

    Raises `BadField` for what is no such request, and `CannotExpress` for content that no other
    protocol has.
    """
    top = parse_object(body)
    extra: dict[str, Any] = {}
    system: list[Text] = []
    turns: list[Turn] = []
    if not top.has("messages"):
        raise top.missing("messages")
    for message in top.each("messages"):
        turn = _read_message(message, extra)
        if turn.role == "system" and not turns:
            system += [part for part in turn.parts if isinstance(part, Text)]
        else:
            turns.append(turn)
        extra.update(message.rest())
    if not system and not turns:
        raise BadField("messages", "messages must not be empty.")
    options = top.fields("stream_options")
    read = Conversation(
        model=top.need_text("model"),
        system=tuple(system),
        turns=tuple(turns),
        tools=tuple(_read_tool(tool, extra) for tool in top.each("tools")),
        tool_choice=_read_tool_choice(top),
        parallel_tool_calls=top.boolean("parallel_tool_calls"),
        output=_read_output(top, extra),
        sampling=Sampling(
            temperature=top.number("temperature"),
            top_p=top.number("top_p"),
            top_k=top.whole("top_k"),
            min_p=top.number("min_p"),
            frequency_penalty=top.number("frequency_penalty"),
            presence_penalty=top.number("presence_penalty"),
            repetition_penalty=top.number("repetition_penalty"),
            seed=top.whole("seed"),
            logit_bias=top.object("logit_bias"),
            logprobs=top.boolean("logprobs"),
            top_logprobs=top.whole("top_logprobs", 0),
        ),
        thinking=_read_thinking(top),
        max_tokens=_read_cap(top),
        stop=top.texts("stop"),
        n=top.whole("n", 1) or 1,
        stream=top.boolean("stream") or False,
        include_usage=(options is not None and options.boolean("include_usage")) or False,
        user=top.text("user"),
        service_tier=top.text("service_tier"),
        verbosity=top.text("verbosity"),
        metadata=top.object("metadata"),
        family=FAMILY,
    )
    if options is not None:
        # Padding against an onlooker between vendor and gateway, which is not passed on anyway.
        options.any("include_obfuscation")
        extra.update(options.rest())
    extra.update(top.rest())
    return msgspec.structs.replace(read, extra=extra) if extra else read


def _read_cap(top: Fields) -> int | None:
    caps = [
        cap
        for cap in (top.whole("max_completion_tokens", 1), top.whole("max_tokens", 1))
        if cap is not None
    ]
    return max(caps, default=None)


def _read_message(message: Fields, extra: dict[str, Any]) -> Turn:
    match message.need_text("role"):
        case "system" | "developer":
            return Turn("system", tuple(_read_texts(message)), message.text("name"))
        case "user":
            return Turn("user", tuple(_read_content(message, extra)), message.text("name"))
        case "assistant":
            return _read_assistant(message, extra)
        case "tool":
            result = ToolResult(
                message.need_text("tool_call_id"),
                tuple(_read_content(message, extra)),
                message.text("name") or "",
            )
            return Turn("user", (result,))
        case "function":
            raise CannotExpress(message.at("role"), "functions were replaced by tools; use tools.")
        case role:
            raise BadField(message.at("role"), f"{message.at('role')} cannot be {role!r}.")


def _read_assistant(message: Fields, extra: dict[str, Any]) -> Turn:
    found: list[Any] = list(parts.read_reasoning(message))
    content = message.any("content")
    if isinstance(content, str):
        if content:
            found.append(Text(content))
    elif content is not None:
        inner = Fields({"content": content}, message.path)
        for part in inner.each("content"):
            match part.need_text("type"):
                case "refusal":
                    found.append(Refusal(part.need_text("refusal")))
                case _:
                    found.append(_read_part(part, "text", extra))
    refusal = message.text("refusal")
    if refusal:
        found.append(Refusal(refusal))
    if message.has("function_call"):
        raise CannotExpress(message.at("function_call"), "use tool_calls.")
    found += parts.read_calls(message.each("tool_calls"), extra)
    if message.has("audio"):
        raise CannotExpress(message.at("audio"), "only its maker knows this audio; send its text.")
    message.any("annotations")
    return Turn("assistant", tuple(found), message.text("name"))


def _read_texts(message: Fields) -> list[Text]:
    content = message.any("content")
    if isinstance(content, str):
        return [Text(content)] if content else []
    inner = Fields({"content": content}, message.path)
    found = []
    for part in inner.each("content"):
        part.choice("type", "text")
        found.append(Text(part.need_text("text"), _read_cache(part)))
    return found


def _read_content(message: Fields, extra: dict[str, Any]) -> list[Text | Media]:
    content = message.any("content")
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)] if content else []
    inner = Fields({"content": content}, message.path)
    return [_read_part(part, part.need_text("type"), extra) for part in inner.each("content")]


def _read_part(part: Fields, kind: str, extra: dict[str, Any]) -> Text | Media:
    read: Text | Media
    cache = _read_cache(part)
    match kind:
        case "text":
            read = Text(part.need_text("text"), cache)
        case "image_url" | "video_url":
            inner = part.any(kind)
            fields = Fields({"url": inner} if isinstance(inner, str) else inner, part.at(kind))
            url, detail = fields.need_text("url"), fields.text("detail")
            read = _from_url("image" if kind == "image_url" else "video", url, detail, cache)
            extra.update(fields.rest())
        case "input_audio":
            sound = part.need_fields("input_audio")
            form = sound.text("format") or "wav"
            read = Media(
                "audio",
                _AUDIO_TYPES.get(form, f"audio/{form}"),
                data=_base64(sound.need_text("data")),
                cache=cache,
            )
            extra.update(sound.rest())
        case "file":
            read = _read_file(part.need_fields("file"), cache)
        case _:
            raise CannotExpress(part.at("type"), f"content of type {kind!r} cannot be translated.")
    part.any("type")
    extra.update(part.rest())
    return read


def _read_file(file: Fields, cache: str | None) -> Media:
    name, data, file_id = file.text("filename"), file.text("file_data"), file.text("file_id")
    if data is None:
        if file_id is None:
            raise file.missing("file_data")
        return Media("document", file_id=file_id, name=name, cache=cache)
    begin = parts.DATA_URL.match(data)
    if begin is not None:
        return Media("document", begin[1].lower(), data=data[begin.end() :], name=name, cache=cache)
    suffix = name[name.rfind(".") :].lower() if name and "." in name else ".pdf"
    kind = _DOCUMENT_SUFFIXES.get(suffix, "application/octet-stream")
    return Media("document", kind, data=data, name=name, cache=cache)


def _from_url(kind: Any, url: str, detail: str | None, cache: str | None) -> Media:
    begin = parts.DATA_URL.match(url)
    if begin is None:
        return Media(kind, url=url, detail=detail, cache=cache)
    return Media(kind, begin[1].lower(), data=url[begin.end() :], detail=detail, cache=cache)


def _base64(data: str) -> str:
    begin = parts.DATA_URL.match(data)
    return data if begin is None else data[begin.end() :]


def _read_cache(part: Fields) -> str | None:
    mark = part.object("cache_control")
    ours = part.object("prompt_cache_breakpoint")
    found = mark if mark is not None else ours
    if found is None:
        return None
    ttl = found.get("ttl")
    return ttl if isinstance(ttl, str) else ""


def _read_tool(tool: Fields, extra: dict[str, Any]) -> Tool:
    match tool.text("type") or "function":
        case "function":
            body = tool.need_fields("function")
            read = Tool(
                body.need_text("name"),
                body.text("description"),
                body.object("parameters"),
                body.boolean("strict"),
                cache=_read_cache(tool),
            )
        case "custom":
            body = tool.need_fields("custom")
            read = Tool(
                body.need_text("name"),
                body.text("description"),
                body.object("format"),
                custom=True,
                cache=_read_cache(tool),
            )
        case kind:
            raise CannotExpress(tool.at("type"), f"the tool {kind!r} is its vendor's own.")
    extra.update(body.rest())
    extra.update(tool.rest())
    return read


def _read_tool_choice(top: Fields) -> ToolChoice | None:
    choice = top.any("tool_choice")
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice in {"auto", "none", "required"}:
            return ToolChoice(choice)  # type: ignore[arg-type]  # checked in the line above
        if choice == "any":
            return ToolChoice("required")
        raise BadField("tool_choice", "tool_choice must be auto, none, required or a tool.")
    named = Fields(choice, "tool_choice")
    kind = named.need_text("type")
    if kind == "allowed_tools":
        allowed = named.need_fields("allowed_tools")
        names = []
        for tool in allowed.each("tools"):
            inner = tool.fields(tool.text("type") or "function") or tool
            names.append(inner.need_text("name"))
        mode = allowed.choice("mode", "auto", "required") or "auto"
        return ToolChoice("required" if mode == "required" else "auto", tuple(names))
    if kind not in {"function", "custom"}:
        raise CannotExpress("tool_choice.type", f"the tool {kind!r} is its vendor's own.")
    return ToolChoice("required", (named.need_fields(kind).need_text("name"),))


def _read_output(top: Fields, extra: dict[str, Any]) -> OutputFormat | None:
    form = top.fields("response_format")
    if form is None:
        return None
    match form.need_text("type"):
        case "text":
            return None
        case "json_object":
            return OutputFormat("json")
        case "json_schema":
            inner = form.need_fields("json_schema")
            read = OutputFormat(
                "json_schema",
                inner.object("schema"),
                inner.text("name") or "",
                inner.text("description"),
                inner.boolean("strict"),
            )
            extra.update(inner.rest())
            return read
        case kind:
            raise BadField("response_format.type", f"response_format.type cannot be {kind!r}.")


def _read_thinking(top: Fields) -> Thinking | None:
    """Take how much to think, in OpenAI's words or in those of the family."""
    word = top.choice("reasoning_effort", *_EFFORTS)
    toggle = top.fields("thinking")
    reasoning = top.fields("reasoning")
    enabled = top.boolean("enable_thinking")
    budget = top.whole("thinking_budget", 0)
    shown = None
    if toggle is not None:
        kind = toggle.text("type")
        enabled = enabled if kind is None else kind not in {"disabled", "none"}
        budget = toggle.whole("budget_tokens", 0) if budget is None else budget
    if reasoning is not None:
        word = word or reasoning.choice("effort", *_EFFORTS)
        budget = reasoning.whole("max_tokens", 0) if budget is None else budget
        on = reasoning.boolean("enabled")
        enabled = on if enabled is None else enabled
        hidden = reasoning.boolean("exclude")
        shown = None if hidden is None else not hidden
    if word is None and budget is None and enabled is None:
        return None
    return Thinking(
        None if word == "none" else word,  # type: ignore[arg-type]  # one of _EFFORTS
        budget,
        off=word == "none" or enabled is False or budget == 0,
        shown=shown,
    )


# Writing a request...


def write_request(conversation: Conversation, target: Target) -> Written:
    """
    Write a chat completion's body for a vendor of the family, in its dialect.

    Raises `CannotExpress`.
    """
    drops = Drops(conversation, FAMILY)
    renamed = safe_names(_tool_names(conversation), MAX_NAME)
    body: dict[str, Any] = {"model": target.model, "messages": []}
    messages = body["messages"]
    _write_system(conversation.system, "system", messages, target, drops)
    for turn in conversation.turns:
        if turn.role == "system":
            texts = [part for part in turn.parts if isinstance(part, Text)]
            _write_system(texts, "system", messages, target, drops)
        elif turn.role == "user":
            _write_user(turn, messages, target, drops)
        else:
            _write_assistant(turn, messages, target, drops, renamed)
    if not messages:
        raise drops.cannot("turns", "there is nothing to answer.")
    _write_tools(conversation, body, target, drops, renamed)
    _write_options(conversation, body, target, drops)
    if conversation.thinking is not None:
        said = thinking_members(conversation.thinking, target)
        if said is None:
            drops.add("thinking")
        else:
            body |= said
    if conversation.family == FAMILY:
        for path, value in conversation.extra.items():
            if "." in path or "[" in path:
                drops.add(path)
            else:
                body[path] = value
        if conversation.metadata is not None:
            body["metadata"] = conversation.metadata
    return Written(encode(body), drops.names(), {new: old for old, new in renamed.items()})


def _tool_names(conversation: Conversation) -> tuple[str, ...]:
    return tuple(tool.name for tool in conversation.tools) + tuple(
        part.name
        for turn in conversation.turns
        for part in turn.parts
        if isinstance(part, ToolCall)
    )


def _write_system(
    texts: Sequence[Text], role: str, messages: list[Any], target: Target, drops: Drops
) -> None:
    if not texts:
        return
    if target.dialect.system_role == "developer" and is_reasoning_model(target.model):
        role = "developer"
    messages.append({"role": role, "content": _write_content(texts, target, drops)})


def _write_content(content: Sequence[Text | Media], target: Target, drops: Drops) -> Any:
    """Write content, as a string when it is one text."""
    if len(content) == 1 and isinstance(content[0], Text) and content[0].cache is None:
        return content[0].text
    return [_write_part(part, target, drops) for part in content]


def _write_part(part: Text | Media, target: Target, drops: Drops) -> dict[str, Any]:
    written: dict[str, Any] = (
        {"type": "text", "text": part.text} if isinstance(part, Text) else _write_media(part, drops)
    )
    if part.cache is not None:
        if target.dialect.cache_marks:
            mark = {"type": "ephemeral"}
            if part.cache in {"5m", "1h"}:
                mark["ttl"] = part.cache
            written["cache_control"] = mark
        else:
            drops.add("cache_control")
    return written


def _write_media(media: Media, drops: Drops) -> dict[str, Any]:
    if media.file_id is not None:
        raise drops.cannot("turns", "a file's id is known to its vendor only; send its data.")
    url = media.url
    if media.data is not None:
        url = f"data:{media.media_type or 'application/octet-stream'};base64,{media.data}"
    match media.kind:
        case "image":
            image = {"url": url}
            if media.detail is not None:
                image["detail"] = media.detail
            return {"type": "image_url", "image_url": image}
        case "video":
            return {"type": "video_url", "video_url": {"url": url}}
        case "audio":
            form = _AUDIO_FORMATS.get(media.media_type)
            if form is None or media.data is None:
                raise drops.cannot("turns", "audio must be sent as data, in wav or mp3.")
            return {"type": "input_audio", "input_audio": {"data": media.data, "format": form}}
        case _:
            if media.text is not None:
                about = [line for line in (media.name, media.context, media.text) if line]
                return {"type": "text", "text": "\n".join(about)}
            if media.data is None:
                raise drops.cannot("turns", "a document must be sent as data, not by its URL.")
            if media.context is not None:
                drops.add("context")
            name = media.name or "document" + _suffix(media.media_type)
            return {"type": "file", "file": {"filename": name, "file_data": url}}


def _suffix(media_type: str) -> str:
    return next((end for end, kind in _DOCUMENT_SUFFIXES.items() if kind == media_type), "")


def _write_user(turn: Turn, messages: list[Any], target: Target, drops: Drops) -> None:
    content: list[Text | Media] = []
    for part in turn.parts:
        if isinstance(part, ToolResult):
            content += _write_result(part, messages, drops)
        elif isinstance(part, Text | Media):
            content.append(part)
    if content:
        message: dict[str, Any] = {
            "role": "user",
            "content": _write_content(content, target, drops),
        }
        if turn.name is not None:
            message["name"] = turn.name
        messages.append(message)


def _write_result(result: ToolResult, messages: list[Any], drops: Drops) -> list[Text | Media]:
    """Write a tool's message; give its media, which can only stand in the user's message after."""
    texts = [part.text for part in result.content if isinstance(part, Text)]
    media = [part for part in result.content if isinstance(part, Media)]
    if result.failed:
        texts.insert(0, "Error:" if texts else "Error")
    if result.cache is not None:
        drops.add("cache_control")
    messages.append(
        {
            "role": "tool",
            "tool_call_id": safe_id(result.id, MAX_ID),
            "content": "\n".join(texts) if texts or not media else "The result follows.",
        }
    )
    if not media:
        return []
    return [Text(f"The result of the tool call {safe_id(result.id, MAX_ID)}:"), *media]


def _write_assistant(
    turn: Turn, messages: list[Any], target: Target, drops: Drops, renamed: dict[str, str]
) -> None:
    dialect = target.dialect
    kept: list[Any] = []
    for part in turn.parts:
        match part:
            case Text(cache=str()):
                drops.add("cache_control")
                kept.append(part)
            case ToolCall():
                if part.cache is not None:
                    drops.add("cache_control")
                name = renamed.get(part.name, part.name)
                kept.append(ToolCall(part.id, name, part.arguments, part.custom))
            case Reasoning():
                if dialect.details or (dialect.reasoning and part.text):
                    kept.append(part)
                if not dialect.details and (
                    part.redacted or part.signature or not dialect.reasoning
                ):
                    drops.add("reasoning")
            case Media():
                raise drops.cannot("turns", "an assistant's message cannot hold media here.")
            case _:
                kept.append(part)
    message = parts.write_message(
        kept, reasoning=dialect.reasoning, details=dialect.details, most_id=MAX_ID
    )
    if turn.name is not None:
        message["name"] = turn.name
    messages.append({"role": "assistant", **message})


def _write_tools(
    conversation: Conversation,
    body: dict[str, Any],
    target: Target,
    drops: Drops,
    renamed: dict[str, str],
) -> None:
    dialect = target.dialect
    choice = conversation.tool_choice
    tools = conversation.tools
    if (
        choice is not None
        and choice.names
        and not (len(choice.names) == 1 and choice.mode == "required" and dialect.named_choice)
    ):
        # What may not be called is not offered: it means the same everywhere.
        tools = tuple(tool for tool in tools if tool.name in choice.names)
        choice = ToolChoice(choice.mode)
    if tools:
        body["tools"] = [_write_tool(tool, renamed, drops) for tool in tools]
    if conversation.parallel_tool_calls is not None and tools:
        if "parallel_tool_calls" in dialect.lacks:
            drops.add("parallel_tool_calls")
        else:
            body["parallel_tool_calls"] = conversation.parallel_tool_calls
    if choice is None or not tools:
        return
    if choice.names:
        name = choice.names[0]
        kind = "custom" if any(tool.name == name and tool.custom for tool in tools) else "function"
        body["tool_choice"] = {"type": kind, kind: {"name": renamed.get(name, name)}}
    elif choice.mode == "required":
        if dialect.required is None:
            drops.add("tool_choice")
        else:
            body["tool_choice"] = dialect.required
    else:
        body["tool_choice"] = choice.mode


def _write_tool(tool: Tool, renamed: dict[str, str], drops: Drops) -> dict[str, Any]:
    if tool.cache is not None:
        drops.add("cache_control")
    kind = "custom" if tool.custom else "function"
    inner: dict[str, Any] = {"name": renamed.get(tool.name, tool.name)}
    if tool.description is not None:
        inner["description"] = tool.description
    if tool.schema is not None:
        inner["format" if tool.custom else "parameters"] = tool.schema
    if tool.strict is not None:
        inner["strict"] = tool.strict
    return {"type": kind, kind: inner}


def _write_options(
    conversation: Conversation, body: dict[str, Any], target: Target, drops: Drops
) -> None:
    dialect = target.dialect
    sampling = conversation.sampling
    # Models that reason refuse every way of drawing tokens but their own.
    fixed = (
        {"temperature", "top_p", "frequency_penalty", "presence_penalty", "logprobs"}
        | {"top_logprobs", "logit_bias"}
        if dialect.name in {"openai", "azure"} and is_reasoning_model(target.model)
        else set()
    )
    if sampling.logprobs and conversation.family != FAMILY:
        raise drops.cannot("logprobs", "log probabilities are not translated.")
    for name in sampling.__struct_fields__:
        value = getattr(sampling, name)
        if value is None:
            continue
        if name in dialect.lacks or name in fixed:
            drops.add(name)
        else:
            body[name] = value
    cap = target.output_cap if target.output_cap is not None else conversation.max_tokens
    if cap is not None:
        body[dialect.cap] = cap
    if conversation.stop:
        if len(conversation.stop) > MAX_STOPS:
            raise drops.cannot("stop", f"this model's vendor takes at most {MAX_STOPS}.")
        if "stop" in dialect.lacks:
            raise drops.cannot("stop", "this model's vendor knows no stop sequences.")
        body["stop"] = list(conversation.stop)
    if conversation.n > 1:
        if "n" in dialect.lacks:
            raise drops.cannot("n", "this model's vendor gives one answer at a time.")
        body["n"] = conversation.n
    for name in ("user", "service_tier", "verbosity"):
        value = getattr(conversation, name)
        if value is None:
            continue
        if name in dialect.lacks:
            drops.add(name)
        else:
            body[name] = value
    if conversation.output is not None:
        body["response_format"] = _write_output(conversation.output, target, drops)
    if conversation.stream:
        body["stream"] = True
        if dialect.stream_options:
            body["stream_options"] = {"include_usage": True}
    if dialect.name == "minimax":
        body["reasoning_split"] = True


def _write_output(output: OutputFormat, target: Target, drops: Drops) -> dict[str, Any]:
    if output.kind == "json":
        return {"type": "json_object"}
    if not target.dialect.json_schema:
        raise drops.cannot("output", "this model's vendor knows JSON, but not by a schema.")
    schema: dict[str, Any] = {"name": output.name or "answer"}
    if output.description is not None:
        schema["description"] = output.description
    if output.schema is not None:
        schema["schema"] = output.schema
    if output.strict is not None:
        schema["strict"] = output.strict
    return {"type": "json_schema", "json_schema": schema}


def thinking_members(thinking: Thinking, target: Target) -> dict[str, Any] | None:
    """Return the members that say how much to think, None when the model does not think."""
    dialect = target.dialect
    word = effort.effort_of(thinking)
    said: dict[str, Any] = {}
    match dialect.thinking:
        case "thinking":
            said["thinking"] = {"type": "disabled" if thinking.off else "enabled"}
            if dialect.efforts and word is not None and not thinking.off:
                said["reasoning_effort"] = dialect.efforts.get(word, word)
        case "enable_thinking":
            said["enable_thinking"] = not thinking.off
            budget = effort.budget_of(thinking)
            if budget is not None and not thinking.off:
                said["thinking_budget"] = budget
        case "reasoning":
            reasoning: dict[str, Any] = {"enabled": not thinking.off}
            if not thinking.off and thinking.budget is not None:
                reasoning = {"max_tokens": thinking.budget}
            elif word is not None and not thinking.off:
                reasoning = {"effort": word}
            if thinking.shown is not None:
                reasoning["exclude"] = not thinking.shown
            said["reasoning"] = reasoning
        case "chat_template_kwargs":
            said["chat_template_kwargs"] = {"enable_thinking": not thinking.off}
            if word is not None and not thinking.off:
                said["reasoning_effort"] = word
        case _:
            if dialect.name in {"openai", "azure"} and not is_reasoning_model(target.model):
                return None
            if word is not None:
                said["reasoning_effort"] = dialect.efforts.get(word, word)
    return said


def is_reasoning_model(model: str) -> bool:
    """Say whether `model`, by its name, is one of OpenAI's that think before they answer."""
    return _REASONS.match(model.rpartition("/")[2].lower()) is not None
