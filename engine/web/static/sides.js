// Who plays which side, what the engine is asked for, and the clock of its thinking.

import { stream } from "./api.js";
import { byId, options } from "./dom.js";

const EFFORTS = [["sims:100", "100 simulations"], ["sims:400", "400 simulations"], ["sims:1600", "1,600 simulations"], ["sims:6400", "6,400 simulations"], ["secs:1", "1 second"], ["secs:3", "3 seconds"], ["secs:10", "10 seconds"]];

export class Sides {
  // changed(): a choice was made.
  constructor(levels, changed) {
    this.levels = levels;
    this.spent = [0, 0]; // milliseconds of each player's engine
    this.selects = [byId("side-0"), byId("side-1")];
    for (const select of [...this.selects, byId("model"), byId("effort")]) {
      select.addEventListener("change", () => {
        if (select.id === "model") this.offerSides();
        changed();
      });
    }
    options(byId("effort"), EFFORTS, "sims:400");
  }

  setGame(facts) {
    this.engines = facts.engines;
    options(byId("model"), facts.engines.map((engine) => [engine.id, engine.name]), facts.engines[0].id);
    facts.players.forEach((name, player) => (byId(`side-name-${player}`).textContent = name));
    this.offerSides();
    this.spent = [0, 0];
  }

  offerSides() {
    const levels = Array.from({ length: this.levels }, (_, index) => [String(index + 1), `Level ${index + 1}`]);
    const pairs = [["person", "Person"], ...(this.isModel ? levels : []), ["full", this.isModel ? "Full strength" : "Engine"]];
    for (const select of this.selects) {
      const before = select.value;
      options(select, pairs, before);
      if (before && before !== select.value) select.value = before === "person" ? "person" : "full";
    }
  }

  get model() {
    return byId("model").value;
  }

  get isModel() {
    return Boolean(this.engines.find((engine) => engine.id === this.model)?.model);
  }

  of(player) {
    return this.selects[player].value;
  }

  set(player, value) {
    this.selects[player].value = value;
    if (this.selects[player].selectedIndex < 0) this.selects[player].value = "full";
  }

  setEffort(simulations, seconds) {
    const value = seconds ? `secs:${seconds}` : `sims:${simulations}`;
    const own = EFFORTS.some(([one]) => one === value) ? [] : [[value, seconds ? `${seconds} seconds` : `${simulations.toLocaleString("en")} simulations`]];
    options(byId("effort"), [...EFFORTS, ...own], value);
  }

  // The side that a lone person plays; null where both or neither are persons.
  get person() {
    const persons = [0, 1].filter((player) => this.of(player) === "person");
    return persons.length === 1 ? persons[0] : null;
  }

  get settings() {
    return { sides: [this.of(0), this.of(1)], model: this.model, effort: byId("effort").value };
  }

  restore({ sides, model, effort }) {
    if (this.engines.some((engine) => engine.id === model)) byId("model").value = model;
    this.offerSides();
    if (Array.isArray(sides)) sides.forEach((value, player) => this.set(player, value));
    const [kind, number] = String(effort).split(":");
    if (["sims", "secs"].includes(kind) && Number(number) > 0) this.setEffort(Number(number), kind === "secs" ? Number(number) : 0);
  }

  // What /api/move is asked for this player.
  demand(player) {
    const side = this.of(player);
    if (!["person", "full"].includes(side)) return { level: Number(side) };
    const [kind, number] = byId("effort").value.split(":");
    return kind === "secs" ? { seconds: Number(number) } : { simulations: Number(number) };
  }

  // Ask for the engine's move; told(answer) of every answer. Returns the move; the time is the player's.
  async think(body, player, told, signal) {
    const begun = performance.now();
    const clock = byId("clock");
    const show = () => (clock.textContent = `thinking ${((performance.now() - begun) / 1000).toFixed(1)} s`);
    const timer = setInterval(show, 100);
    let best = null;
    try {
      await stream("/api/move", { ...body, ...this.demand(player) }, (answer) => {
        if (answer.done) best = answer.best;
        told(answer);
      }, signal);
      return best;
    } finally {
      clearInterval(timer);
      const took = performance.now() - begun;
      this.spent[player] += took;
      clock.textContent = `last move ${(took / 1000).toFixed(1)} s; in all ${(this.spent[player] / 1000).toFixed(1)} s`;
    }
  }
}
