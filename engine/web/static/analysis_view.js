// What the search thinks of a position: a table of its best moves, and marks for the board.

import { chance, make, patch, percent, svg } from "./dom.js";

const SHOWN = 8;
const MARKED = 3;
const LEAST_SHARE = 0.03; // of a move that is marked on the board
const PROVEN = { 1: "won", 0: "drawn", "-1": "lost" };

export function expectation(value, proven) {
  if (proven !== null && proven !== undefined) return PROVEN[proven]; // a word in place of a number: it is proven
  return chance(value);
}

// Marks for BoardView.setMarks, from an answer and the legal moves with their squares.
export function marksOf(answer, legal) {
  const cells = new Map(legal.map((move) => [move.text, move.cells]));
  return answer.moves
    .filter((move, place) => place === 0 || (place < MARKED && move.share >= LEAST_SHARE))
    .filter((move) => cells.get(move.text)?.length)
    .map((move, place) => ({ cells: cells.get(move.text), text: String(Math.round(100 * move.share)), weight: move.share, best: place === 0 }));
}

// node: of the tree. players: names. play(text): a move of the table was chosen.
export function drawAnalysis(place, node, players, play) {
  const answer = node.analysis;
  if (!answer || !answer.moves.length) {
    patch(place, make("p", { class: "soft" }, "Shows the best moves, how the search shares its visits among them, and the win chance of each."));
    return;
  }
  const mover = players[node.position.toMove];
  const facts = make(
    "p",
    { class: "facts" },
    fact(`${mover}'s win chance`, answer.proven === null ? chance(answer.value) : `${expectation(answer.value, answer.proven)} (proven)`),
    answer.network === undefined ? null : fact("Network alone", chance(answer.network)),
    fact("Visits", answer.visits.toLocaleString("en")),
  );
  const rows = answer.moves.slice(0, SHOWN).map((move, index) => moveRow(move, index === 0, play));
  const names = [["Move"], ["Visits"], ["Win", "number"], ["Network", "number"], ["Line"]];
  const head = make("tr", {}, ...names.map(([name, kind]) => make("th", { scope: "col", class: kind }, name)));
  const table = make("table", {}, make("caption", { class: "unseen" }, `Best moves for ${mover}`), make("thead", {}, head), make("tbody", {}, ...rows));
  patch(place, facts, costOf(node), make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Best moves" }, table));
}

function fact(name, value) {
  return make("span", {}, `${name} `, make("b", {}, value));
}

function moveRow(move, best, play) {
  const width = Math.max(0, Math.min(1, move.share));
  const bar = svg("svg", { class: "bar", viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { width: 100, height: 20 }), svg("rect", { width: 100 * width, height: 20 }));
  const button = make("button", { type: "button", class: "move-button", onclick: () => play(move.text), title: "Play this move" }, move.text);
  return make(
    "tr",
    { class: best ? "analysis-row best" : "analysis-row", "data-key": move.text },
    make("td", {}, button),
    make("td", { class: "share-cell" }, bar, percent(move.share)),
    make("td", { class: "number" }, move.share > 0 || move.proven !== null ? expectation(move.value, move.proven) : "–"),
    make("td", { class: "number" }, percent(move.prior)),
    make("td", { class: "line" }, (move.line || []).slice(1, 9).join(" ")),
  );
}

// What the move that led here has cost its player, where both positions were searched.
function costOf(node) {
  const before = node.parent?.analysis;
  if (!before || !before.moves?.length || typeof node.analysis?.value !== "number") return null;
  const same = node.parent.position.toMove === node.position.toMove;
  const cost = before.best === node.move ? 0 : Math.max(0, (before.value - (same ? 1 : -1) * node.analysis.value) / 2);
  const words = cost < 0.01 ? `${node.move} cost nothing.` : `${node.move} cost ${Math.round(100 * cost)} points of win chance; the search liked ${before.best} best.`;
  return make("p", { class: cost >= 0.1 ? "bad" : "soft" }, words);
}
