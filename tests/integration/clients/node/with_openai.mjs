// OpenAI's client for Node: Chat Completions and Responses.
//
// Takes PENSTOCK_URL, PENSTOCK_KEY and PENSTOCK_MODELS from the environment; gives one document on the last line.
import OpenAI from "openai";
import { CITY, HELLO, JOURNEY, KEY, MODELS, PLAN, REPORT, URL, WEATHER, gathered, raised, tell } from "./story.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0 });
const TOOL = { type: "function", function: { name: "get_weather", parameters: CITY } };
const FLAT_TOOL = { type: "function", name: "get_weather", parameters: CITY, strict: false };
const call = (one) => [one.name, JSON.parse(one.arguments)];

async function byChat(model) {
  const ask = (content, more = {}) =>
    client.chat.completions.create({ model, messages: [{ role: "user", content }], ...more });
  const whole = await ask(HELLO);
  const chunks = await gathered(await ask(HELLO, { stream: true, stream_options: { include_usage: true } }));
  const said = chunks.filter((chunk) => chunk.choices.length).map((chunk) => chunk.choices[0].delta.content ?? "");
  const { message } = (await ask(WEATHER, { tools: [TOOL] })).choices[0];
  const streamed = await client.chat.completions
    .stream({ model, messages: [{ role: "user", content: WEATHER }], tools: [TOOL] })
    .finalMessage();
  const results = message.tool_calls.map((one) => ({ role: "tool", tool_call_id: one.id, content: REPORT }));
  const asked = [{ role: "user", content: WEATHER }, message, ...results];
  const answered = await client.chat.completions.create({ model, messages: asked, tools: [TOOL] });
  const schema = { name: "Journey", schema: PLAN, strict: true };
  const planned = await ask(JOURNEY, { response_format: { type: "json_schema", json_schema: schema } });
  const last = chunks.at(-1).usage;
  return {
    said: whole.choices[0].message.content,
    usage: [whole.usage.prompt_tokens, whole.usage.completion_tokens],
    streamed: said.join(""),
    "in pieces": said.length > 3,
    "stream's usage": [last.prompt_tokens, last.completion_tokens],
    calls: message.tool_calls.map((one) => call(one.function)),
    "streamed calls": streamed.tool_calls.map((one) => call(one.function)),
    answered: answered.choices[0].message.content,
    planned: JSON.parse(planned.choices[0].message.content),
    down: await raised(() => ask(HELLO, { model: `${model}-down` })),
    cut: await raised(async () => gathered(await ask(HELLO, { model: `${model}-cut`, stream: true }))),
    missing: await raised(() => ask(HELLO, { model: "nobody" })),
  };
}

async function byResponses(model) {
  const ask = (input, more = {}) => client.responses.create({ model, input, ...more });
  const whole = await ask(HELLO);
  const events = await gathered(await ask(HELLO, { stream: true }));
  const said = events.filter((one) => one.type === "response.output_text.delta").map((one) => one.delta);
  const ended = events.at(-1).response;
  const called = await ask(WEATHER, { tools: [FLAT_TOOL] });
  const calls = called.output.filter((one) => one.type === "function_call");
  const streamed = await client.responses
    .stream({ model, input: WEATHER, tools: [FLAT_TOOL] })
    .finalResponse();
  const results = calls.map((one) => ({ type: "function_call_output", call_id: one.call_id, output: REPORT }));
  const answered = await ask([{ role: "user", content: WEATHER }, ...called.output, ...results], { tools: [FLAT_TOOL] });
  const format = { type: "json_schema", name: "Journey", schema: PLAN, strict: true };
  const planned = await ask(JOURNEY, { text: { format } });
  return {
    said: whole.output_text,
    usage: [whole.usage.input_tokens, whole.usage.output_tokens],
    streamed: said.join(""),
    "in pieces": said.length > 3,
    "stream's usage": [ended.usage.input_tokens, ended.usage.output_tokens],
    calls: calls.map(call),
    "streamed calls": streamed.output.filter((one) => one.type === "function_call").map(call),
    answered: answered.output_text,
    planned: JSON.parse(planned.output_text),
    down: await raised(() => ask(HELLO, { model: `${model}-down` })),
    cut: await raised(async () => gathered(await ask(HELLO, { model: `${model}-cut`, stream: true }))),
    missing: await raised(() => ask(HELLO, { model: "nobody" })),
  };
}

const told = {};
for (const model of MODELS) {
  told[`chat, ${model}`] = await byChat(model);
  told[`responses, ${model}`] = await byResponses(model);
}
tell(told);
