// A run's log as it grows: asks for what has come since the last time, and keeps the numbers.

import { ask, pause, Wrong } from "./api.js";

const [LIVE, IDLE] = [2000, 10000]; // milliseconds between two questions, of a run that goes on and of another
const NOT_FINITE = /(?<=[:[,]\s*)(?:NaN|-?Infinity)(?=\s*[,}\]])/g; // as Python writes such a metric
const MOST_EVENTS = 200;

export class RunLog {
  // told(): something has changed. failed(sentence): the run cannot be read now, such as a deleted one.
  constructor(name, told, failed) {
    Object.assign(this, { name, told, failed, running: false, incidents: 0, loaded: false });
    this.clear();
  }

  clear() {
    [this.position, this.id] = [0, ""];
    this.steps = []; // lines of a step
    this.measured = []; // lines of a measurement of strength
    this.events = []; // everything else
    this.nodes = null; // of a cluster: the last line about them
    this.unreadable = 0;
  }

  // Until the page is left. A page that is not looked at asks for nothing.
  async follow(signal) {
    for (;;) {
      try {
        while (document.visibilityState === "hidden") await pause(500, signal);
        const more = await this.read(signal);
        if (!more) await pause(this.running ? LIVE : IDLE, signal);
      } catch (error) {
        if (error?.name === "AbortError") return;
        if (!(error instanceof Wrong)) throw error;
        this.failed(error.message);
        await pause(IDLE, signal);
      }
    }
  }

  async read(signal) {
    const asked = { run: this.name, from: this.position, id: this.id };
    const answer = await ask("/api/run/log", asked, signal);
    if (answer.fresh) this.clear(); // steps were undone: the log was written again
    const before = [this.running, this.incidents].join();
    [this.position, this.id] = [answer.next, answer.id];
    [this.running, this.incidents] = [answer.running, answer.incidents];
    for (const text of answer.text.split("\n")) if (text.trim()) this.take(text);
    const changed = answer.text || answer.fresh || before !== [this.running, this.incidents].join();
    if (!answer.more && (changed || !this.loaded)) {
      this.loaded = true;
      this.told();
    }
    return answer.more;
  }

  take(text) {
    const line = parsed(text) ?? parsed(text.replace(NOT_FINITE, "null"));
    if (line === undefined) this.unreadable += 1;
    if (!line || typeof line !== "object" || Array.isArray(line)) return;
    if (line.kind === "step" && isNumber(line.step)) this.steps.push(line);
    else if (line.kind === "nodes") this.nodes = line;
    else if (line.kind === "solved" || line.kind === "score") this.measured.push(line);
    else {
      this.events.push(line);
      if (this.events.length > MOST_EVENTS) this.events.shift();
    }
  }

  get last() {
    return this.steps.at(-1) || null;
  }

  // [x, value] of one number of the steps. across: step, rows or elapsed.
  series(across, value) {
    const points = [];
    for (const line of this.steps) {
      const [x, y] = [line[across], value(line)];
      if (isNumber(x) && isNumber(y)) points.push([x, y]);
    }
    return points;
  }

  // Simulations a second over stretches of time: games are counted when a file of them is done.
  throughput(across) {
    const told = this.steps.filter((line) => isNumber(line.elapsed) && isNumber(line.simulations));
    if (!told.length) return [];
    const stretch = Math.max(10, told.at(-1).elapsed / 100);
    const points = [];
    let before = told[0];
    for (const line of told) {
      const seconds = line.elapsed - before.elapsed;
      if (seconds < stretch) continue;
      if (isNumber(line[across])) points.push([line[across], Math.max(0, line.simulations - before.simulations) / seconds]);
      before = line;
    }
    return points;
  }

  // {scale: [[x, value, low, high], …]} of what was measured. positions: how many solved ones, where no line says so.
  strength(across, positions) {
    const found = new Map();
    for (const line of this.measured) {
      const made = figures(line, positions);
      if (!made || !isNumber(line.step)) continue;
      const x = across === "step" ? line.step : this.before(line.step, across);
      if (!found.has(made.scale)) found.set(made.scale, new Map());
      found.get(made.scale).set(line.step, [x, ...made.point]); // of a model made again the later one
    }
    return new Map([...found].map(([scale, points]) => [scale, [...points.values()].sort((a, b) => a[0] - b[0])]));
  }

  // How far the run was at a step, by the last line before it.
  before(step, across) {
    if (step === 0 || !this.steps.length) return 0;
    let [low, high] = [0, this.steps.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.steps[middle].step <= step) low = middle;
      else high = middle - 1;
    }
    return isNumber(this.steps[low][across]) ? this.steps[low][across] : 0;
  }
}

// undefined for what is no JSON.
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function figures(line, positions) {
  if (line.kind === "score") {
    if (!isNumber(line.elo)) return null;
    const ends = [line.elo_low, line.elo_high].map((end) => (isNumber(end) ? end : null));
    return { scale: `Elo against ${String(line.opponent).slice(0, 60)}`, point: [line.elo, ...ends] };
  }
  const share = line.thrown?.all;
  if (!isNumber(share) || share < 0 || share > 1) return null;
  const count = isNumber(line.of?.all) && line.of.all > 0 ? line.of.all : positions;
  const ends = count ? wilson(share, count) : [null, null];
  return { scale: "Solved positions given away, %", point: [share, ...ends].map((one) => (one === null ? null : 100 * one)) };
}

// The 95 % interval of a share (Wilson 1927), as engine/arena/elo.py has it.
function wilson(share, trials) {
  const z = 1.959964;
  const weight = (z * z) / trials;
  const center = (share + weight / 2) / (1 + weight);
  const half = (z / (1 + weight)) * Math.sqrt((share * (1 - share)) / trials + weight / (4 * trials));
  return [center - half, center + half];
}
