// aimock as the vendor of the tests of clients: OpenAI, Anthropic, Gemini, Bedrock and Cohere on one port.
//
// Takes a port and a file of fixtures; prints its URL when it listens, and serves until it is ended.
import { LLMock } from "@copilotkit/aimock";

const [port, fixtures] = process.argv.slice(2);
const mock = new LLMock({ port: Number(port), host: "127.0.0.1", strict: true, logLevel: "warn" });
mock.loadFixtureFile(fixtures);
mock.onRerank(/gate/, [
  { index: 1, relevance_score: 0.75 },
  { index: 0, relevance_score: 0.25 },
]);
console.log(await mock.start());
