// List accounts, list keys, create and delete a deployment.

import { env, management, report } from "./session.mjs";

const client = management();
const where = [env.STOCKADE_RESOURCE_GROUP, env.TEST_ACCOUNT];
const accounts = [];
for await (const account of client.accounts.list()) accounts.push(account.name);
const keys = await client.accounts.listKeys(...where);
const made = await client.deployments.beginCreateOrUpdateAndWait(...where, "from-node", {
  sku: { name: "Standard", capacity: 1 },
  properties: { model: { format: "OpenAI", name: "all-minilm-l6-v2", version: "1" } },
});
await client.deployments.beginDeleteAndWait(...where, "from-node");
const left = [];
for await (const deployment of client.deployments.list(...where)) left.push(deployment.name);
let refusal;
try {
  await client.accounts.get(env.STOCKADE_RESOURCE_GROUP, "nothing-here");
} catch (error) {
  refusal = { status: error.statusCode, code: error.code };
}
report({ accounts, keys, deployment: made.properties.provisioningState, left, refusal });
