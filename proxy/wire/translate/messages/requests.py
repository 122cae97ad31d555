"""Requests of Messages, read and written."""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from proxy.wire.look import BadField
from proxy.wire.translate import effort
from proxy.wire.translate.core import (
    CannotExpress,
    Conversation,
    Effort,
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
from proxy.wire.translate.fields import Fields, decode_object, encode, parse_object
from proxy.wire.translate.messages import blocks
from proxy.wire.translate.words import Drops, safe_id, safe_names

__all__ = [
    "EFFORTS",
    "FAMILY",
    "MIN_BUDGET",
    "VERSION",
    "fit",
    "generation",
    "lets_think",
    "read_request",
    "write_request",
    "write_turns",
]

FAMILY = "anthropic.messages"
VERSION = "2023-06-01"
MAX_NAME = 128
MAX_ID = 256
MAX_USER = 256
# Anthropic's least budget for thinking.
MIN_BUDGET = 1024
# When neither the caller, admission nor the catalogue says a cap, which Anthropic demands.
ASSUMED_CAP = 4096

_UNKNOWN_SAMPLING = (
    *("min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "seed"),
    *("logit_bias", "top_logprobs"),
)
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
EFFORTS: tuple[Effort, ...] = ("low", "medium", "high", "xhigh", "max")
# claude-opus-4-1-20250805, claude-3-5-haiku-latest, claude-sonnet-5, and the names of Bedrock and Vertex.
_NEW_NAME = re.compile(r"claude-[a-z]+-(\d{1,2})(?:[.-](\d{1,2}))?(?!\d)")
_OLD_NAME = re.compile(r"claude-(\d{1,2})(?:[.-](\d{1,2}))?(?!\d)")


def generation(model: str) -> tuple[int, int]:
    """Read a Claude's version out of its name; a name that tells none is taken as the newest."""
    found = _NEW_NAME.search(model) or _OLD_NAME.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (99, 0)


# Reading a request...


def read_request(body: bytes) -> Conversation:
    """
    Read a Messages body.

    Raises `BadField` for what is no such request, and `CannotExpress` for content that no other
    protocol has.
    """
    top = parse_object(body)
    extra: dict[str, Any] = {}
    if not top.has("messages"):
        raise top.missing("messages")
    if top.any("thread") is not None:
        raise CannotExpress(
            "thread", "this model's vendor keeps no conversations; send the whole of it."
        )
    system = tuple(_read_system(top))
    turns = tuple(_read_message(message, extra) for message in top.each("messages"))
    if not turns:
        raise BadField("messages", "messages must not be empty.")
    choice, parallel = _read_tool_choice(top)
    config = top.fields("output_config")
    output, word = _read_config(config)
    metadata = top.fields("metadata")
    user = metadata.text("user_id") if metadata is not None else None
    if not top.has("max_tokens"):
        raise top.missing("max_tokens")
    read = Conversation(
        model=top.need_text("model"),
        system=system,
        turns=turns,
        tools=tuple(_read_tool(tool, extra) for tool in top.each("tools")),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        output=output,
        sampling=Sampling(
            temperature=top.number("temperature"),
            top_p=top.number("top_p"),
            top_k=top.whole("top_k", 0),
        ),
        thinking=_read_thinking(top, word),
        max_tokens=top.whole("max_tokens", 1),
        stop=top.texts("stop_sequences"),
        stream=top.boolean("stream") or False,
        include_usage=True,
        user=user,
        service_tier=top.text("service_tier"),
        metadata={
            path.rpartition(".")[2]: value
            for path, value in (metadata.rest() if metadata is not None else {}).items()
        }
        or None,
        family=FAMILY,
    )
    if config is not None:
        extra.update(config.rest())
    extra.update(top.rest())
    return msgspec.structs.replace(read, extra=extra) if extra else read


def _read_system(top: Fields) -> list[Text]:
    system = top.any("system")
    if system is None:
        return []
    if isinstance(system, str):
        return [Text(system)] if system else []
    found = []
    for block in Fields({"system": system}).each("system"):
        block.choice("type", "text")
        found.append(Text(block.need_text("text"), _read_cache(block)))
    return found


def _read_message(message: Fields, extra: dict[str, Any]) -> Turn:
    role = message.choice("role", "user", "assistant", "system")
    if role is None:
        raise message.missing("role")
    content = message.any("content")
    if content is None:
        raise message.missing("content")
    extra.update(message.rest())
    if isinstance(content, str):
        return Turn(role, (Text(content),) if content else ())  # type: ignore[arg-type]  # chosen above
    holder = Fields({"content": content}, message.path)
    found = [_read_block(block, extra) for block in holder.each("content")]
    return Turn(role, tuple(found))  # type: ignore[arg-type]  # chosen above


def _read_block(block: Fields, extra: dict[str, Any]) -> Any:
    cache = _read_cache(block)
    kind = block.need_text("type")
    read: Any
    match kind:
        case "text":
            read = Text(block.need_text("text"), cache)
        case "image":
            read = _read_source(block.need_fields("source"), "image", cache)
        case "document":
            read = msgspec.structs.replace(
                _read_source(block.need_fields("source"), "document", cache),
                name=block.text("title"),
                context=block.text("context"),
            )
        case "search_result":
            texts = [inner.need_text("text") for inner in block.each("content")]
            read = Media(
                "document",
                "text/plain",
                text=blocks.joined(texts),
                name=block.text("title"),
                context=block.text("source"),
                cache=cache,
            )
        case "thinking" | "redacted_thinking":
            read = blocks.read_thinking(block, kind)
        case "tool_use":
            arguments = encode(block.object("input") or {}).decode()
            read = ToolCall(block.need_text("id"), block.need_text("name"), arguments, cache=cache)
            block.any("caller")
        case "tool_result":
            read = ToolResult(
                block.need_text("tool_use_id"),
                _read_result(block, extra),
                failed=block.boolean("is_error") or False,
                cache=cache,
            )
        case _:
            raise CannotExpress(block.at("type"), f"content of type {kind!r} cannot be translated.")
    extra.update(block.rest())
    return read


def _read_result(block: Fields, extra: dict[str, Any]) -> tuple[Text | Media, ...]:
    content = block.any("content")
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content),) if content else ()
    holder = Fields({"content": content}, block.path)
    found = []
    for inner in holder.each("content"):
        read = _read_block(inner, extra)
        if not isinstance(read, Text | Media):
            raise CannotExpress(inner.at("type"), "a tool's result holds text, images, documents.")
        found.append(read)
    return tuple(found)


def _read_source(source: Fields, kind: Any, cache: str | None) -> Media:
    match source.need_text("type"):
        case "base64":
            return Media(
                kind, source.need_text("media_type"), data=source.need_text("data"), cache=cache
            )
        case "url":
            return Media(kind, url=source.need_text("url"), cache=cache)
        case "text":
            return Media(kind, "text/plain", text=source.need_text("data"), cache=cache)
        case "file":
            return Media(kind, file_id=source.need_text("file_id"), cache=cache)
        case "content":
            content = source.any("content")
            if isinstance(content, str):
                return Media(kind, "text/plain", text=content, cache=cache)
            holder = Fields({"content": content}, source.path)
            texts = []
            for inner in holder.each("content"):
                inner.choice("type", "text")
                texts.append(inner.need_text("text"))
            return Media(kind, "text/plain", text=blocks.joined(texts), cache=cache)
        case other:
            raise CannotExpress(
                source.at("type"), f"a source of type {other!r} cannot be translated."
            )


def _read_cache(block: Fields) -> str | None:
    mark = block.fields("cache_control")
    if mark is None:
        return None
    return mark.text("ttl") or ""


def _read_tool(tool: Fields, extra: dict[str, Any]) -> Tool:
    kind = tool.text("type")
    if kind not in {None, "custom"}:
        raise CannotExpress(tool.at("type"), f"the tool {kind!r} is its vendor's own.")
    read = Tool(
        tool.need_text("name"),
        tool.text("description"),
        tool.object("input_schema"),
        tool.boolean("strict"),
        cache=_read_cache(tool),
    )
    extra.update(tool.rest())
    return read


def _read_tool_choice(top: Fields) -> tuple[ToolChoice | None, bool | None]:
    choice = top.fields("tool_choice")
    if choice is None:
        return None, None
    serial = choice.boolean("disable_parallel_tool_use")
    parallel = None if serial is None else not serial
    match choice.need_text("type"):
        case "auto":
            return ToolChoice("auto"), parallel
        case "any":
            return ToolChoice("required"), parallel
        case "tool":
            return ToolChoice("required", (choice.need_text("name"),)), parallel
        case "none":
            return ToolChoice("none"), parallel
        case _:
            raise BadField("tool_choice.type", "tool_choice.type must be auto, any, tool or none.")


def _read_config(config: Fields | None) -> tuple[OutputFormat | None, str | None]:
    if config is None:
        return None, None
    word = config.choice("effort", *EFFORTS)
    form = config.fields("format")
    if form is None:
        return None, word
    form.choice("type", "json_schema")
    schema = form.object("schema")
    if schema is None:
        raise form.missing("schema")
    return OutputFormat("json_schema", schema), word


def _read_thinking(top: Fields, word: Any) -> Thinking | None:
    thinking = top.fields("thinking")
    if thinking is None:
        return None if word is None else Thinking(word)
    display = thinking.choice("display", "summarized", "omitted")
    shown = None if display is None else display == "summarized"
    match thinking.need_text("type"):
        case "enabled":
            budget = thinking.whole("budget_tokens", MIN_BUDGET)
            return Thinking(word, budget, shown=shown)
        case "adaptive" | "between_tools":
            return Thinking(word, shown=shown)
        case "disabled":
            return Thinking(off=True)
        case _:
            raise BadField("thinking.type", "thinking.type must be enabled, adaptive or disabled.")


# Writing a request...


def write_request(conversation: Conversation, target: Target) -> Written:
    """Write a Messages body for one of Anthropic's models; raises `CannotExpress`."""
    drops = Drops(conversation, FAMILY)
    names = [tool.name for tool in conversation.tools]
    calls = [
        part.name
        for turn in conversation.turns
        for part in turn.parts
        if isinstance(part, ToolCall)
    ]
    renamed = safe_names((*names, *calls), MAX_NAME)
    system, messages = write_turns(conversation, renamed, drops)
    body: dict[str, Any] = {"model": target.model, "max_tokens": 0}
    if system:
        body["system"] = _write_texts(system)
    body["messages"] = messages
    prefilled = messages[-1]["role"] == "assistant"
    if prefilled and generation(target.model) >= (4, 6):
        raise drops.cannot(
            "turns", "this model does not continue an answer; end with a user's turn."
        )
    forced = _write_tools(conversation, body, renamed, drops)
    _write_options(conversation, body, drops)
    fitted = fit(conversation, target, messages, drops, forced=forced)
    fitted["output_config"] = body.get("output_config", {}) | fitted.get("output_config", {})
    if not fitted["output_config"]:
        del fitted["output_config"]
    body |= fitted
    if conversation.family == FAMILY:
        for path, value in conversation.extra.items():
            if "." in path or "[" in path:
                drops.add(path)
            else:
                body[path] = value
    return Written(encode(body), drops.names(), {new: old for old, new in renamed.items()})


def fit(
    conversation: Conversation,
    target: Target,
    messages: list[dict[str, Any]],
    drops: Drops,
    *,
    forced: bool,
) -> dict[str, Any]:
    """
    Fit cap, thinking and sampling to one another and to what the model takes, after `messages`.

    Gives the members ``max_tokens``, and as needed ``thinking``, ``output_config``, ``temperature``,
    ``top_p`` and ``top_k``; `forced` says that a tool must be called.
    """
    body: dict[str, Any] = {"messages": messages}
    _write_thinking(conversation, body, target, drops, forced=forced)
    _write_sampling(conversation, body, target, drops)
    del body["messages"]
    return body


def write_turns(
    conversation: Conversation, renamed: dict[str, str], drops: Drops
) -> tuple[list[Text], list[dict[str, Any]]]:
    """Write the messages: roles alternate, results stand first, and instructions at the top."""
    system = [text for text in conversation.system if text.text]
    messages: list[dict[str, Any]] = []
    for turn in conversation.turns:
        if turn.role == "system":
            drops.add("system_position")
            system += [part for part in turn.parts if isinstance(part, Text) and part.text]
            continue
        if turn.name is not None:
            drops.add("participant")
        written = _write_parts(turn, renamed, drops)
        if not written:
            continue
        if messages and messages[-1]["role"] == turn.role:
            content = messages[-1]["content"]
            # Results must stand before anything else that the user says.
            results = [block for block in written if block["type"] == "tool_result"]
            at = next(
                (at for at, block in enumerate(content) if block["type"] != "tool_result"),
                len(content),
            )
            content[at:at] = results
            content += [block for block in written if block["type"] != "tool_result"]
        else:
            messages.append({"role": turn.role, "content": written})
    if not messages:
        if not system:
            raise drops.cannot("turns", "there is nothing to answer.")
        # Instructions alone: they are what is to be answered.
        return [], [{"role": "user", "content": _write_texts(system)}]
    if messages[0]["role"] == "assistant":
        # Anthropic wants the user to begin.
        messages.insert(0, {"role": "user", "content": [{"type": "text", "text": "."}]})
    last = messages[-1]
    if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
        last["content"][-1]["text"] = last["content"][-1]["text"].rstrip() or "."
    return system, messages


def _write_parts(turn: Turn, renamed: dict[str, str], drops: Drops) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    results = 0
    for part in turn.parts:
        match part:
            case Text():
                if part.text:
                    written.append(_marked({"type": "text", "text": part.text}, part.cache))
            case Refusal():
                if part.text:
                    written.append({"type": "text", "text": part.text})
            case Media():
                written.append(_marked(_write_media(part, drops), part.cache))
            case ToolResult():
                written.insert(results, _write_result(part, drops))
                results += 1
            case ToolCall():
                written.append(_write_call(part, renamed, drops))
            case Reasoning():
                if part.maker == "anthropic" and part.signature is not None:
                    written.append(
                        {
                            "type": "thinking",
                            "thinking": part.text,
                            "signature": part.signature,
                        }
                    )
                elif part.maker == "anthropic" and part.redacted is not None:
                    written.append({"type": "redacted_thinking", "data": part.redacted})
                else:
                    # What Anthropic did not sign, it refuses.
                    drops.add("reasoning")
    return written


def _write_call(call: ToolCall, renamed: dict[str, str], drops: Drops) -> dict[str, Any]:
    arguments = None if call.custom else decode_object(call.arguments)
    if arguments is None:
        raise drops.cannot("turns", f"the arguments of the tool call {call.id} are no JSON object.")
    return _marked(
        {
            "type": "tool_use",
            "id": safe_id(call.id, MAX_ID),
            "name": renamed.get(call.name, call.name),
            "input": arguments,
        },
        call.cache,
    )


def _write_result(result: ToolResult, drops: Drops) -> dict[str, Any]:
    written: dict[str, Any] = {"type": "tool_result", "tool_use_id": safe_id(result.id, MAX_ID)}
    content: list[dict[str, Any]] = []
    for part in result.content:
        if isinstance(part, Media):
            content.append(_marked(_write_media(part, drops), part.cache))
        elif part.text:
            content.append(_marked({"type": "text", "text": part.text}, part.cache))
    if content:
        written["content"] = content
    if result.failed:
        written["is_error"] = True
    return _marked(written, result.cache)


def _write_texts(texts: Sequence[Text]) -> Any:
    if len(texts) == 1 and texts[0].cache is None:
        return texts[0].text
    return [_marked({"type": "text", "text": text.text}, text.cache) for text in texts]


def _marked(block: dict[str, Any], cache: str | None) -> dict[str, Any]:
    if cache is not None:
        mark = {"type": "ephemeral"}
        if cache in {"5m", "1h"}:
            mark["ttl"] = cache
        elif cache:  # OpenAI's 30m and 12h
            mark["ttl"] = "1h"
        block["cache_control"] = mark
    return block


def _write_media(media: Media, drops: Drops) -> dict[str, Any]:
    if media.detail not in {None, "auto"}:
        drops.add("detail")
    if media.kind not in {"image", "document"}:
        raise drops.cannot("turns", f"this model takes no {media.kind}.")
    if media.file_id is not None:
        raise drops.cannot("turns", "a file's id is known to its vendor only; send its data.")
    source: dict[str, Any]
    if media.kind == "image":
        if media.data is not None:
            if media.media_type not in _IMAGES:
                raise drops.cannot("turns", "images must be JPEG, PNG, GIF or WebP.")
            source = {"type": "base64", "media_type": media.media_type, "data": media.data}
        else:
            source = {"type": "url", "url": media.url}
        return {"type": "image", "source": source}
    block: dict[str, Any] = {"type": "document"}
    if media.text is not None:
        source = {"type": "text", "media_type": "text/plain", "data": media.text}
    elif media.url is not None:
        source = {"type": "url", "url": media.url}
    elif media.media_type == "application/pdf":
        source = {"type": "base64", "media_type": "application/pdf", "data": media.data}
    elif media.media_type.startswith("text/"):
        source = {"type": "text", "media_type": "text/plain", "data": _text_of(media, drops)}
    else:
        raise drops.cannot("turns", "documents must be PDF or text.")
    block["source"] = source
    if media.name is not None:
        block["title"] = media.name
    if media.context is not None:
        block["context"] = media.context
    return block


def _text_of(media: Media, drops: Drops) -> str:
    try:
        return base64.b64decode(media.data or "", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise drops.cannot("turns", "a document's data is not base64 of UTF-8 text.") from None


def _write_tools(
    conversation: Conversation, body: dict[str, Any], renamed: dict[str, str], drops: Drops
) -> bool:
    """Write the tools and which to call; say whether one must be called."""
    choice = conversation.tool_choice
    tools = conversation.tools
    if choice is not None and len(choice.names) > (choice.mode == "required"):
        # What may not be called is not offered.
        tools = tuple(tool for tool in tools if tool.name in choice.names)
        choice = ToolChoice(choice.mode)
    if not tools:
        return False
    body["tools"] = [_write_tool(tool, renamed, drops) for tool in tools]
    written: dict[str, Any] = {}
    if choice is not None:
        match choice.mode:
            case "required" if choice.names:
                name = choice.names[0]
                written = {"type": "tool", "name": renamed.get(name, name)}
            case "required":
                written = {"type": "any"}
            case mode:
                written = {"type": mode}
    if conversation.parallel_tool_calls is not None and written.get("type") != "none":
        written = written or {"type": "auto"}
        written["disable_parallel_tool_use"] = not conversation.parallel_tool_calls
    if written:
        body["tool_choice"] = written
    return written.get("type") in {"any", "tool"}


def _write_tool(tool: Tool, renamed: dict[str, str], drops: Drops) -> dict[str, Any]:
    if tool.custom:
        raise drops.cannot("tools", f"the tool {tool.name} takes free text; give it a schema.")
    written: dict[str, Any] = {"name": renamed.get(tool.name, tool.name)}
    if tool.description is not None:
        written["description"] = tool.description
    schema = dict(tool.schema) if tool.schema else {}
    # Anthropic demands an object.
    schema.setdefault("type", "object")
    written["input_schema"] = schema
    if tool.strict is not None:
        written["strict"] = tool.strict
    return _marked(written, tool.cache)


def _write_options(conversation: Conversation, body: dict[str, Any], drops: Drops) -> None:
    if conversation.n > 1:
        raise drops.cannot("n", "this model's vendor gives one answer at a time.")
    if conversation.stop:
        if any(not text.strip() for text in conversation.stop):
            raise drops.cannot("stop", "this model's vendor takes no blank stop sequence.")
        body["stop_sequences"] = list(conversation.stop)
    if conversation.output is not None:
        if conversation.output.schema is None:
            raise drops.cannot(
                "output", "this model writes JSON by a schema only; give json_schema."
            )
        body["output_config"] = {
            "format": {"type": "json_schema", "schema": conversation.output.schema}
        }
    if conversation.stream:
        body["stream"] = True
    if conversation.user is not None:
        if len(conversation.user) <= MAX_USER:
            body["metadata"] = {"user_id": conversation.user}
        else:
            drops.add("user")
    match conversation.service_tier:
        case None:
            pass
        case "auto" | "standard_only":
            body["service_tier"] = conversation.service_tier
        case "default":
            body["service_tier"] = "standard_only"
        case _:
            drops.add("service_tier")
    if conversation.verbosity is not None:
        drops.add("verbosity")


def _write_thinking(
    conversation: Conversation,
    body: dict[str, Any],
    target: Target,
    drops: Drops,
    *,
    forced: bool,
) -> None:
    """Write the cap and how much to think, which must be less."""
    cap = target.output_cap if target.output_cap is not None else conversation.max_tokens
    body["max_tokens"] = cap if cap is not None else target.max_output or ASSUMED_CAP
    thinking = conversation.thinking
    if thinking is None:
        return
    if thinking.off:
        body["thinking"] = {"type": "disabled"}
        return
    version = generation(target.model)
    if version < (3, 7) or forced:
        # Older models do not think, and none does when it must call a tool.
        drops.add("thinking")
        return
    if version >= (4, 6):
        body["thinking"] = {"type": "adaptive"}
        if thinking.shown is not None:
            body["thinking"]["display"] = "summarized" if thinking.shown else "omitted"
        word = effort.effort_of(thinking)
        if word is not None:
            known = effort.nearest(word, EFFORTS)
            body["output_config"] = body.get("output_config", {}) | {"effort": known}
        return
    budget = max(effort.budget_of(thinking) or effort.TOKENS["medium"], MIN_BUDGET)
    if cap is None and target.max_output is None:
        body["max_tokens"] = budget + ASSUMED_CAP
    budget = min(budget, body["max_tokens"] - 1)
    turns = (
        (turn["role"], [block["type"] for block in turn["content"]])
        for turn in reversed(body["messages"])
    )
    if budget < MIN_BUDGET or not lets_think(turns):
        drops.add("thinking")
        return
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def lets_think(turns: Iterable[tuple[str, Sequence[str]]]) -> bool:
    """
    Say whether Anthropic lets a model think; `turns` are roles and kinds of blocks, the last turn first.

    The answer must not have been begun for it, and calls that are being answered must have begun with signed reasoning.
    """
    for at, (role, kinds) in enumerate(turns):
        if role == "assistant":
            return at > 0 and (
                "tool_use" not in kinds or kinds[0] in {"thinking", "redacted_thinking"}
            )
        if "tool_result" not in kinds:
            return True
    return True


def _write_sampling(
    conversation: Conversation, body: dict[str, Any], target: Target, drops: Drops
) -> None:
    sampling = conversation.sampling
    if sampling.logprobs:
        raise drops.cannot("logprobs", "this model's vendor gives none.")
    drops.add_sampling(sampling, *_UNKNOWN_SAMPLING)
    version = generation(target.model)
    thinks = body.get("thinking", {}).get("type") in {"enabled", "adaptive"}
    temperature, top_p, top_k = sampling.temperature, sampling.top_p, sampling.top_k
    if temperature is not None:
        # OpenAI's scale ends at 2, Anthropic's at 1; who thinks, or is new, draws in one way only.
        if temperature > 1 or version >= (4, 7) or (thinks and temperature != 1):
            drops.add("temperature")
        else:
            body["temperature"] = temperature
    if top_p is not None:
        if (
            version >= (4, 7)
            or ("temperature" in body and version >= (4, 1))
            or (thinks and top_p < 0.95)
        ):
            drops.add("top_p")
        else:
            body["top_p"] = top_p
    if top_k is not None:
        if version >= (4, 7) or thinks:
            drops.add("top_k")
        else:
            body["top_k"] = top_k
