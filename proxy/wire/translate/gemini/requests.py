"""Requests of Gemini, read and written."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.wire.look import BadField
from proxy.wire.translate import effort
from proxy.wire.translate.core import (
    BadAnswer,
    CannotExpress,
    Conversation,
    Effort,
    Media,
    OutputFormat,
    Reasoning,
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
from proxy.wire.translate.gemini.parts import (
    NO_SIGNATURE,
    ProtoFields,
    add_thought,
    reasoning_of,
    write_said,
)
from proxy.wire.translate.words import Drops, safe_names

__all__ = ["FAMILY", "generation", "read_request", "thinking_config", "write_request"]

FAMILY = "gemini.generate"
MAX_NAME = 64
MAX_STOPS = 5

_NAME = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
# Files that Google keeps: nobody else can read them.
_GOOGLES = ("gs://", "https://generativelanguage.googleapis.com/")
_PART_KINDS = ("text", "inlineData", "fileData", "functionCall", "functionResponse")
_UNKNOWN_SAMPLING = ("min_p", "repetition_penalty", "logit_bias")
_SAMPLING = (
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("top_k", "topK"),
    ("frequency_penalty", "frequencyPenalty"),
    ("presence_penalty", "presencePenalty"),
    ("seed", "seed"),
)
_LEVELS: tuple[Effort, ...] = ("minimal", "low", "medium", "high")
_TIERS = {"auto": None, "default": None, "flex": "flex", "priority": "priority"}
_CHOICES = {"AUTO": "auto", "ANY": "required", "NONE": "none", "VALIDATED": "auto"}


def generation(model: str) -> tuple[int, int]:
    """Read a Gemini's version out of its name; a name that tells none is taken as the newest."""
    found = _NAME.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (99, 0)


# Reading a request...


def read_request(body: bytes) -> Conversation:
    """
    Read a generateContent body, which says neither the model nor whether it is streamed.

    Raises `BadField` for what is no such request, and `CannotExpress` for content that no other
    protocol has.
    """
    top = ProtoFields(parse_object(body).taken())
    extra: dict[str, Any] = {}
    if not top.has("contents"):
        raise top.missing("contents")
    reader = _Turns(extra)
    turns = tuple(reader.read(content) for content in top.each("contents"))
    if not turns:
        raise BadField("contents", "contents must not be empty.")
    config = top.fields("generationConfig") or ProtoFields({}, "generationConfig")
    instruction = top.fields("systemInstruction")
    read = Conversation(
        model="",
        system=tuple(_read_system(instruction)) if instruction is not None else (),
        turns=turns,
        tools=tuple(_read_tools(top)),
        tool_choice=_read_tool_choice(top, extra),
        output=_read_output(config),
        sampling=Sampling(
            temperature=config.number("temperature"),
            top_p=config.number("topP"),
            top_k=config.whole("topK"),
            frequency_penalty=config.number("frequencyPenalty"),
            presence_penalty=config.number("presencePenalty"),
            seed=config.whole("seed"),
            logprobs=config.boolean("responseLogprobs"),
            top_logprobs=config.whole("logprobs", 0),
        ),
        thinking=_read_thinking(config, extra),
        max_tokens=config.whole("maxOutputTokens", 1),
        stop=config.texts("stopSequences"),
        n=config.whole("candidateCount", 1) or 1,
        include_usage=True,
        service_tier=top.text("serviceTier"),
        metadata=top.object("labels"),
        family=FAMILY,
    )
    extra.update(config.rest())
    extra.update(top.rest())
    return msgspec.structs.replace(read, extra=extra) if extra else read


def _read_system(instruction: Fields) -> list[Text]:
    instruction.any("role")
    return [Text(part.need_text("text")) for part in instruction.each("parts") if part.has("text")]


class _Turns:
    """Reads contents; calls and results without ids are matched by name and order."""

    def __init__(self, extra: dict[str, Any]) -> None:
        self._extra = extra
        self._calls = 0
        self._open: list[tuple[str, str]] = []

    def read(self, content: Fields) -> Turn:
        role = content.choice("role", "user", "model", "function") or "user"
        found: list[Any] = []
        for part in content.each("parts"):
            self._read_part(part, found)
        self._extra.update(content.rest())
        return Turn("assistant" if role == "model" else "user", tuple(found))

    def _read_part(self, part: Fields, found: list[Any]) -> None:
        signature = part.text("thoughtSignature")
        thought = part.boolean("thought") or False
        if signature == NO_SIGNATURE:
            signature = None
        if signature and not thought:
            found.append(reasoning_of(signature))
        kinds = [kind for kind in _PART_KINDS if part.has(kind)]
        match kinds:
            case ["text"]:
                text = part.need_text("text")
                if thought:
                    add_thought(found, text, signature)
                elif text:
                    found.append(Text(text))
            case ["inlineData"]:
                blob = part.need_fields("inlineData")
                kind = blob.need_text("mimeType")
                found.append(
                    Media(
                        _kind_of(kind),
                        kind,
                        data=_plain_base64(blob.need_text("data")),
                        name=blob.text("displayName"),
                    )
                )
            case ["fileData"]:
                file = part.need_fields("fileData")
                kind, uri = file.text("mimeType") or "", file.need_text("fileUri")
                own = uri.startswith(_GOOGLES)
                found.append(
                    Media(
                        _kind_of(kind),
                        kind,
                        file_id=uri if own else None,
                        url=None if own else uri,
                        name=file.text("displayName"),
                    )
                )
            case ["functionCall"]:
                found.append(self._read_call(part.need_fields("functionCall")))
            case ["functionResponse"]:
                found.append(self._read_result(part.need_fields("functionResponse")))
            case [] if thought:
                add_thought(found, "", signature)
            case [] if signature:
                pass
            case _:
                raise CannotExpress(part.path, "a part of this kind cannot be translated.")
        self._extra.update(part.rest())

    def _read_call(self, call: Fields) -> ToolCall:
        name = call.need_text("name")
        given = call.text("id") or f"call_{self._calls}"
        self._calls += 1
        self._open.append((given, name))
        return ToolCall(given, name, encode(call.object("args") or {}).decode())

    def _read_result(self, result: Fields) -> ToolResult:
        name = result.need_text("name")
        given = result.text("id")
        for at, (call, called) in enumerate(self._open):
            if call == given if given else called == name:
                given = call
                del self._open[at]
                break
        content: list[Text | Media] = []
        response = result.object("response") or {}
        failed = set(response) == {"error"}
        keys = [key for key in ("output", "result", "error") if key in response]
        value: Any = response[keys[0]] if keys and len(response) == 1 else response
        text = value if isinstance(value, str) else encode(value).decode()
        if text:
            content.append(Text(text))
        for part in result.each("parts"):
            blob = part.need_fields("inlineData")
            kind = blob.need_text("mimeType")
            content.append(Media(_kind_of(kind), kind, data=_plain_base64(blob.need_text("data"))))
        for unused in ("willContinue", "scheduling"):
            result.any(unused)
        return ToolResult(given or f"call_{name}", tuple(content), name, failed)


def _kind_of(media_type: str) -> Any:
    kind = media_type.partition("/")[0]
    return kind if kind in {"image", "audio", "video"} else "document"


def _plain_base64(data: str) -> str:
    """Give base64 in the alphabet that everyone reads; Google's client writes the other."""
    return data.replace("-", "+").replace("_", "/")


def _read_tools(top: Fields) -> list[Tool]:
    found = []
    for tool in top.each("tools"):
        for function in tool.each("functionDeclarations"):
            schema = function.object("parametersJsonSchema")
            parameters = function.object("parameters")
            if schema is None and parameters is not None:
                schema = _json_schema(parameters)
            found.append(Tool(function.need_text("name"), function.text("description"), schema))
        for path in tool.rest():
            raise CannotExpress(path, "this tool is its vendor's own.")
    return found


def _json_schema(schema: Any) -> Any:
    """Make a JSON schema of Google's, which is OpenAPI's with types in capitals."""
    if isinstance(schema, list):
        return [_json_schema(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for name, value in schema.items():
        key = "anyOf" if name == "any_of" else name
        match key:
            case "type" if isinstance(value, str):
                made[key] = value.lower()
            case "properties" if isinstance(value, dict):
                made[key] = {member: _json_schema(inner) for member, inner in value.items()}
            case "items" | "anyOf":
                made[key] = _json_schema(value)
            case "nullable" | "propertyOrdering" | "property_ordering":
                pass
            case _:
                made[key] = value
    if schema.get("nullable") is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def _read_tool_choice(top: Fields, extra: dict[str, Any]) -> ToolChoice | None:
    config = top.fields("toolConfig")
    if config is None:
        return None
    calling = config.fields("functionCallingConfig")
    extra.update(config.rest())
    if calling is None:
        return None
    mode = calling.choice("mode", *_CHOICES, "MODE_UNSPECIFIED") or "AUTO"
    names = calling.texts("allowedFunctionNames")
    extra.update(calling.rest())
    return ToolChoice(_CHOICES.get(mode, "auto"), names)  # type: ignore[arg-type]  # of the table


def _read_output(config: Fields) -> OutputFormat | None:
    kind = config.text("responseMimeType")
    schema = config.object("responseJsonSchema")
    google = config.object("responseSchema")
    if schema is None and google is not None:
        schema = _json_schema(google)
    if kind in {None, "text/plain"}:
        return None
    if kind != "application/json":
        raise CannotExpress(config.at("responseMimeType"), "answers are text or JSON here.")
    return OutputFormat("json" if schema is None else "json_schema", schema)


def _read_thinking(config: Fields, extra: dict[str, Any]) -> Thinking | None:
    thinking = config.fields("thinkingConfig")
    if thinking is None:
        return None
    budget = thinking.whole("thinkingBudget", -1)
    level = thinking.text("thinkingLevel")
    shown = thinking.boolean("includeThoughts")
    extra.update(thinking.rest())
    word = level.lower() if level else None
    if word is not None and word not in effort.TOKENS:
        raise BadField(thinking.at("thinkingLevel"), "thinkingLevel is not one of Google's.")
    return Thinking(
        word,  # type: ignore[arg-type]  # checked in the lines above
        budget if budget is not None and budget > 0 else None,
        off=budget == 0,
        shown=shown,
    )


# Writing a request...


def write_request(conversation: Conversation, target: Target) -> Written:
    """
    Write a generateContent body, for one of Google's models; raises `CannotExpress`.

    The model, and whether it is streamed, go into the URL.
    """
    drops = Drops(conversation, FAMILY)
    calls = {
        part.id: part.name
        for turn in conversation.turns
        for part in turn.parts
        if isinstance(part, ToolCall)
    }
    renamed = safe_names((*(tool.name for tool in conversation.tools), *calls.values()), MAX_NAME)
    body: dict[str, Any] = {}
    system = [text.text for text in conversation.system if text.text]
    contents: list[dict[str, Any]] = []
    strict = generation(target.model) >= (3, 0)
    for turn in conversation.turns:
        if turn.name is not None:
            drops.add("participant")
        if any(getattr(part, "cache", None) is not None for part in turn.parts):
            drops.add("cache_control")
        match turn.role:
            case "system":
                drops.add("system_position")
                system += [part.text for part in turn.parts if isinstance(part, Text) and part.text]
            case "assistant":
                _add(contents, "model", _write_model(turn, renamed, drops, strict=strict))
            case _:
                _write_user(turn, contents, calls, renamed, drops)
    if any(text.cache is not None for text in conversation.system):
        drops.add("cache_control")
    if not contents:
        if not system:
            raise drops.cannot("turns", "there is nothing to answer.")
        contents = [{"role": "user", "parts": [{"text": text} for text in system]}]
        system = []
    if contents[0]["role"] == "model":
        # Google wants the user to begin.
        contents.insert(0, {"role": "user", "parts": [{"text": "."}]})
    if system:
        body["systemInstruction"] = {"parts": [{"text": text} for text in system]}
    body["contents"] = contents
    _write_tools(conversation, body, renamed, drops)
    _write_config(conversation, body, target, drops)
    if conversation.family == FAMILY:
        _write_extra(conversation, body, drops)
    return Written(encode(body), drops.names(), {new: old for old, new in renamed.items()})


def _add(contents: list[dict[str, Any]], role: str, parts: list[dict[str, Any]]) -> None:
    """Add parts, to the content before where it is the same one's."""
    if not parts:
        return
    before = contents[-1] if contents else None
    if before is not None and before["role"] == role:
        results = "functionResponse" in before["parts"][-1]
        if results == ("functionResponse" in parts[0]):
            before["parts"] += parts
            return
    contents.append({"role": role, "parts": parts})


def _write_model(
    turn: Turn, renamed: Mapping[str, str], drops: Drops, *, strict: bool
) -> list[dict[str, Any]]:
    said: list[Any] = []
    for part in turn.parts:
        if isinstance(part, Reasoning):
            if part.maker == "google" and part.signature is not None:
                said.append(part)
            else:
                drops.add("reasoning")
        elif isinstance(part, Media | ToolResult):
            raise drops.cannot("turns", "an assistant's message cannot hold media here.")
        elif isinstance(part, ToolCall) or part.text:
            said.append(part)
    try:
        written = list(write_said(said, renamed, foreign=False))
    except BadAnswer as fault:
        raise drops.cannot("turns", f"{fault}.") from None
    calls = [part for part in written if "functionCall" in part]
    if strict and calls and "thoughtSignature" not in calls[0]:
        # Newer Geminis answer 400 to a call without one; this is what Google documents instead.
        calls[0]["thoughtSignature"] = NO_SIGNATURE
    return written


def _write_user(
    turn: Turn,
    contents: list[dict[str, Any]],
    calls: Mapping[str, str],
    renamed: Mapping[str, str],
    drops: Drops,
) -> None:
    results: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    for part in turn.parts:
        if isinstance(part, ToolResult):
            name = part.name or calls.get(part.id)
            if name is None:
                raise drops.cannot("turns", f"the result {part.id} belongs to no call.")
            texts = [inner.text for inner in part.content if isinstance(inner, Text)]
            key = "error" if part.failed else "output"
            response = {
                "id": part.id,
                "name": renamed.get(name, name),
                "response": {key: "\n".join(texts)},
            }
            results.append({"functionResponse": response})
            media = [inner for inner in part.content if isinstance(inner, Media)]
            if media:
                rest.append({"text": f"The result of the tool call {part.id}:"})
                rest += [_write_media(inner, drops) for inner in media]
        elif isinstance(part, Media):
            rest.append(_write_media(part, drops))
        elif isinstance(part, Text) and part.text:
            rest.append({"text": part.text})
    _add(contents, "user", results)
    _add(contents, "user", rest)


def _write_media(media: Media, drops: Drops) -> dict[str, Any]:
    if media.detail not in {None, "auto"}:
        drops.add("detail")
    if media.context is not None:
        drops.add("context")
    if media.text is not None:
        about = [line for line in (media.name, media.text) if line]
        return {"text": "\n".join(about)}
    if media.data is not None:
        kind = media.media_type or "application/octet-stream"
        return {"inlineData": {"mimeType": kind, "data": media.data}}
    uri = media.file_id or media.url or ""
    if not uri.startswith(_GOOGLES) and not _is_youtube(uri):
        raise drops.cannot("turns", "this model's vendor fetches nothing; send the data.")
    file = {"fileUri": uri}
    if media.media_type:
        file["mimeType"] = media.media_type
    return {"fileData": file}


def _is_youtube(uri: str) -> bool:
    return uri.startswith(("https://www.youtube.com/", "https://youtu.be/"))


def _write_tools(
    conversation: Conversation, body: dict[str, Any], renamed: Mapping[str, str], drops: Drops
) -> None:
    choice, tools = conversation.tool_choice, conversation.tools
    if choice is not None and choice.names and choice.mode != "required":
        # What may not be called is not offered: names are for calls that must be made.
        tools = tuple(tool for tool in tools if tool.name in choice.names)
        choice = ToolChoice(choice.mode)
    if not tools:
        return
    body["tools"] = [
        {"functionDeclarations": [_write_tool(tool, renamed, drops) for tool in tools]}
    ]
    if conversation.parallel_tool_calls is False:
        drops.add("parallel_tool_calls")
    if choice is not None:
        modes = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
        calling: dict[str, Any] = {"mode": modes[choice.mode]}
        if choice.names:
            calling["allowedFunctionNames"] = [renamed.get(name, name) for name in choice.names]
        body["toolConfig"] = {"functionCallingConfig": calling}


def _write_tool(tool: Tool, renamed: Mapping[str, str], drops: Drops) -> dict[str, Any]:
    if tool.custom:
        raise drops.cannot("tools", f"the tool {tool.name} takes free text; give it a schema.")
    if tool.cache is not None:
        drops.add("cache_control")
    if tool.strict:
        drops.add("tools[].strict")
    written: dict[str, Any] = {"name": renamed.get(tool.name, tool.name)}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.schema is not None:
        written["parametersJsonSchema"] = tool.schema
    return written


def _write_config(
    conversation: Conversation, body: dict[str, Any], target: Target, drops: Drops
) -> None:
    config: dict[str, Any] = {}
    sampling = conversation.sampling
    if sampling.logprobs and conversation.family != FAMILY:
        raise drops.cannot("logprobs", "log probabilities are not translated.")
    drops.add_sampling(sampling, *_UNKNOWN_SAMPLING)
    for name, word in _SAMPLING:
        value = getattr(sampling, name)
        if value is not None:
            config[word] = value
    cap = target.output_cap if target.output_cap is not None else conversation.max_tokens
    if cap is not None:
        config["maxOutputTokens"] = cap
    if conversation.stop:
        if len(conversation.stop) > MAX_STOPS:
            raise drops.cannot("stop", f"this model's vendor takes at most {MAX_STOPS}.")
        config["stopSequences"] = list(conversation.stop)
    if conversation.n > 1:
        config["candidateCount"] = conversation.n
    if conversation.output is not None:
        config["responseMimeType"] = "application/json"
        if conversation.output.schema is not None:
            config["responseJsonSchema"] = conversation.output.schema
    if conversation.thinking is not None:
        _write_thinking(conversation.thinking, config, target.model, drops)
    if config:
        body["generationConfig"] = config
    if conversation.user is not None:
        drops.add("user")
    if conversation.verbosity is not None:
        drops.add("verbosity")
    tier = conversation.service_tier
    if tier is not None:
        if tier not in _TIERS:
            drops.add("service_tier")
        elif _TIERS[tier] is not None:
            body["serviceTier"] = _TIERS[tier]


def _write_thinking(thinking: Thinking, config: dict[str, Any], model: str, drops: Drops) -> None:
    said = thinking_config(thinking, model)
    # Older models do not think, and most newer ones do, be it little.
    if not thinking.off if said is None else thinking.off and said != {"thinkingBudget": 0}:
        drops.add("thinking")
    if said is not None:
        config["thinkingConfig"] = said


def thinking_config(thinking: Thinking, model: str) -> dict[str, Any] | None:
    """Return how a model is told how much to think, None when it does not."""
    version, pro = generation(model), "pro" in model
    if version < (2, 5):
        return None
    said: dict[str, Any] = {}
    word, budget = effort.effort_of(thinking), effort.budget_of(thinking)
    if version >= (3, 0):
        if thinking.off:
            said["thinkingLevel"] = "LOW" if pro else "MINIMAL"
        elif word is not None:
            known = effort.nearest(word, _LEVELS[1:] if pro else _LEVELS)
            said["thinkingLevel"] = known.upper()
    elif thinking.off:
        said["thinkingBudget"] = 128 if pro else 0
    elif budget is not None:
        said["thinkingBudget"] = min(max(budget, 128), 32768 if pro else 24576)
    if not thinking.off:
        said["includeThoughts"] = thinking.shown is not False
    return said


def _write_extra(conversation: Conversation, body: dict[str, Any], drops: Drops) -> None:
    """Write again what only Google knows, where it stood."""
    for path, value in conversation.extra.items():
        head, _, name = path.rpartition(".")
        if head == "" and "[" not in path:
            body[path] = value
        elif head == "generationConfig":
            body.setdefault("generationConfig", {})[name] = value
        else:
            drops.add(path)
    if conversation.metadata is not None:
        body["labels"] = conversation.metadata
