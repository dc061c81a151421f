// What every script here starts with: the environment of `stockade env`, and the answers it reports to the test as one line of JSON.

import { ClientSecretCredential } from "@azure/identity";
import { CognitiveServicesManagementClient } from "@azure/arm-cognitiveservices";

export const { env } = process;
export const AI_SCOPE = "https://cognitiveservices.azure.com/.default";
export const API_VERSION = "2024-10-21";

export function credential(clientId = env.AZURE_CLIENT_ID, secret = env.AZURE_CLIENT_SECRET) {
  return new ClientSecretCredential(env.AZURE_TENANT_ID, clientId, secret, {
    authorityHost: env.AZURE_AUTHORITY_HOST,
    disableInstanceDiscovery: true,
  });
}

export function management() {
  return new CognitiveServicesManagementClient(credential(), env.STOCKADE_SUBSCRIPTION, { endpoint: env.STOCKADE_ARM });
}

export function report(answers) {
  console.log(JSON.stringify(answers));
}
