/** Checks and what they rest on, as parts of the page. All text is set as text, never as markup. */

const STATES = {
  waiting: ["", "waiting", ""],
  running: ["running", "checking", "busy"],
  ok: ["ok", "passed", "good"],
  failed: ["failed", "failed", "bad"],
  "not-run": ["", "not run", ""],
};

/**
 * Make an element.
 * @param {string} name
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} content
 */
export function element(name, attributes = {}, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...content);
  return made;
}

/** @param {{ok: boolean | null}} check @returns {keyof typeof STATES} */
export const stateOf = ({ ok }) => (ok === null ? "not-run" : ok ? "ok" : "failed");

/**
 * Make a list item for a check; the state stands there in a word, not in a colour alone.
 * @param {{number: number, title: string, told?: string, findings?: object[]}} check
 * @param {keyof typeof STATES} state
 * @param {string} [name] What it is a number of.
 */
export function checkItem(check, state, name = "Step") {
  const [mark, word, kind] = STATES[state];
  const item = element(
    "li",
    { class: mark, "data-step": `${check.number}`, "data-state": state },
    element("strong", {}, `${name} ${check.number}`),
    ` ${check.title} `,
    element("span", { class: `badge ${kind}` }, word),
  );
  if (check.told) item.append(element("div", { class: "muted" }, check.told));
  for (const finding of (check.findings ?? []).slice(0, MOST_FINDINGS)) item.append(told(finding));
  const more = (check.findings ?? []).length - MOST_FINDINGS;
  if (more > 0) item.append(element("p", {}, `and ${more} more findings of this step`));
  return item;
}

const MOST_FINDINGS = 20;

function told({ subject, expected, found, message }) {
  return element(
    "div",
    { class: "notice bad" },
    element("p", {}, element("strong", {}, subject), ` – ${message}`),
    facts([
      ["expected", expected],
      ["found", found],
    ]),
  );
}

/** @param {[string, string | Node][]} pairs */
export function facts(pairs) {
  const list = element("dl", { class: "facts" });
  for (const [name, value] of pairs) {
    const shown = typeof value === "string" ? element("code", {}, value) : value;
    list.append(element("dt", {}, name), element("dd", {}, shown));
  }
  return list;
}

/** @param {"good" | "warn" | "bad"} kind @param {string} head @param {...(Node | string)} content */
export function notice(kind, head, ...content) {
  return element(
    "div",
    { class: `notice ${kind}` },
    element("p", {}, element("strong", {}, head)),
    ...content.map((each) => (typeof each === "string" ? element("p", {}, each) : each)),
  );
}

/** @param {string[]} items */
export function codes(items) {
  if (items.length === 0) return element("span", {}, "none");
  const list = element("span");
  items.forEach((item, at) => list.append(at === 0 ? "" : ", ", element("code", {}, item)));
  return list;
}
