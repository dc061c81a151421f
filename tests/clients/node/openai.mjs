// Ask models with a key and with a token, whole and streamed, by Azure's client and by OpenAI's own; be refused.

import OpenAI, { AzureOpenAI } from "openai";
import { getBearerTokenProvider } from "@azure/identity";

import { AI_SCOPE, API_VERSION, credential, env, report } from "./session.mjs";

const bounds = { maxRetries: 0, timeout: 60_000 };
const endpoint = env.TEST_ENDPOINT;
const azureADTokenProvider = getBearerTokenProvider(credential(env.TEST_CLIENT_ID, env.TEST_CLIENT_SECRET), AI_SCOPE);
const clients = {
  "azure, key": new AzureOpenAI({ endpoint, apiKey: env.TEST_KEY, apiVersion: API_VERSION, ...bounds }),
  "azure, token": new AzureOpenAI({ endpoint, azureADTokenProvider, apiVersion: API_VERSION, ...bounds }),
  "own, key": new OpenAI({ baseURL: `${endpoint}openai/v1/`, apiKey: env.TEST_KEY, ...bounds }),
  "own, token": new OpenAI({ baseURL: `${endpoint}openai/v1/`, apiKey: azureADTokenProvider, ...bounds }),
};
const asked = { model: "chat", messages: [{ role: "user", content: "Say hello." }], max_tokens: 8, temperature: 0, seed: 7 };

async function converse(client) {
  const whole = await client.chat.completions.create(asked);
  const pieces = [];
  let usage;
  const stream = await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) {
    pieces.push(chunk.choices[0]?.delta.content ?? "");
    usage = chunk.usage ?? usage;
  }
  const embedded = await client.embeddings.create({ model: "embed", input: "a cat" });
  const models = [];
  for await (const model of client.models.list()) models.push(model.id);
  return {
    whole: whole.choices[0].message.content,
    pieces,
    tokens: usage.completion_tokens,
    vector: embedded.data[0].embedding.length,
    models,
  };
}

async function refused(call) {
  try {
    await call();
  } catch (error) {
    return { class: error.constructor.name, status: error.status, code: error.code };
  }
  return null;
}

const answers = {};
for (const [name, client] of Object.entries(clients)) answers[name] = await converse(client);
const stranger = new AzureOpenAI({ endpoint, apiKey: "0".repeat(32), apiVersion: API_VERSION, ...bounds });
answers["wrong key"] = await refused(() => stranger.models.list());
answers["no deployment"] = await refused(() => clients["azure, key"].chat.completions.create({ ...asked, model: "nowhere" }));
report(answers);
