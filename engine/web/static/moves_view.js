// The list of moves in pairs, with branches below the move that they stand beside, and the review's marks.

import { make, patch, percent } from "./dom.js";

const SIGNS = { inaccuracy: "?!", mistake: "?", blunder: "??" };
const AHEAD = 3; // moves of a branch that its button names

let shown = null; // the node that was scrolled to

export function drawMoves(place, tree, firstToMove, chosen) {
  const line = tree.line.slice(1);
  if (!line.length) {
    patch(place, make("p", { class: "soft" }, "No move yet."));
    return;
  }
  const list = make("ol", { "aria-label": "Moves" });
  let row = null;
  line.forEach((node, index) => {
    const first = (index + firstToMove) % 2 === 0;
    if (first || !row) {
      row = make("li", {}, make("span", { class: "no" }, `${Math.floor((index + firstToMove) / 2) + 1}.`));
      list.append(row);
      if (!first) row.append(make("span", { class: "soft" }, "…"));
    }
    row.append(moveButton(node, tree.current, chosen));
    const others = node.parent.children.filter((one) => one !== node);
    if (others.length) {
      row.append(make("div", { class: "branches" }, "or", ...others.map((one) => branchButton(one, chosen))));
      row = null;
    }
  });
  patch(place, list);
  if (shown === tree.current) return; // the list was scrolled by its reader
  shown = tree.current;
  const now = place.querySelector("[aria-current]");
  if (now) place.scrollTop = now.offsetTop - place.offsetTop - place.clientHeight / 2;
}

function points(cost) {
  const count = Math.round(100 * cost);
  return `${count} ${count === 1 ? "point" : "points"}`;
}

function moveButton(node, current, chosen) {
  const review = node.parent.review?.played === node.move ? node.parent.review : null;
  const button = make("button", { type: "button", onclick: () => chosen(node), "aria-current": node === current ? "step" : null }, node.move);
  if (review?.mark) {
    const words = `${review.mark}, cost ${points(review.cost)}; best was ${review.best}`;
    button.title = words;
    button.append(make("span", { class: `mark-text ${review.mark}`, "aria-hidden": "true" }, SIGNS[review.mark]), make("span", { class: "unseen" }, ` ${words}`));
  }
  return button;
}

function branchButton(node, chosen) {
  const ahead = [node.move];
  for (let next = node.children[0]; next && ahead.length < AHEAD; next = next.children[0]) ahead.push(next.move);
  return make("button", { type: "button", onclick: () => chosen(node) }, ahead.join(" "));
}

// The summary of a review: a table, and a sentence about the worst move.
export function drawSummary(place, summary, nodes, players, chosen) {
  const head = make("tr", {}, ...["", "Moves", "As the search", "?!", "?", "??", "Points a move"].map((name) => make("th", { scope: "col" }, name)));
  const rows = summary.players.map((one, player) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, players[player]),
      ...[one.moves, one.moves ? percent(one.agreed / one.moves) : "–", one.inaccuracy, one.mistake, one.blunder, one.cost === null ? "–" : (100 * one.cost).toFixed(1)].map((value) => make("td", {}, String(value))),
    ),
  );
  const table = make("table", { class: "summary" }, make("caption", { class: "unseen" }, "Review"), make("thead", {}, head), make("tbody", {}, ...rows));
  const worst = summary.worst === null ? null : nodes[summary.worst + 1];
  const row = worst?.parent.review;
  const sentence = !row?.cost
    ? make("p", {}, "No move cost anything.")
    : make("p", {}, "The costliest move: ", make("button", { type: "button", class: "move-button", onclick: () => chosen(worst.parent) }, worst.move), ` (${points(row.cost)}). The search liked ${row.best} best.`);
  patch(place, make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Summary of the review" }, table), sentence);
}
