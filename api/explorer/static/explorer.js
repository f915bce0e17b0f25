// Small conveniences: copying a digest whole, signing out, and seeing what hangs on what in a graph.
// Every page says all that it has to say without them.

/** Copy the value of a button, and say so. */
async function copy(/** @type {HTMLButtonElement} */ button) {
  await navigator.clipboard.writeText(button.dataset.copy ?? "");
  const label = button.getAttribute("aria-label") ?? "Copy";
  button.classList.add("copied");
  button.setAttribute("aria-label", "Copied");
  setTimeout(() => {
    button.classList.remove("copied");
    button.setAttribute("aria-label", label);
  }, 1500);
}

/** Light up the edges at a node of the lineage graph. */
function light(/** @type {Element} */ node, /** @type {boolean} */ on) {
  const key = node.getAttribute("data-node");
  for (const edge of node.closest("svg")?.querySelectorAll(".edge") ?? []) {
    const ends = [edge.getAttribute("data-from"), edge.getAttribute("data-to")];
    edge.classList.toggle("lit", on && ends.includes(key));
  }
}

// The clipboard is to be had over https and on this machine only.
if (navigator.clipboard) {
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }
}

for (const node of document.querySelectorAll(".graph [data-node]")) {
  for (const [event, on] of [["mouseenter", true], ["mouseleave", false], ["focus", true], ["blur", false]]) {
    node.addEventListener(event, () => light(node, on));
  }
}

document.getElementById("sign-out")?.addEventListener("click", async () => {
  await fetch("/v1/auth/session", { method: "DELETE", credentials: "same-origin" });
  location.assign("/");
});
