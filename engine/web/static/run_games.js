// Games of self-play: the newest as they come, replayed on the board with what the search said of each position.

import { ask, pause, Wrong } from "./api.js";
import { BoardView } from "./board_view.js";
import { byId, chance, fill, make, options, percent, svg } from "./dom.js";

const [EVERY, PACE] = [5000, 900]; // milliseconds between two looks for newer games, and between two moves

export class RunGames {
  constructor(place, run, running, signal) {
    Object.assign(this, { place, run, running, signal, game: null, at: 0, playing: true, newest: "" });
    this.build();
  }

  build() {
    this.board = make("div", { class: "board", id: "replay" });
    this.status = make("p", { class: "status", role: "status", id: "replay-status" });
    const button = (label, text, move) => make("button", { type: "button", "aria-label": label, onclick: () => this.go(move()) }, text);
    this.pause = make("button", { type: "button", onclick: () => this.setPlaying(!this.playing) }, "Pause");
    const row = make("div", { class: "row", role: "group", "aria-label": "Go through the game" },
      button("To the start", "«", () => 0), button("One move back", "‹", () => this.at - 1),
      button("One move on", "›", () => this.at + 1), button("To the end", "»", () => Infinity), this.pause);
    this.file = make("select", { id: "game-file", onchange: () => this.openFile(this.file.value).catch(this.told) });
    this.pick = make("select", { id: "game-k", onchange: () => this.open(this.file.value, Number(this.pick.value)).catch(this.told) });
    this.live = make("input", { type: "checkbox", id: "game-live" });
    this.live.checked = true;
    this.note = make("p", { class: "soft" }, "");
    this.said = make("div", { id: "opinion" });
    this.values = make("div", {});
    const fields = make("div", { class: "fields" }, make("label", {}, "Games written at ", this.file), make("label", {}, "Game ", this.pick));
    fill(this.place,
      make("div", { class: "table" }, this.board, this.status, row),
      make("div", { class: "card" }, fields, make("label", { class: "inline" }, this.live, "Go on with the newest game"), this.note, this.values, this.said));
    this.told = (error) => {
      if (error?.name === "AbortError") return;
      if (!(error instanceof Wrong)) throw error;
      this.note.textContent = error.message;
    };
  }

  // Look for newer games, and play the chosen one, until the page is left.
  async follow() {
    this.replay().catch(this.told);
    for (;;) {
      if (document.visibilityState !== "hidden") await this.look().catch(this.told);
      if (this.signal.aborted) return;
      await pause(this.running() ? EVERY : 6 * EVERY, this.signal).catch(() => {});
    }
  }

  async look() {
    const { files, count } = await ask("/api/run/files", { run: this.run }, this.signal);
    if (!files.length) {
      this.place.hidden = true;
      const none = byId("games-none") || make("p", { class: "soft", id: "games-none" }, "This folder holds no games of self-play.");
      this.place.after(none);
      return;
    }
    byId("games-none")?.remove();
    this.place.hidden = false;
    this.newest = files[0].file;
    const kept = this.game && !files.some((one) => one.file === this.game.file) ? [{ file: this.game.file, time: null }] : [];
    const time = (one) => (one.time === null ? "earlier" : new Date(1000 * one.time).toLocaleTimeString("en", { hour12: false }));
    options(this.file, [...files, ...kept].map((one) => [one.file, `${time(one)} · ${one.file.replace(".npz", "")}`]), this.game?.file);
    this.file.title = `${count} files are in the window`;
    const over = !this.game || this.at >= this.game.steps.length - 1;
    if (this.live.checked && over && this.newest !== this.game?.file) await this.openFile(this.newest);
  }

  async openFile(file) {
    const { games } = await ask("/api/run/file", { run: this.run, file }, this.signal);
    const words = ["first player lost", "drawn", "first player won"];
    options(this.pick, games.map((one) => [one.k, `${one.k}: ${one.plies} plies, ${words[one.outcome + 1]}`]));
    if (games.length) {
      this.pick.value = String(games[0].k);
      await this.open(file, games[0].k);
    }
  }

  async open(file, k) {
    this.game = await ask("/api/run/game", { run: this.run, file, k }, this.signal);
    this.file.value = file;
    const { facts } = this.game;
    this.board.className = facts.board ? "board" : "board text";
    this.view = facts.board ? new BoardView(this.board, facts, () => {}, () => {}) : null;
    if (this.view) this.view.enabled = false;
    this.note.textContent = this.game.note;
    this.setPlaying(true);
    this.go(0);
  }

  async replay() {
    for (;;) {
      await pause(PACE, this.signal);
      if (!this.playing || !this.game || document.visibilityState === "hidden") continue;
      if (this.at < this.game.steps.length - 1) this.go(this.at + 1, true);
    }
  }

  setPlaying(on) {
    this.playing = on;
    this.pause.textContent = on ? "Pause" : "Play";
  }

  go(at, byItself = false) {
    if (!this.game) return;
    if (!byItself && at !== 0) this.setPlaying(false);
    this.at = Math.min(this.game.steps.length - 1, Math.max(0, at));
    const { position, move, said } = this.game.steps[this.at];
    if (this.view) {
      this.view.show(position);
      const marks = (said?.moves ?? []).filter((one) => one.cells.length && one.share > 0.02);
      this.view.setMarks(marks.map((one, index) => ({ cells: one.cells, text: String(Math.round(100 * one.share)), weight: one.share, best: index === 0 })));
    } else fill(this.board, make("pre", {}, position.render));
    const count = `Move ${this.at} of ${this.game.steps.length - 1}`;
    const made = move || (this.at ? "moves that were not recorded" : "");
    const words = `${count}${made ? `: ${made}` : ""}.${position.ending ? ` ${position.ending}` : ""}`;
    if (byItself) this.status.removeAttribute("role"); // a reader would speak without end
    else this.status.setAttribute("role", "status");
    this.status.textContent = words;
    this.drawSaid(position, said, this.game.steps[this.at + 1]?.move);
    this.drawValues();
  }

  drawSaid(position, said, played) {
    if (!said) {
      const words = position.over ? "The game is over." : "The search looked at this position briefly, and no row was made of it: the move was worked out from the next one.";
      fill(this.said, make("p", { class: "soft" }, words));
      return;
    }
    const mover = this.game.facts.players[position.toMove];
    const row = (one) => make("tr", {}, make("th", { scope: "row" }, one.text), make("td", { class: "number" }, percent(one.share)),
      make("td", {}, one.text === played ? "played" : ""));
    fill(this.said, make("p", {}, `The search gives ${mover} a win chance of ${chance(said.value)}. Its policy:`),
      make("table", { class: "opinion" },
        make("thead", {}, make("tr", {}, ...["Move", "Share", ""].map((head) => (head ? make("th", { scope: "col" }, head) : make("td", {}))))),
        make("tbody", {}, ...said.moves.map(row))));
  }

  // The search's win chance of the first player over the game.
  drawValues() {
    const points = this.game.steps.map(({ position, said }, ply) => [ply, said ? (position.toMove === 0 ? said.value : -said.value) : null]);
    const known = points.filter(([, value]) => value !== null);
    if (known.length < 2) return fill(this.values);
    const [width, height] = [600, 90];
    const x = (ply) => 6 + ((width - 12) * ply) / Math.max(1, points.length - 1);
    const y = (value) => 6 + ((height - 12) * (1 - value)) / 2;
    const name = `Win chance of ${this.game.facts.players[0]} by the search: ${chance(known[0][1])} at first, ${chance(known.at(-1)[1])} at last.`;
    return fill(this.values, svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": name, preserveAspectRatio: "none" },
      svg("rect", { width, height, class: "zone" }),
      svg("line", { x1: 0, x2: width, y1: y(0), y2: y(0), class: "half" }),
      svg("line", { x1: x(this.at), x2: x(this.at), y1: 0, y2: height, class: "now" }),
      svg("polyline", { points: known.map(([ply, value]) => `${x(ply).toFixed(1)},${y(value).toFixed(1)}`).join(" "), class: "curve" })),
    make("p", { class: "soft" }, `Above: ${this.game.facts.players[0]} ahead, by the search's opinion.`));
  }
}
