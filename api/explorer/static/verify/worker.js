// Verifies away from the page, which stays responsive. Asks nobody: it sees only what it is given.
import { verifyBundle } from "./checks.js";
import { verifyImageProof } from "./images.js";
import { verifyModelFile } from "./models.js";

/** @type {import("./checks.js").Report | null} */
let report = null;
const INTERVAL = 100; // milliseconds between two words on progress
let last = 0;

const answers = {
  bundle({ file, known }) {
    report = null;
    report = verifyBundle(new Uint8Array(file), known, tellSteps);
    return report;
  },
  async model({ file }) {
    if (report?.model == null) throw new Error("no model was verified yet");
    return verifyModelFile(pieces(file), report.model, (bytes) => tell({ bytes, of: file.size }));
  },
  image({ text }) {
    if (report === null) throw new Error("no bundle was verified yet");
    return verifyImageProof(text, report);
  },
};

self.addEventListener("message", async ({ data }) => {
  try {
    self.postMessage({ id: data.id, answer: await answers[data.kind](data) });
  } catch (error) {
    self.postMessage({ id: data.id, error: String(error) });
  }
});

function tellSteps(step, done, total) {
  const isEnd = done === 0 || done === total;
  tell({ step, done, total }, isEnd);
}

function tell(progress, isUrgent = false) {
  const now = performance.now();
  if (!isUrgent && now - last < INTERVAL) return;
  last = now;
  self.postMessage({ progress });
}

async function* pieces(file) {
  const reader = file.stream().getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

// All that is needed is loaded now: from here on nobody is asked.
self.postMessage({ ready: true });
