"""Requests of Responses, read and written."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from proxy.wire.look import BadField
from proxy.wire.translate import effort
from proxy.wire.translate.chat.parts import DATA_URL
from proxy.wire.translate.chat.requests import is_reasoning_model
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
    namespaced,
)
from proxy.wire.translate.fields import Fields, encode, parse_object
from proxy.wire.translate.responses.items import (
    call_item,
    read_call,
    read_reasoning,
    reasoning_item,
)
from proxy.wire.translate.words import Drops, safe_id, safe_names

__all__ = ["FAMILY", "read_request", "takes_reasoning", "write_request"]

FAMILY = "openai.responses"
MAX_NAME = 64
MAX_ID = 64

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_UNKNOWN_SAMPLING = (
    *("top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "seed"),
    *("logit_bias", "top_logprobs"),
)


# Reading a request...


def read_request(body: bytes) -> Conversation:
    """
    Read a Responses body.

    Raises `BadField` for what is no such request, and `CannotExpress` for what only its vendor has or
    keeps.
    """
    top = parse_object(body)
    extra: dict[str, Any] = {}
    system: list[Text] = []
    instructions = top.text("instructions")
    if instructions:
        system.append(Text(instructions))
    turns: list[Turn] = []
    for turn in _read_input(top, extra):
        if turn.role == "system" and not turns:
            system += [part for part in turn.parts if isinstance(part, Text)]
        elif turns and turn.role == turns[-1].role == "assistant":
            turns[-1] = Turn("assistant", turns[-1].parts + turn.parts)
        else:
            turns.append(turn)
    if not turns and not system:
        raise BadField("input", "input must not be empty.")
    form = top.fields("text")
    options = top.fields("stream_options")
    if options is not None:
        options.any("include_obfuscation")
        extra.update(options.rest())
    _check_include(top, extra)
    # Nothing is kept here: whether the caller wants it kept makes no difference to the answer.
    top.any("store")
    read = Conversation(
        model=top.need_text("model"),
        system=tuple(system),
        turns=tuple(turns),
        tools=tuple(_read_tools(top, extra)),
        tool_choice=_read_tool_choice(top),
        parallel_tool_calls=top.boolean("parallel_tool_calls"),
        output=_read_output(form, extra),
        sampling=Sampling(
            temperature=top.number("temperature"),
            top_p=top.number("top_p"),
            top_logprobs=top.whole("top_logprobs", 0),
        ),
        thinking=_read_thinking(top, extra),
        max_tokens=top.whole("max_output_tokens", 1),
        stream=top.boolean("stream") or False,
        include_usage=True,
        user=top.text("user"),
        service_tier=top.text("service_tier"),
        verbosity=form.text("verbosity") if form is not None else None,
        metadata=top.object("metadata"),
        family=FAMILY,
    )
    if form is not None:
        extra.update(form.rest())
    extra.update(top.rest())
    return msgspec.structs.replace(read, extra=extra) if extra else read


def _check_include(top: Fields, extra: dict[str, Any]) -> None:
    wanted = top.texts("include")
    if "message.output_text.logprobs" in wanted:
        raise CannotExpress("include", "log probabilities are not translated.")
    rest = [name for name in wanted if name != "reasoning.encrypted_content"]
    if rest:
        extra["include"] = rest


def _read_input(top: Fields, extra: dict[str, Any]) -> Iterator[Turn]:
    given = top.any("input")
    if isinstance(given, str):
        if given:
            yield Turn("user", (Text(given),))
        return
    if given is None:
        return
    for item in Fields({"input": given}).each("input"):
        yield _read_item(item, extra)
        extra.update(item.rest())


def _read_item(item: Fields, extra: dict[str, Any]) -> Turn:
    match item.text("type") or "message":
        case "message":
            role = item.choice("role", "user", "assistant", "system", "developer")
            if role is None:
                raise item.missing("role")
            for known in ("id", "status", "phase"):
                item.any(known)
            content = tuple(_read_content(item, "content", extra))
            return Turn("system" if role == "developer" else role, content)  # type: ignore[arg-type]  # of the choice
        case "function_call" | "custom_tool_call" as kind:
            return Turn("assistant", (read_call(item, kind),))
        case "function_call_output" | "custom_tool_call_output":
            given = item.need_text("call_id")
            content = tuple(_read_content(item, "output", extra))
            for known in ("id", "status", "caller"):
                item.any(known)
            media = tuple(part for part in content if isinstance(part, Text | Media))
            return Turn("user", (ToolResult(given, media, item.text("name") or ""),))
        case "reasoning":
            return Turn("assistant", (read_reasoning(item),))
        case kind:
            raise CannotExpress(item.at("type"), f"an item of type {kind!r} is its vendor's own.")


def _read_content(item: Fields, name: str, extra: dict[str, Any]) -> Iterator[Any]:
    content = item.any(name)
    if isinstance(content, str):
        if content:
            yield Text(content)
        return
    if content is None:
        raise item.missing(name)
    for part in Fields({name: content}, item.path).each(name):
        yield _read_part(part)
        extra.update(part.rest())


def _read_part(part: Fields) -> Text | Refusal | Media:
    mark = part.object("prompt_cache_breakpoint")
    cache = None if mark is None else str(mark.get("ttl") or "")
    match part.need_text("type"):
        case "input_text" | "output_text" | "text":
            for known in ("annotations", "logprobs"):
                part.any(known)
            return Text(part.need_text("text"), cache)
        case "refusal":
            return Refusal(part.need_text("refusal"))
        case "input_image":
            detail, url = part.text("detail"), part.text("image_url")
            detail = None if detail == "auto" else detail  # which must be written, and says nothing
            if url is None:
                return Media("image", file_id=part.need_text("file_id"), detail=detail)
            begin = DATA_URL.match(url)
            if begin is None:
                return Media("image", url=url, detail=detail, cache=cache)
            kind = begin[1].lower()
            return Media("image", kind, data=url[begin.end() :], detail=detail, cache=cache)
        case "input_file":
            name, data, url = part.text("filename"), part.text("file_data"), part.text("file_url")
            if data is not None:
                begin = DATA_URL.match(data)
                kind = begin[1].lower() if begin is not None else "application/pdf"
                data = data if begin is None else data[begin.end() :]
                return Media("document", kind, data=data, name=name, cache=cache)
            if url is not None:
                return Media("document", url=url, name=name, cache=cache)
            return Media("document", file_id=part.need_text("file_id"), name=name)
        case kind:
            raise CannotExpress(part.at("type"), f"content of type {kind!r} cannot be translated.")


def _read_tools(top: Fields, extra: dict[str, Any]) -> Iterator[Tool]:
    """Read tools; those of a namespace one by one, by their names in it."""
    for tool in top.each("tools"):
        if (kind := tool.need_text("type")) != "namespace":
            yield _read_tool(tool, kind, "", extra)
            continue
        namespace = tool.need_text("name")
        for member in tool.each("tools"):
            yield _read_tool(member, member.need_text("type"), namespace, extra)
        extra.update(tool.rest())


def _read_tool(tool: Fields, kind: str, namespace: str, extra: dict[str, Any]) -> Tool:
    name = tool.need_text("name") if kind in {"function", "custom"} else ""
    if namespace:
        name = namespaced(namespace, name)
    match kind:
        case "function":
            read = Tool(
                name,
                tool.text("description"),
                tool.object("parameters"),
                tool.boolean("strict") or None,
                namespace=namespace,
            )
        case "custom":
            form = tool.object("format")
            plain = form is None or form.get("type") == "text"
            read = Tool(
                name,
                tool.text("description"),
                None if plain else form,
                custom=True,
                namespace=namespace,
            )
        case _:
            raise CannotExpress(tool.at("type"), f"the tool {kind!r} is its vendor's own.")
    extra.update(tool.rest())
    return read


def _read_tool_choice(top: Fields) -> ToolChoice | None:
    choice = top.any("tool_choice")
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice in {"auto", "none", "required"}:
            return ToolChoice(choice)  # type: ignore[arg-type]  # checked in the line above
        raise BadField("tool_choice", "tool_choice must be auto, none, required or a tool.")
    named = Fields(choice, "tool_choice")
    match named.need_text("type"):
        case "function" | "custom":
            return ToolChoice("required", (_named(named),))
        case "allowed_tools":
            names = tuple(_named(tool) for tool in named.each("tools"))
            mode = named.choice("mode", "auto", "required")
            return ToolChoice("required" if mode == "required" else "auto", names)
        case kind:
            raise CannotExpress("tool_choice.type", f"the tool {kind!r} is its vendor's own.")


def _named(tool: Fields) -> str:
    name, namespace = tool.need_text("name"), tool.text("namespace")
    return namespaced(namespace, name) if namespace else name


def _read_output(form: Fields | None, extra: dict[str, Any]) -> OutputFormat | None:
    wanted = form.fields("format") if form is not None else None
    if wanted is None:
        return None
    match wanted.need_text("type"):
        case "text":
            return None
        case "json_object":
            return OutputFormat("json")
        case "json_schema":
            read = OutputFormat(
                "json_schema",
                wanted.object("schema"),
                wanted.text("name") or "",
                wanted.text("description"),
                wanted.boolean("strict"),
            )
            extra.update(wanted.rest())
            return read
        case kind:
            raise BadField(wanted.at("type"), f"{wanted.at('type')} cannot be {kind!r}.")


def _read_thinking(top: Fields, extra: dict[str, Any]) -> Thinking | None:
    reasoning = top.fields("reasoning")
    if reasoning is None:
        return None
    word = reasoning.choice("effort", *_EFFORTS)
    summary = reasoning.text("summary") or reasoning.text("generate_summary")
    extra.update(reasoning.rest())
    if word is None and summary is None:
        return None
    return Thinking(
        None if word == "none" else word,  # type: ignore[arg-type]  # one of _EFFORTS
        off=word == "none",
        shown=None if summary is None else True,
    )


# Writing a request...


def write_request(conversation: Conversation, target: Target) -> Written:
    """Write a Responses body, of which nothing is to be kept; raises `CannotExpress`."""
    drops = Drops(conversation, FAMILY)
    calls = [
        part.name
        for turn in conversation.turns
        for part in turn.parts
        if isinstance(part, ToolCall)
    ]
    renamed = safe_names((*(tool.name for tool in conversation.tools), *calls), MAX_NAME)
    body: dict[str, Any] = {"model": target.model}
    if conversation.system:
        if any(text.cache is not None for text in conversation.system):
            drops.add("cache_control")
        body["instructions"] = "\n".join(text.text for text in conversation.system)
    items: list[dict[str, Any]] = []
    custom = {
        part.id
        for turn in conversation.turns
        for part in turn.parts
        if isinstance(part, ToolCall) and part.custom
    }
    for turn in conversation.turns:
        if turn.name is not None:
            drops.add("participant")
        if turn.role == "assistant":
            _write_assistant(turn, items, renamed, drops)
        else:
            _write_user(turn, items, custom, drops)
    body["input"] = items
    if not items and not conversation.system:
        raise drops.cannot("turns", "there is nothing to answer.")
    _write_tools(conversation, body, renamed, drops)
    _write_options(conversation, body, target, drops)
    if conversation.family == FAMILY:
        for path, value in conversation.extra.items():
            if "." in path or "[" in path:
                drops.add(path)
            else:
                body[path] = value
        if conversation.metadata is not None:
            body["metadata"] = conversation.metadata
    return Written(encode(body), drops.names(), {new: old for old, new in renamed.items()})


def _write_assistant(
    turn: Turn, items: list[dict[str, Any]], renamed: dict[str, str], drops: Drops
) -> None:
    content: list[dict[str, Any]] = []

    def end_message() -> None:
        if content:
            items.append({"type": "message", "role": "assistant", "content": list(content)})
            content.clear()

    for part in turn.parts:
        match part:
            case Text():
                if part.cache is not None:
                    drops.add("cache_control")
                if part.text:
                    content.append({"type": "output_text", "text": part.text})
            case Refusal():
                content.append({"type": "refusal", "refusal": part.text})
            case Reasoning():
                end_message()
                if part.maker == "openai" and part.redacted is not None:
                    items.append(reasoning_item(part, f"rs_{len(items)}"))
                else:
                    drops.add("reasoning")
            case ToolCall():
                end_message()
                given = safe_id(part.id, MAX_ID)
                name = renamed.get(part.name, part.name)
                call = ToolCall(given, name, part.arguments or "{}", part.custom)
                item = call_item(call, "", "completed")
                del item["id"]
                items.append(item)
            case _:
                raise drops.cannot("turns", "an assistant's message cannot hold media here.")
    end_message()


def _write_user(turn: Turn, items: list[dict[str, Any]], custom: set[str], drops: Drops) -> None:
    content: list[Text | Media] = []
    for part in turn.parts:
        match part:
            case ToolResult():
                items.append(_write_result(part, custom, drops))
            case Text() | Media():
                content.append(part)
            case _:
                drops.add("reasoning")
    if content:
        role = "developer" if turn.role == "system" else "user"
        items.append(
            {
                "type": "message",
                "role": role,
                "content": [_write_part(part, drops) for part in content],
            }
        )


def _write_result(result: ToolResult, custom: set[str], drops: Drops) -> dict[str, Any]:
    if result.cache is not None:
        drops.add("cache_control")
    content: Sequence[Text | Media] = result.content
    if result.failed:
        content = (Text("Error:"), *content)
    output: Any = [_write_part(part, drops) for part in content]
    if all(isinstance(part, Text) for part in content):
        output = "\n".join(part.text for part in content if isinstance(part, Text))
    kind = "custom_tool_call_output" if result.id in custom else "function_call_output"
    return {"type": kind, "call_id": safe_id(result.id, MAX_ID), "output": output}


def _write_part(part: Text | Media, drops: Drops) -> dict[str, Any]:
    if part.cache is not None:
        drops.add("cache_control")
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    if part.file_id is not None:
        raise drops.cannot("turns", "a file's id is known to its vendor only; send its data.")
    url = part.url
    if part.data is not None:
        url = f"data:{part.media_type or 'application/octet-stream'};base64,{part.data}"
    match part.kind:
        case "image":
            return {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}
        case "document":
            if part.text is not None:
                about = [line for line in (part.name, part.context, part.text) if line]
                return {"type": "input_text", "text": "\n".join(about)}
            if part.context is not None:
                drops.add("context")
            if part.data is None:
                return {"type": "input_file", "file_url": part.url}
            return {"type": "input_file", "filename": part.name or "document", "file_data": url}
        case kind:
            raise drops.cannot("turns", f"this model takes no {kind}.")


def _write_tools(
    conversation: Conversation, body: dict[str, Any], renamed: dict[str, str], drops: Drops
) -> None:
    tools, choice = conversation.tools, conversation.tool_choice
    if not tools:
        return
    body["tools"] = [_write_tool(tool, renamed, drops) for tool in tools]
    if conversation.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = conversation.parallel_tool_calls
    if choice is None:
        return
    kinds = {tool.name: "custom" if tool.custom else "function" for tool in tools}
    named = [
        {"type": kinds.get(name, "function"), "name": renamed.get(name, name)}
        for name in choice.names
    ]
    if not named:
        body["tool_choice"] = choice.mode
    elif len(named) == 1 and choice.mode == "required":
        body["tool_choice"] = named[0]
    else:
        body["tool_choice"] = {"type": "allowed_tools", "mode": choice.mode, "tools": named}


def _write_tool(tool: Tool, renamed: dict[str, str], drops: Drops) -> dict[str, Any]:
    if tool.cache is not None:
        drops.add("cache_control")
    written: dict[str, Any] = {
        "type": "custom" if tool.custom else "function",
        "name": renamed.get(tool.name, tool.name),
    }
    if tool.description is not None:
        written["description"] = tool.description
    if tool.custom:
        if tool.schema is not None:
            written["format"] = tool.schema
        return written
    # Here, other than everywhere else, a tool is strict unless it says that it is not.
    written["parameters"] = tool.schema
    written["strict"] = tool.strict or False
    return written


def _write_options(
    conversation: Conversation, body: dict[str, Any], target: Target, drops: Drops
) -> None:
    if conversation.n > 1:
        raise drops.cannot("n", "this model's vendor gives one answer at a time.")
    if conversation.stop:
        raise drops.cannot("stop", "this model's vendor knows no stop sequences.")
    sampling = conversation.sampling
    if sampling.logprobs:
        raise drops.cannot("logprobs", "log probabilities are not translated.")
    drops.add_sampling(sampling, *_UNKNOWN_SAMPLING)
    reasons = is_reasoning_model(target.model)
    for name in ("temperature", "top_p"):
        value = getattr(sampling, name)
        if value is not None and reasons:
            drops.add(name)
        elif value is not None:
            body[name] = value
    cap = target.output_cap if target.output_cap is not None else conversation.max_tokens
    if cap is not None:
        body["max_output_tokens"] = cap
    form: dict[str, Any] = {}
    if conversation.output is not None:
        form["format"] = _write_output(conversation.output)
    if conversation.verbosity is not None:
        form["verbosity"] = conversation.verbosity
    if form:
        body["text"] = form
    thinking = conversation.thinking
    if thinking is not None:
        word = effort.effort_of(thinking)
        reasoning: dict[str, str] = {} if word is None else {"effort": word}
        if thinking.shown is not False and not thinking.off:
            reasoning["summary"] = "auto"
        if reasoning and takes_reasoning(target):
            body["reasoning"] = reasoning
        elif reasoning:
            drops.add("thinking")
    for name in ("user", "service_tier"):
        value = getattr(conversation, name)
        if value is not None:
            body[name] = value
    if conversation.stream:
        body["stream"] = True
    # The caller keeps the conversation, so nobody else needs to; and what it keeps must be complete.
    body["store"] = False
    if reasons or "reasoning" in body:
        body["include"] = ["reasoning.encrypted_content"]


def takes_reasoning(target: Target) -> bool:
    """Say whether a model can be told how much to think."""
    return is_reasoning_model(target.model) or target.dialect.name != "openai"


def _write_output(output: OutputFormat) -> dict[str, Any]:
    if output.kind == "json":
        return {"type": "json_object"}
    written: dict[str, Any] = {
        "type": "json_schema",
        "name": output.name or "answer",
        "schema": output.schema or {},
    }
    if output.description is not None:
        written["description"] = output.description
    if output.strict is not None:
        written["strict"] = output.strict
    return written
