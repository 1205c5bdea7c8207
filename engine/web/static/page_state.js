// What the board page knows, shared by the modules that act and those that show.

import { byId } from "./dom.js";
import { GameTree } from "./tree.js";

export const PAGE = crypto.randomUUID(); // its searches share a tree on the server

export const page = {
  facts: null, tree: new GameTree(), board: null, sides: null, files: null,
  seed: Math.floor(Math.random() * 2 ** 31), depth: 0, analyzing: false, hinted: null, flipped: null, summary: null,
  thinking: null, searching: null, reviewing: null, // AbortControllers of what runs
  goTo: null, play: null, // what follows when a person chooses a position or a move
};

export const DEPTHS = [400, 2000, 10000, 50000, 250000, 500000]; // visits of an analysis, deeper and deeper

export const node = () => page.tree.current;
export const position = () => node().position;

export function say(text) {
  byId("status").textContent = text;
}

export function fail(error) {
  if (error?.name === "AbortError") return;
  byId("fault").textContent = String(error?.message || error);
  byId("fault").hidden = false;
}

export function engineToMove() {
  return !position().over && page.sides.of(position().toMove) !== "person";
}
