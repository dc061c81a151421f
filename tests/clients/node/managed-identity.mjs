// Get a token from the metadata endpoint, which this client asks with a slash at the end, and use it.

import { ManagedIdentityCredential, getBearerTokenProvider } from "@azure/identity";
import { AzureOpenAI } from "openai";

import { AI_SCOPE, API_VERSION, env, report } from "./session.mjs";

const azureADTokenProvider = getBearerTokenProvider(new ManagedIdentityCredential(), AI_SCOPE);
const client = new AzureOpenAI({ endpoint: env.TEST_ENDPOINT, azureADTokenProvider, apiVersion: API_VERSION, maxRetries: 0 });
try {
  const models = [];
  for await (const model of client.models.list()) models.push(model.id);
  report({ models });
} catch (error) {
  report({ status: error.status, code: error.code });
}
