// Signing in with a wallet: EIP-1193 for the wallet, EIP-4361 for what it signs.

import { addressBytes, toAddress } from "./verify/addresses.js";

const place = document.getElementById("sign-in");
const button = /** @type {HTMLButtonElement} */ (document.getElementById("begin"));
const told = document.getElementById("told");

/** Tell the reader where it stands; screen readers hear it too. */
function tell(/** @type {string} */ text) {
  told.textContent = text;
}

/** Send JSON and return the answer, or fail with the server's own words. */
async function post(/** @type {string} */ path, /** @type {object} */ body) {
  const answer = await fetch(path, {
    method: "POST",
    credentials: "same-origin",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const content = await answer.json();
  if (!answer.ok) throw new Error(`${content.title}. ${content.detail}`);
  return content;
}

/** Write the message of EIP-4361 for the server's offer. */
function messageFor(/** @type {any} */ offer, /** @type {string} */ address) {
  return [
    `${offer.domain} wants you to sign in with your Ethereum account:`,
    address,
    "",
    "Sign in to FedWitness.",
    "",
    `URI: ${offer.uri}`,
    "Version: 1",
    `Chain ID: ${offer.chain_id}`,
    `Nonce: ${offer.nonce}`,
    `Issued At: ${new Date().toISOString()}`,
  ].join("\n");
}

/** Write text as the hex that `personal_sign` takes. */
function hexOf(/** @type {string} */ text) {
  const bytes = new TextEncoder().encode(text);
  return `0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** Sign in, and go on to where the reader came from. */
async function signIn(/** @type {any} */ wallet) {
  tell("Your wallet asks which account to use.");
  const [account] = await wallet.request({ method: "eth_requestAccounts" });
  // Wallets differ in the case of the letters; the server takes EIP-55 alone.
  const address = toAddress(addressBytes(account));
  const offer = await post("/v1/auth/nonce", { address });
  const message = messageFor(offer, address);
  tell("Your wallet asks you to sign the message.");
  const signature = await wallet.request({ method: "personal_sign", params: [hexOf(message), address] });
  tell("Signed. The server checks the signature.");
  await post("/v1/auth/session", { message, signature, cookie: true });
  tell("You are signed in.");
  location.assign(place.dataset.next || "/");
}

button.hidden = false;
tell("");
button.addEventListener("click", async () => {
  const wallet = globalThis.ethereum;
  if (!wallet) {
    tell("No wallet answers in this browser. Install one (any that follows EIP-1193), or use the command line.");
    return;
  }
  button.disabled = true;
  try {
    await signIn(wallet);
  } catch (error) {
    tell(`Not signed in: ${error?.message ?? "the wallet refused"}`);
    button.disabled = false;
  }
});
