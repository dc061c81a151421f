// Asks the browser for a passkey's signature, or for a new passkey, puts the answer into the form and sends it. Everything else works without.
"use strict";

const bytes = (text) => {
  const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(plain, (one) => one.charCodeAt(0));
};

const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

const credentials = (place) =>
  place.dataset.credentials.split(",").filter(Boolean).map((id) => ({ type: "public-key", id: bytes(id) }));

async function sign(place) {
  const found = await navigator.credentials.get({
    publicKey: {
      challenge: bytes(place.dataset.challenge),
      rpId: place.dataset.relyingParty,
      allowCredentials: credentials(place),
      userVerification: "required",
      timeout: 120000,
    },
  });
  return ["assertion", {
    id: text(found.rawId),
    response: {
      authenticatorData: text(found.response.authenticatorData),
      clientDataJSON: text(found.response.clientDataJSON),
      signature: text(found.response.signature),
    },
  }];
}

async function register(place) {
  const name = place.dataset.userName;
  const found = await navigator.credentials.create({
    publicKey: {
      challenge: bytes(place.dataset.challenge),
      rp: { id: place.dataset.relyingParty, name: "Stockade" },
      user: { id: bytes(place.dataset.user), name, displayName: name },
      pubKeyCredParams: place.dataset.algorithms.split(",").map((alg) => ({ type: "public-key", alg: Number(alg) })),
      excludeCredentials: credentials(place),
      authenticatorSelection: { residentKey: "preferred", userVerification: "required" },
      attestation: "none",
      timeout: 120000,
    },
  });
  return ["credential", {
    id: found.id,
    rawId: text(found.rawId),
    type: found.type,
    response: {
      attestationObject: text(found.response.attestationObject),
      clientDataJSON: text(found.response.clientDataJSON),
    },
  }];
}

const why = {
  NotAllowedError: "Nothing was signed: it was cancelled, took too long, or this device has none of the passkeys.",
  InvalidStateError: "This device has a passkey for this account already.",
  SecurityError: "Passkeys do not work at this address. Open the console by its name; a number such as 127.0.0.1 is none.",
};

for (const place of document.querySelectorAll("[data-passkey]")) {
  const button = place.querySelector("button");
  const says = place.querySelector("[data-says]");
  if (!window.isSecureContext || !window.PublicKeyCredential) {
    says.textContent = why.SecurityError;
    continue;
  }
  button.hidden = false;
  says.textContent = "";
  button.addEventListener("click", async () => {
    button.disabled = true;
    says.textContent = "Waiting for your passkey…";
    try {
      const [field, answer] = await (place.dataset.passkey === "sign" ? sign : register)(place);
      const form = place.closest("form");
      form.elements[field].value = JSON.stringify(answer);
      says.textContent = "";
      form.requestSubmit();
    } catch (problem) {
      says.textContent = why[problem.name] || "The browser could not use a passkey here.";
    } finally {
      button.disabled = false;
    }
  });
}
