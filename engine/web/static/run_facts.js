// Words about runs that the list and the page of one have in common.

import { make } from "./dom.js";

export const MOST = 12; // runs that are compared: six kinds of lines, thin and thick, can be told apart

export function duration(seconds) {
  if (seconds >= 3600) return `${Math.floor(seconds / 3600)}:${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")} h`;
  return seconds >= 60 ? `${(seconds / 60).toFixed(1)} min` : `${Math.round(seconds)} s`;
}

export function strengthText(one) {
  const share = one.scale === "solved";
  const text = (value) => (share ? (100 * value).toFixed(1) : `${value >= 0 ? "+" : ""}${value.toFixed(0)}`);
  const span = one.low === null || one.high === null ? "" : ` [${text(one.low)}, ${text(one.high)}]`;
  const what = share ? "of solved positions given away" : `Elo against ${one.scale.replace(/^elo /, "")}`;
  return `${text(one.value)}${share ? " %" : ""}${span} ${what}`;
}

export function factList(run) {
  const strength = run.strength.map(strengthText);
  const pairs = [
    ["Game", run.game], ["Preset", run.preset], ["Steps", run.steps.toLocaleString("en")], ["Rows made", run.rows.toLocaleString("en")],
    ["Time", duration(run.seconds)], ["Newest model", run.model === null ? "none" : String(run.model)],
    ["Incidents", String(run.incidentCount ?? run.incidents)], ["Strength", strength.length ? strength.join("; ") : "not measured"],
  ];
  return make("dl", {}, ...pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

export function stateMark(state) {
  return make("span", { class: `state ${state === "running" ? "running" : ""}` }, state);
}

export function address(names) {
  return `/run?${names.map((name) => `name=${encodeURIComponent(name)}`).join("&")}`;
}
