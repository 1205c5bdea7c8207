// The page of a run, or of several side by side: curves as they grow, games, incidents, configuration.

import { ask, onLost, Wrong } from "./api.js";
import { byId, fill, make } from "./dom.js";
import { LineChart, short } from "./line_chart.js";
import { address, duration, factList, MOST, stateMark } from "./run_facts.js";
import { RunLog } from "./run_log.js";
import { drawConfig, drawIncidents, drawNodes } from "./run_parts.js";
import { RunGames } from "./run_games.js";

const names = [...new Set(new URLSearchParams(location.search).getAll("name"))].slice(0, MOST);
const stop = new AbortController();
const page = { about: new Map(), logs: new Map(), charts: new Map(), games: null, waiting: false };

const TRAINING = [
  ["Loss", (line) => line.total], ["Policy loss", (line) => line.policy_loss], ["Value loss", (line) => line.value_loss],
  ["Entropy of the policy", (line) => line.entropy], ["Entropy of the search's policy", (line) => line.target_entropy],
  ["Simulations a second", null], ["Norm of the gradient", (line) => line.grad_norm], ["Learning rate", (line) => line.lr],
  ["Games", (line) => line.games], ["Rows in the window", (line) => line.window],
];

onLost((lost) => (byId("lost").hidden = !lost));
addEventListener("pagehide", () => stop.abort());

function fail(sentence) {
  byId("fault").textContent = sentence;
  byId("fault").hidden = false;
}

const across = () => byId("across").value;
const format = (x) => (across() === "elapsed" ? duration(x) : `${across() === "rows" ? "row" : "step"} ${short(Math.round(x))}`);
const style = (name) => `s${names.indexOf(name) % 6}${names.indexOf(name) < 6 ? "" : " thick"}`;

function chart(place, title) {
  const key = `${place} ${title}`;
  if (!page.charts.has(key)) {
    const made = new LineChart(title, format);
    page.charts.set(key, made);
    byId(place).append(made.element);
  }
  return page.charts.get(key);
}

// points(log, about): of one run.
function show(place, title, points, thresholds) {
  const series = [...page.logs].map(([name, log]) => ({ name, style: style(name), points: points(log, page.about.get(name)) }));
  chart(place, title).show(series, thresholds);
}

function drawCurves() {
  const strength = new Map([...page.logs].map(([name, log]) => [name, log.strength(across(), page.about.get(name)?.positions)]));
  const scales = new Set([...strength.values()].flatMap((found) => [...found.keys()]));
  for (const scale of [...scales].slice(0, 8)) {
    const series = [...strength].map(([name, found]) => ({ name, style: style(name), points: found.get(scale) || [] }));
    chart("strength", scale).show(series);
  }
  empty("strength", scales.size > 0, "No model has been measured yet.");
  for (const [title, value] of TRAINING) {
    show("curves", title, (log) => (value ? log.series(across(), value) : log.throughput(across())));
  }
  const any = [...page.logs.values()].some((log) => log.steps.length);
  empty("curves", any, "The log tells of no step yet.");
  const metrics = page.about.get(names[0])?.metrics || [];
  for (const metric of metrics) {
    const thresholds = [{ value: metric.warn, name: "warns above" }];
    if (metric.limit !== null) thresholds.push({ value: metric.limit, name: "limit" });
    show("health", `${metric.name}: ${metric.words}`, (log) => log.series(across(), (line) => line.signs?.[metric.name]), thresholds);
  }
  const measured = [...page.logs.values()].some((log) => log.steps.some((line) => line.signs));
  empty("health", measured, "Nothing has been measured yet.");
}

function empty(place, there, words) {
  const note = byId(place).querySelector(".none");
  if (there) note?.remove();
  else if (!note) byId(place).prepend(make("p", { class: "soft none" }, words));
}

function drawFacts() {
  const cards = names.filter((name) => page.about.has(name)).map((name) => {
    const [about, log] = [page.about.get(name), page.logs.get(name)];
    const last = log?.last;
    const now = {
      ...about, incidentCount: Math.max(log?.incidents ?? 0, about.incidents.length), steps: Math.max(about.steps, last?.step ?? 0),
      rows: Math.max(about.rows, last?.rows ?? 0), seconds: Math.max(about.seconds, last?.elapsed ?? 0),
    };
    const state = log?.loaded ? (log.running ? "running" : about.state === "running" ? "stopped" : about.state) : about.state;
    const title = names.length > 1 ? make("a", { href: address([name]) }, name) : name;
    return make("div", { class: "card" }, make("div", { class: "row" }, make("h2", { class: "grow" }, title), stateMark(state)), factList(now));
  });
  fill(byId("facts"), ...cards);
}

// Many lines may come at once: draw them together.
function soon() {
  if (page.waiting) return;
  page.waiting = true;
  requestAnimationFrame(() => {
    page.waiting = false;
    drawFacts();
    drawCurves();
    drawNodes(byId("cluster"), byId("nodes"), names, page);
    drawIncidents(byId("incidents"), names, page, fail);
    const bad = [...page.logs.values()].reduce((sum, log) => sum + log.unreadable, 0);
    byId("note").textContent = bad ? `${bad} ${bad === 1 ? "line" : "lines"} of the log could not be read.` : "";
    if ([...page.logs.values()].every((log) => log.loaded)) document.documentElement.dataset.ready = "";
  });
}

async function refresh(name) {
  page.about.set(name, await ask("/api/run", { run: name }, stop.signal));
}

// What changes with more than the log: a new incident, the end of the run.
async function changed(name) {
  const [log, about] = [page.logs.get(name), page.about.get(name)];
  if (about && (log.incidents !== about.incidents.length || (about.state === "running") !== log.running)) await refresh(name);
  byId("fault").hidden = true;
  soon();
}

async function open() {
  const title = names.length === 1 ? names[0] : `${names.length} runs compared`;
  byId("title").textContent = names.length === 1 ? `Run ${title}` : title;
  document.title = `${title} · az`;
  if (!names.length) return location.replace("/runs");
  byId("across").addEventListener("change", soon);
  for (const name of names) {
    try {
      await refresh(name);
      const log = new RunLog(name, () => changed(name).catch(told), fail);
      page.logs.set(name, log);
    } catch (error) {
      told(error);
    }
  }
  drawConfig(byId("config"), names.filter((name) => page.about.has(name)).map((name) => [name, page.about.get(name).config]));
  for (const log of page.logs.values()) log.follow(stop.signal).catch(told);
  byId("games-section").hidden = page.logs.size !== 1;
  if (page.logs.size === 1) {
    const [name, log] = [...page.logs][0];
    page.games = new RunGames(byId("games"), name, () => log.running, stop.signal);
    page.games.follow().catch(told);
  }
  if (!page.logs.size) document.documentElement.dataset.ready = "";
  return soon();
}

function told(error) {
  if (error?.name === "AbortError") return;
  fail(error instanceof Wrong ? error.message : String(error));
}

open().catch(told);
