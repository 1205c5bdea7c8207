// The list of runs: choose one to look at, or several to compare.

import { ask, onLost, pause, Wrong } from "./api.js";
import { byId, fill, make } from "./dom.js";
import { address, factList, MOST, stateMark } from "./run_facts.js";

const EVERY = 5000; // milliseconds between two looks
const chosen = new Set();
let shown = "";

onLost((lost) => (byId("lost").hidden = !lost));
byId("compare").addEventListener("click", () => location.assign(address([...chosen])));

function choose(name, on) {
  if (on) chosen.add(name);
  else chosen.delete(name);
  byId("compare").disabled = chosen.size < 2 || chosen.size > MOST;
  byId("note").textContent = chosen.size > MOST ? `At most ${MOST} runs are compared.` : "";
}

function card(run) {
  const box = make("input", { type: "checkbox", onchange: (event) => choose(run.name, event.target.checked) });
  box.checked = chosen.has(run.name);
  return make("article", { class: "card run-card" },
    make("div", { class: "row" }, make("h2", { class: "grow" }, make("a", { href: address([run.name]) }, run.name)), stateMark(run.state)),
    run.broken ? make("p", { class: "bad" }, run.broken) : factList(run),
    make("label", { class: "inline" }, box, `Compare ${run.name}`));
}

function show({ runs, more }) {
  const told = JSON.stringify([runs, more]);
  if (told === shown) return; // nothing that a person looks at or tabs through is made again without need
  shown = told;
  const focused = document.activeElement?.closest?.(".run-card")?.querySelector("h2")?.textContent;
  const wasBox = document.activeElement?.type === "checkbox";
  for (const name of [...chosen]) if (!runs.some((run) => run.name === name)) choose(name, false);
  fill(byId("runs"), ...runs.map(card));
  if (!runs.length) fill(byId("runs"), make("p", {}, "There are no runs here; make one with ", make("code", {}, "az train GAME"), "."));
  if (more) byId("note").textContent = `${more} more runs are not shown.`;
  const again = [...document.querySelectorAll(".run-card")].find((one) => one.querySelector("h2").textContent === focused);
  again?.querySelector(wasBox ? "input" : "a").focus();
  document.documentElement.dataset.ready = "";
}

for (;;) {
  try {
    show(await ask("/api/runs", {}));
    byId("fault").hidden = true;
  } catch (error) {
    if (!(error instanceof Wrong)) throw error;
    byId("fault").textContent = error.message;
    byId("fault").hidden = false;
  }
  do await pause(EVERY);
  while (document.visibilityState === "hidden");
}
