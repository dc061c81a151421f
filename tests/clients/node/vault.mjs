// Make, use, delete and recover a key on the default vault.

import { CryptographyClient, KeyClient } from "@azure/keyvault-keys";
import { credential, env, report } from "./session.mjs";

const options = { disableChallengeResourceVerification: true };
const keys = new KeyClient(env.STOCKADE_ARM, credential(), options);
const name = env.TEST_KEY;
const made = await keys.createRsaKey(name, { keySize: 2048 });
const uses = new CryptographyClient(made.id, credential(), options);
const wrapped = await uses.wrapKey("RSA-OAEP-256", Buffer.from("0123456789abcdef"));
const unwrapped = await uses.unwrapKey("RSA-OAEP-256", wrapped.result);
const digest = new Uint8Array(32).fill(1);
const signed = await uses.sign("PS256", digest);
const verified = await uses.verify("PS256", digest, signed.result);
await keys.updateKeyProperties(name, made.properties.version, { tags: { from: "node" } });
const deleting = await keys.beginDeleteKey(name, { intervalInMs: 50 });
await deleting.pollUntilDone();
const recovering = await keys.beginRecoverDeletedKey(name, { intervalInMs: 50 });
await recovering.pollUntilDone();
const again = await keys.getKey(name);
report({
  id: made.id,
  unwrapped: Buffer.from(unwrapped.result).toString(),
  verified: verified.result,
  tags: again.properties.tags,
});
