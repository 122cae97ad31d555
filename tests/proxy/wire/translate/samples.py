"""What conversations and answers can hold, as values and as Hypothesis strategies."""

import msgspec
from hypothesis import strategies as st

from proxy.wire.translate.core import (
    Answer,
    Choice,
    Conversation,
    Media,
    OutputFormat,
    Reasoning,
    Reply,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    Usage,
)

REPLY = Reply(id="0123abcd", model="asked", created_s=1_700_000_000)
PIXEL = "iVBORw0KGgo="

WEATHER = Tool(
    "weather",
    "Say the weather.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)

FULL = Conversation(
    model="asked",
    system=(Text("Be brief."),),
    turns=(
        Turn("user", (Text("What is this?"), Media("image", "image/png", data=PIXEL))),
        Turn(
            "assistant",
            (
                Text("Let me see."),
                ToolCall("call_1", "weather", '{"city":"Paris"}'),
                ToolCall("call_2", "weather", '{"city":"Köln"}'),
            ),
        ),
        Turn("user", (ToolResult("call_1", (Text("mild"),)),)),
        Turn("user", (ToolResult("call_2", (Text("wet"),)),)),
        Turn("user", (Text("And?"),)),
    ),
    tools=(WEATHER,),
    tool_choice=ToolChoice("auto"),
    max_tokens=300,
    stop=("END",),
    stream=True,
    family="none",
)

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20)
PLAIN = st.text('abcdefghij XYZ-é你😀"\\\n', min_size=1, max_size=30).filter(
    lambda text: bool(text.strip())
)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=20)
IDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=4, max_size=24)
ARGUMENTS = st.sampled_from(
    ["{}", '{"city":"Paris"}', '{"a":[1,2.5,null,true],"b":{"c":"\\u00e9 \\"x\\""}}']
)
CALLS = st.builds(ToolCall, IDS, NAMES, ARGUMENTS)
USAGES = st.builds(
    lambda new, cached, written, output, thought: Usage(
        input_tokens=new + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output + thought,
        reasoning_tokens=thought,
    ),
    *[st.integers(0, 9999)] * 5,
)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Draw an answer: signed reasoning, text, calls, in the order that models have them."""
    parts: list[Reasoning | Text | ToolCall] = []
    if draw(st.booleans()):
        signature = draw(st.none() | st.just("c2lnbmF0dXJl"))
        parts.append(Reasoning(draw(PLAIN), signature, maker="anthropic" if signature else ""))
    if draw(st.booleans()):
        parts.append(Text(draw(PLAIN)))
    calls = draw(st.lists(CALLS, max_size=3, unique_by=lambda call: call.id))
    parts += calls
    if calls:
        stop = "tool_calls"
    else:
        parts = parts or [Text("yes")]
        stop = draw(st.sampled_from(["end", "length"]))
    return Answer((Choice(tuple(parts), stop),), "up-1", "served", draw(st.none() | USAGES))


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Draw a conversation that every protocol can say."""
    turns = []
    for _ in range(draw(st.integers(1, 3))):
        content: list[Text | Media] = [Text(draw(PLAIN))]
        if draw(st.booleans()):
            content.append(Media("image", "image/png", data=PIXEL))
        turns.append(Turn("user", tuple(content)))
        calls = draw(st.lists(CALLS, max_size=2, unique_by=lambda call: call.id))
        said = (Text(draw(PLAIN).rstrip()),) if draw(st.booleans()) or not calls else ()
        turns.append(Turn("assistant", (*said, *calls)))
        if calls:
            turns += [
                Turn("user", (ToolResult(call.id, (Text(draw(PLAIN)),), call.name),))
                for call in calls
            ]
            turns.append(Turn("assistant", (Text(draw(PLAIN).rstrip()),)))
    turns.append(Turn("user", (Text(draw(PLAIN)),)))
    tools = draw(st.lists(NAMES, max_size=2, unique=True))
    choice = draw(
        st.sampled_from([None, ToolChoice("auto"), ToolChoice("none"), ToolChoice("required")])
    )
    return Conversation(
        model="asked",
        system=(Text(draw(PLAIN)),) if draw(st.booleans()) else (),
        turns=tuple(turns),
        tools=tuple(
            Tool(name, draw(st.none() | PLAIN), {"type": "object", "properties": {}})
            for name in tools
        ),
        tool_choice=choice if tools else None,
        sampling=Sampling(temperature=draw(st.sampled_from([None, 0.0, 0.5, 1.0]))),
        output=draw(
            st.none() | st.just(OutputFormat("json_schema", {"type": "object"}, name="answer"))
        ),
        thinking=draw(st.none() | st.just(Thinking("high"))) if not tools else None,
        max_tokens=draw(st.none() | st.integers(20000, 30000)),
        stop=tuple(draw(st.lists(st.sampled_from(["END", "###"]), max_size=2, unique=True))),
        stream=draw(st.booleans()),
        user=draw(st.none() | NAMES),
        family="none",
    )


def _plain(part: object) -> object:
    if isinstance(part, ToolResult):
        return ("result", part.id, part.content, part.failed)
    if isinstance(part, ToolCall):
        return ("call", part.id, part.name, msgspec.json.decode(part.arguments))
    return part


def meaning(conversation: Conversation) -> dict[str, object]:
    """Say what a conversation asks, whatever its messages are cut into and whoever wrote it."""
    turns: list[list[object]] = []
    for turn in conversation.turns:
        parts = [_plain(part) for part in turn.parts]
        if turns and turns[-1][0] == turn.role:
            turns[-1] += parts
        else:
            turns.append([turn.role, *parts])
    return {
        "turns": turns,
        "system": "\n".join(text.text for text in conversation.system),
        "tools": conversation.tools,
        "tool_choice": conversation.tool_choice,
        "output": conversation.output and conversation.output.schema,
        "max_tokens": conversation.max_tokens,
        "stop": conversation.stop,
        "stream": conversation.stream,
    }
