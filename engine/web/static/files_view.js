// Position and game as text, in and out; records of self-play.

import { ask, askBytes } from "./api.js";
import { byId, fill, make } from "./dom.js";

const MOST_FILE = 190 * 1024 * 1024; // bytes
const ENDS = { 1: "first player won", 0: "drawn", "-1": "second player won" };

export class FilesView {
  // game(): its name. body(): game, start and moves. load({start, moves}), fail(error): what follows.
  constructor({ game, body, load, fail }) {
    Object.assign(this, { game, body, load, fail });
    byId("position-form").addEventListener("submit", (event) => this.run(event, () => this.setUp()));
    byId("load-form").addEventListener("submit", (event) => this.run(event, () => this.paste(byId("pasted").value)));
    byId("show-text").addEventListener("click", (event) => this.run(event, () => this.showText()));
    byId("file").addEventListener("change", (event) => this.run(event, () => this.open(event.target.files[0])));
  }

  async run(event, work) {
    event.preventDefault();
    try {
      await work();
    } catch (error) {
      this.fail(error);
    }
  }

  note(text) {
    byId("file-note").textContent = text;
  }

  async setUp() {
    const position = await ask("/api/position", { game: this.game(), start: byId("position").value, moves: [] });
    await this.load({ start: position.start, moves: [] });
    this.note("The position stands on the board.");
  }

  async paste(text) {
    const found = await ask("/api/load", { game: this.game(), text });
    await this.load(found);
    this.note(`Loaded ${found.moves.length} moves.`);
  }

  async showText() {
    byId("pasted").value = (await ask("/api/text", this.body())).game;
    byId("pasted").focus();
    byId("pasted").select();
    this.note("This game as text: copy it.");
  }

  async open(file) {
    if (!file) return;
    byId("record").hidden = true;
    if (file.size > MOST_FILE) throw new Error(`the file is larger than ${MOST_FILE >> 20} MiB.`);
    if (!file.name.endsWith(".npz")) {
      await this.paste(await file.text());
      return;
    }
    const bytes = await file.arrayBuffer();
    const path = `/api/record?game=${encodeURIComponent(this.game())}`;
    const { games } = await askBytes(path, bytes);
    const select = make("select", { id: "record-game" }, ...games.map(({ k, plies, outcome }) => make("option", { value: k }, `${k}: ${plies} actions, ${ENDS[outcome]}`)));
    const pick = async () => {
      const found = await askBytes(`${path}&k=${select.value}`, bytes);
      await this.load(found);
      this.note(`Loaded ${found.moves.length} moves of game ${select.value}. ${found.note}`);
    };
    const button = make("button", { type: "button", onclick: (event) => this.run(event, pick) }, "Load this game");
    fill(byId("record"), make("div", { class: "row" }, make("label", { class: "inline" }, "Game of the record ", select), button));
    byId("record").hidden = false;
    this.note(`The record holds ${games.length} games.`);
  }

  show(position) {
    if (document.activeElement !== byId("position")) byId("position").value = position.text;
  }
}
