// The page that verifies: asks for the bundle, hands it to a worker, and says what came of it.
import { TITLES } from "./checks.js";
import { readKnown, readModel, remember, remembered } from "./known.js";
import { blobCid } from "./models.js";
import { checkItem, codes, element, facts, notice, stateOf } from "./show.js";

const MAX_BUNDLE = 1024 * 1024 * 1024;
const MAX_PROOF = 16_384;

const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const fields = {
  chainId: at("known-chain"),
  ledger: at("known-ledger"),
  witnesses: at("known-witnesses"),
};

// One worker for the page's life; what it is asked is answered in order.
const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
const waiting = new Map();
let asked = 0;
let heard = () => {};
/** @type {any} */
let report = null;

worker.addEventListener("message", ({ data }) => {
  if (data.ready) return showReady();
  if (data.progress) return heard(data.progress);
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  return data.error === undefined ? resolve(data.answer) : reject(new Error(data.error));
});
worker.addEventListener("error", (event) => {
  for (const { reject } of waiting.values())
    reject(new Error(event.message || "the worker failed"));
  waiting.clear();
});

function ask(question, transferred = []) {
  asked += 1;
  const id = asked;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ ...question, id }, transferred);
  });
}

/** Say where it stands. What also stands elsewhere on the page is for screen readers alone. */
function tell(text, isShown = true) {
  at("state").textContent = text;
  at("state").classList.toggle("visually-hidden", !isShown);
}

// What the reader knows

const typed = () =>
  Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value]));

for (const [name, value] of Object.entries(remembered())) {
  // Whoever is quicker than this script has typed already.
  if (fields[name].value === "") fields[name].value = value;
}
for (const field of Object.values(fields)) {
  field.addEventListener("change", () => {
    at("known-kept").textContent = remember(typed()) ? "Remembered in this browser." : "";
    checkKnown();
  });
}

/** Read what was typed; a fault is told beside the fields, and null returned. */
function checkKnown() {
  try {
    const known = readKnown(typed());
    at("known-fault").textContent = "";
    return known;
  } catch (error) {
    at("known-fault").textContent = error.message;
    return null;
  }
}

/** Begin with what the reader knows; where that cannot be read, nothing begins. */
async function begin(run) {
  const known = checkKnown();
  if (known !== null) {
    showWaiting();
    return attempt("verdict", () => run(known));
  }
  tell("Not begun: what you typed about the ledger cannot be read.");
  fields.witnesses.focus();
}

// The bundle

async function verify(known, file, model) {
  const isLarge = file.size > MAX_BUNDLE;
  if (isLarge) throw new Error(`the file is too large for a browser: ${file.size} bytes`);
  const bytes = await file.arrayBuffer();
  heard = showStep;
  report = await ask({ kind: "bundle", file: bytes, known: { ...known, model } }, [bytes]);
  showReport();
}

function showWaiting() {
  report = null;
  at("result").hidden = false;
  at("after").hidden = true;
  at("verdict").replaceChildren();
  at("trust").replaceChildren();
  at("rounds").replaceChildren();
  at("model-result").replaceChildren();
  at("image-result").replaceChildren();
  const checks = [...TITLES].map(([number, title]) => checkItem({ number, title }, "waiting"));
  at("checks").replaceChildren(...checks);
}

function showStep({ step, done, total }) {
  const item = at("checks").querySelector(`[data-step="${step}"]`);
  const part = total > 1 ? `${done} of ${total}` : "";
  item?.replaceWith(checkItem({ number: step, title: TITLES.get(step), told: part }, "running"));
}

function showReport() {
  at("checks").replaceChildren(...report.checks.map((check) => checkItem(check, stateOf(check))));
  const kind = !report.ok ? "bad" : report.trust.anchored ? "good" : "warn";
  const [head, text] = verdictOf(kind);
  at("verdict").replaceChildren(notice(kind, head, text));
  tell(`${head} ${text}`, false);
  if (report.trust) showTrust(report.trust);
  if (report.ok) showRounds();
  at("after").hidden = !report.ok;
  at("result-head").focus();
}

function verdictOf(kind) {
  if (kind === "bad") {
    const failed = report.checks.filter(({ ok }) => ok === false);
    const steps = failed.map(({ number, title }) => `step ${number} (${title})`).join(", ");
    return ["Not verified.", `It failed at ${steps}. Do not rely on what this server says of it.`];
  }
  const { digest, round, task } = report.model;
  const whole = `Model 0x${digest} is the final model of round ${round} of ${task}, and all that the ledger says of its ${report.rounds.length} rounds holds together.`;
  if (kind === "good") {
    return ["Verified.", `${whole} The witnesses that you named signed for it.`];
  }
  return [
    "Consistent, but not anchored.",
    `${whole} You named no witness, though: anyone can make up a ledger that holds together. Compare the witnesses below with those that your federation told you, and type them above.`,
  ];
}

function showTrust(trust) {
  const named = trust.knownWitnesses.length > 0;
  const remembering = element(
    "button",
    { type: "button", class: "button quiet" },
    "I have compared them: remember ledger and witnesses",
  );
  remembering.addEventListener("click", () => {
    fields.chainId.value = trust.chainId;
    fields.ledger.value = trust.ledger;
    fields.witnesses.value = trust.signers.join("\n");
    at("known-kept").textContent = remember(typed()) ? "Remembered in this browser." : "";
    tell("Remembered. Verify again to hold the bundle against them.");
    fields.ledger.focus();
  });
  at("trust").replaceChildren(
    element("h3", {}, "Whose word this rests on"),
    element(
      "p",
      {},
      report.ok
        ? `If these witnesses are honest, nothing in the ledger up to block ${trust.block} was changed, added or left out.`
        : "What the bundle says of itself; the steps that failed do not bear it out.",
    ),
    facts([
      ["chain", `${trust.chainId}`],
      ["ledger", `${trust.ledger}${trust.knownLedger ? " – the one that you named" : ""}`],
      ["signed head", `block ${trust.block}, hash 0x${trust.blockHash}, ${trust.blocks} blocks`],
      ["history", `0x${trust.history}`],
      ["signed by", codes(trust.signers)],
      ["needed", `${trust.quorum ?? "unknown"} of the witnesses of round ${trust.round}`],
      ["its witnesses", codes(trust.witnesses)],
      ["named by you", codes(trust.knownWitnesses)],
    ]),
    ...(report.ok && !named ? [remembering] : []),
  );
}

function showRounds() {
  const head = element(
    "tr",
    {},
    ...["Round", "Phase", "Records", "Kept", "Model"].map((name) =>
      element("th", { scope: "col" }, name),
    ),
  );
  const rows = report.rounds.map((round) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, `${round.number}`),
      element("td", {}, round.phase.toLowerCase()),
      element("td", {}, `${round.records}`),
      element("td", {}, `${round.kept}`),
      element("td", {}, element("code", {}, round.model === null ? "none" : `0x${round.model}`)),
    ),
  );
  const table = element(
    "table",
    {},
    element("caption", {}, `Rounds of ${report.model.task} that were checked`),
    element("thead", {}, head),
    element("tbody", {}, ...rows),
  );
  at("rounds").replaceChildren(
    element(
      "div",
      {
        class: "table-scroll",
        tabindex: "0",
        role: "region",
        "aria-label": "Rounds that were checked",
      },
      table,
    ),
  );
}

/** Run what a control asks for; where it fails, say so in its place. */
async function attempt(place, run) {
  try {
    await run();
  } catch (error) {
    tell(`Stopped: ${error.message}`, false);
    at(place).replaceChildren(notice("bad", "Stopped.", error.message));
  }
}

async function fetched(path, what) {
  tell(`Fetching ${what} from this server.`);
  const answer = await fetch(path, { credentials: "same-origin" });
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    const told = problem.detail ?? problem.title ?? "";
    throw new Error(`this server does not hand out the ${what} (${answer.status}). ${told}`);
  }
  return answer.blob();
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  begin(async (known) => {
    const model = readModel(at("model").value);
    const file = await fetched(`/v1/models/0x${model}/bundle`, "bundle of this model");
    tell("Fetched. Verifying it here.");
    await verify(known, file, model);
  });
});

takeFiles("bundle-drop", "bundle-file", "verdict", (file) =>
  begin((known) => {
    tell(`Verifying ${file.name} here. Nobody is asked.`);
    return verify(known, file, undefined);
  }),
);

// The model's file

async function verifyModel(file) {
  heard = ({ bytes, of }) => tell(`Hashing the model: ${bytes} of ${of} bytes.`);
  const checks = await ask({ kind: "model", file });
  const ok = checks.every((check) => check.ok);
  const text = ok
    ? "This file is the model that the ledger names: its digest and its CID are those that the witnesses signed."
    : "This file is not the model that the ledger names.";
  const list = element(
    "ul",
    { class: "checks" },
    ...checks.map((check) => checkItem(check, stateOf(check))),
  );
  at("model-result").replaceChildren(notice(ok ? "good" : "bad", text), list);
  tell(text, false);
}

at("model-fetch").addEventListener("click", () =>
  attempt("model-result", async () => {
    const digits = report.model.blob.match(/../g);
    const cid = blobCid(Uint8Array.from(digits, (pair) => parseInt(pair, 16)));
    await verifyModel(await fetched(`/v1/blobs/${cid}`, "model"));
  }),
);
takeFiles("model-drop", "model-file", "model-result", verifyModel);

// An image's proof

async function verifyImage(text) {
  const answer = await ask({ kind: "image", text });
  const items = answer.checks.map((check) => checkItem(check, stateOf(check), "Check"));
  const [kind, head, told] = imageVerdict(answer);
  const list = element("ul", { class: "checks" }, ...items);
  at("image-result").replaceChildren(notice(kind, head, told), list);
  tell(`${head} ${told}`, false);
}

function imageVerdict({ ok, sentence, version }) {
  if (!ok) {
    const told = "The file does not show that an image is in a data set of this ledger.";
    return ["bad", "Not proven.", told];
  }
  const { root } = at("image-form").dataset;
  if (root && root !== `0x${version.merkleRoot}`) {
    return ["warn", "Proven, but of other data than those that you came for.", sentence];
  }
  return ["good", "Proven.", sentence];
}

at("image-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt("image-result", () => verifyImage(at("image-text").value));
});
takeFiles("image-drop", "image-file", "image-result", async (file) => {
  if (file.size > MAX_PROOF)
    throw new Error(`a proof has at most ${MAX_PROOF} bytes, this ${file.size}`);
  const text = await file.text();
  at("image-text").value = text;
  await verifyImage(text);
});

/** Take a file that is chosen or dropped; where that fails, `place` says so. */
function takeFiles(drop, input, place, take) {
  const [zone, chooser] = [at(drop), /** @type {HTMLInputElement} */ (at(input))];
  chooser.addEventListener("change", () => {
    const [file] = chooser.files ?? [];
    if (file) attempt(place, () => take(file));
    chooser.value = "";
  });
  zone.addEventListener("dragover", (event) => event.preventDefault());
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer?.files ?? [];
    if (file) attempt(place, () => take(file));
  });
}

const wanted = new URLSearchParams(location.search).get("model");
if (wanted !== null && at("model").value === "") at("model").value = wanted;

function showReady() {
  at("ask-button").disabled = false;
  at("ready").textContent = "Ready: all scripts are loaded.";
}
