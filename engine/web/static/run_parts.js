// Incidents and warnings, the nodes of a cluster and the configuration, on the page of a run.

import { ask } from "./api.js";
import { fill, make } from "./dom.js";

const MOST_EVENTS = 40;
let drawn = "";
let drawnNodes = "";

export function drawIncidents(place, names, page, fail) {
  const told = names.filter((name) => page.about.has(name)).map((name) => [name, page.about.get(name).incidents, page.logs.get(name)?.events ?? []]);
  const state = JSON.stringify(told.map(([name, incidents, events]) => [name, incidents, events.length]));
  if (state === drawn) return;
  drawn = state;
  const parts = told.flatMap(([name, incidents, events]) => [
    ...incidents.map((one) => incidentCard(name, one, names.length > 1, fail)),
    events.length ? eventList(names.length > 1 ? `${name}: warnings` : "Warnings", events) : null,
  ]);
  if (!parts.some(Boolean)) parts.push(make("p", { class: "soft" }, "No incident, no warning."));
  fill(place, ...parts);
}

function incidentCard(run, one, several, fail) {
  const title = `${several ? `${run}: ` : ""}${one.name}`;
  if (one.damaged) return make("div", { class: "card" }, make("h3", {}, title), make("p", { class: "bad" }, "It cannot be read."));
  const pairs = [
    ["Step", one.first_bad_step], ["What", one.words], ["Caused at", one.causal_step === one.first_bad_step ? null : `step ${one.causal_step}`],
    ["Where", [one.phase, one.op, one.module, one.source].filter(Boolean).join(", ")], ["Fix", one.fix], ["Run again", one.replay],
  ].filter(([, value]) => value);
  const where = `/doctor?run=${encodeURIComponent(run)}&incident=${encodeURIComponent(one.name)}`;
  const link = () => make("a", { href: where, target: "_blank", rel: "noopener" }, "The doctor's page");
  const last = make("p", {});
  const write = async (event) => {
    event.target.disabled = true;
    event.target.textContent = "The doctor looks at it …";
    try {
      await ask("/api/run/doctor", { run, incident: one.name });
      one.page = true; // the card may be drawn again
      fill(last, link());
    } catch (error) {
      fail(error.message);
      event.target.disabled = false;
      event.target.textContent = "Have the doctor write its page";
    }
  };
  fill(last, one.page ? link() : make("button", { type: "button", onclick: write }, "Have the doctor write its page"));
  return make("div", { class: "card run-card" }, make("h3", {}, title),
    make("dl", {}, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))])), last);
}

// The nodes of a cluster, as the last line of the log about them says; the section is hidden where there is none.
export function drawNodes(section, place, names, page) {
  const told = names.map((name) => [name, page.logs.get(name)?.nodes]).filter(([, line]) => Array.isArray(line?.nodes));
  const state = JSON.stringify(told.map(([name, line]) => [name, line.time]));
  section.hidden = !told.length;
  if (state === drawnNodes) return;
  drawnNodes = state;
  fill(place, ...told.map(([name, line]) => nodeCard(names.length > 1 ? name : "", line)));
}

function nodeCard(run, line) {
  const title = `Nodes${run ? ` of ${run}` : ""}`;
  const columns = [["Node", "node"], ["Players", "players"], ["Simulations/s", "simulations_per_s"], ["Games", "games"], ["Rows", "rows"], ["Faults", "faults"], ["Lost games", "lost"], ["Left out", "left_out"]];
  const shown = (value) => (typeof value === "number" ? value.toLocaleString("en") : String(value ?? "").slice(0, 300));
  const cell = (value) => make("td", typeof value === "number" ? { class: "number" } : {}, shown(value));
  const row = (one) => make("tr", one?.left_out ? { class: "soft" } : {}, ...columns.map(([, key]) => cell(one?.[key])));
  const number = (key) => (typeof line.nodes[0]?.[key] === "number" ? { class: "number" } : {});
  const head = make("tr", {}, ...columns.map(([name, key]) => make("th", { scope: "col", ...number(key) }, name)));
  return make("div", { class: "card" }, run ? make("h3", {}, title) : null,
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title },
      make("table", {}, make("thead", {}, head), make("tbody", {}, ...line.nodes.slice(0, MOST_EVENTS).map(row)))));
}

function eventList(title, events) {
  const shown = events.slice(-MOST_EVENTS).reverse();
  const text = (line) => {
    if (typeof line.text === "string") return line.text;
    if (line.kind === "unlearned") return `step ${line.step}: model ${line.model} is worse than model ${line.best}`;
    return `${line.kind}${line.step === undefined ? "" : ` at step ${line.step}`}${line.error ? `: ${line.error}` : ""}`;
  };
  return make("div", { class: "card" }, make("h3", {}, title),
    make("ul", { class: "events", tabindex: 0, "aria-label": title }, ...shown.map((line) => make("li", {}, text(line).slice(0, 600)))));
}

// configs: [name, [[key, value], …]]. Of several runs first where they differ.
export function drawConfig(place, configs) {
  const keys = [...new Set(configs.flatMap(([, pairs]) => pairs.map(([key]) => key)))];
  const values = configs.map(([, pairs]) => new Map(pairs));
  const row = (key) => make("tr", {}, make("th", { scope: "row" }, key), ...values.map((one) => make("td", {}, one.get(key) ?? "–")));
  const table = (title, shown) => make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title },
    make("table", { class: "config" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Key"), ...configs.map(([name]) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...shown.map(row))));
  const whole = make("details", {}, make("summary", {}, "Every setting"), table("Every setting", keys));
  if (configs.length < 2) return fill(place, make("div", { class: "card" }, whole));
  const differ = keys.filter((key) => key !== "az_version" && new Set(values.map((one) => one.get(key))).size > 1);
  const first = differ.length ? table("Settings that differ", differ) : make("p", { class: "soft" }, "No setting differs.");
  return fill(place, make("div", { class: "card" }, make("h3", {}, "Settings that differ"), first, whole));
}
