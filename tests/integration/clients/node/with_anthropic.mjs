// Anthropic's client for Node.
//
// Takes PENSTOCK_URL, PENSTOCK_KEY and PENSTOCK_MODELS from the environment; gives one document on the last line.
import Anthropic from "@anthropic-ai/sdk";
import { CITY, HELLO, JOURNEY, KEY, MODELS, PLAN, REPORT, URL, WEATHER, gathered, raised, tell } from "./story.mjs";

const client = new Anthropic({ baseURL: URL, apiKey: KEY, maxRetries: 0 });
const TOOL = { name: "get_weather", input_schema: CITY };
const calls = (message) => message.content.filter((one) => one.type === "tool_use").map((one) => [one.name, one.input]);

async function story(model) {
  const said = (content, more = {}) => ({ model, max_tokens: 500, messages: [{ role: "user", content }], ...more });
  const whole = await client.messages.create(said(HELLO));
  const pieces = [];
  const ended = await client.messages
    .stream(said(HELLO))
    .on("text", (piece) => pieces.push(piece))
    .finalMessage();
  const called = await client.messages.create(said(WEATHER, { tools: [TOOL] }));
  const streamed = await client.messages.stream(said(WEATHER, { tools: [TOOL] })).finalMessage();
  const results = called.content
    .filter((one) => one.type === "tool_use")
    .map((one) => ({ type: "tool_result", tool_use_id: one.id, content: REPORT }));
  const messages = [
    { role: "user", content: WEATHER },
    { role: "assistant", content: called.content },
    { role: "user", content: results },
  ];
  const answered = await client.messages.create(said(WEATHER, { tools: [TOOL], messages }));
  const format = { type: "json_schema", schema: PLAN };
  const planned = await client.messages.create(said(JOURNEY, { output_config: { format } }));
  return {
    said: whole.content[0].text,
    usage: [whole.usage.input_tokens, whole.usage.output_tokens],
    streamed: pieces.join(""),
    "in pieces": pieces.length > 3,
    "stream's usage": [ended.usage.input_tokens, ended.usage.output_tokens],
    calls: calls(called),
    "streamed calls": calls(streamed),
    answered: answered.content[0].text,
    planned: JSON.parse(planned.content[0].text),
    down: await raised(() => client.messages.create(said(HELLO, { model: `${model}-down` }))),
    cut: await raised(async () => gathered(await client.messages.create(said(HELLO, { model: `${model}-cut`, stream: true })))),
    missing: await raised(() => client.messages.create(said(HELLO, { model: "nobody" }))),
  };
}

const told = {};
for (const model of MODELS) told[model] = await story(model);
tell(told);
