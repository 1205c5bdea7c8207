// Where a game is kept: its line in the address (a link, a reload), its branches and settings in the browser.

import { GameTree } from "./tree.js";

const MOST_KEPT = 200000; // characters

export function toHash(game, tree) {
  const found = new URLSearchParams({ game });
  if (tree.start !== null) found.set("start", tree.start);
  if (tree.current.parent) found.set("moves", JSON.stringify(tree.current.moves));
  return `#${found}`;
}

// {game, start, moves} of the address, or null.
export function fromHash(hash) {
  const found = new URLSearchParams(hash.replace(/^#/, ""));
  if (!found.get("game")) return null;
  let moves = [];
  try {
    moves = JSON.parse(found.get("moves") || "[]");
  } catch {
    moves = [];
  }
  if (!Array.isArray(moves) || !moves.every((move) => typeof move === "string")) moves = [];
  return { game: found.get("game"), start: found.get("start"), moves };
}

export function keep(game, tree, settings) {
  const text = JSON.stringify({ start: tree.start, tree: tree.toData(), moves: tree.current.moves, settings });
  try {
    if (text.length <= MOST_KEPT) localStorage.setItem(`az-board:${game}`, text);
  } catch {
    // a browser that keeps nothing: the address still holds the line
  }
}

// {tree, moves, settings} that was kept of a game, or null.
export function kept(game) {
  try {
    const found = JSON.parse(localStorage.getItem(`az-board:${game}`));
    const tree = GameTree.fromData(found.start, found.tree);
    tree.current = tree.addLine(found.moves);
    return { tree, settings: found.settings || {} };
  } catch {
    return null;
  }
}
