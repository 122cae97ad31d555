// What every client asks for in the same words, and how its script tells what it was given; `story.py` for Node.
export const URL = process.env.PENSTOCK_URL;
export const KEY = process.env.PENSTOCK_KEY;
export const MODELS = process.env.PENSTOCK_MODELS.split(",");

export const HELLO = "Say hello.";
export const WEATHER = "What is the weather in Oslo, and what in Reykjavik?";
export const REPORT = "rain, 4 degrees";
export const JOURNEY = "Plan a journey.";
export const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
export const PLAN = {
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer" } },
  required: ["city", "days"],
  additionalProperties: false,
};

// The name of what a call throws.
export async function raised(ask) {
  try {
    await ask();
  } catch (error) {
    return error.constructor.name;
  }
  return "nothing";
}

// Everything that a stream brings.
export async function gathered(stream) {
  const all = [];
  for await (const one of stream) all.push(one);
  return all;
}

export const tell = (told) => console.log(JSON.stringify(told));
