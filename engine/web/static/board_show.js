// The board page's parts, drawn from what it knows.

import { drawAnalysis, marksOf } from "./analysis_view.js";
import { drawChart } from "./chart.js";
import { byId, make, patch, svg } from "./dom.js";
import { drawMoves, drawSummary } from "./moves_view.js";
import { DEPTHS, engineToMove, fail, node, page, position, say } from "./page_state.js";
import { drawPiece } from "./pieces.js";

export function tell() {
  const now = position();
  const { players } = page.facts;
  const last = node().parent ? `${players[node().parent.position.toMove]} played ${node().move}. ` : "";
  say(now.over ? `${last}${now.ending}` : `${last}${players[now.toMove]} to move.`);
}

export function show() {
  const now = position();
  if (page.board) {
    const below = page.sides.person ?? page.facts.board.below;
    page.board.flipped = page.flipped ?? (page.facts.board.flips && below !== page.facts.board.below);
    page.board.enabled = !now.over && !page.thinking && page.sides.of(now.toMove) === "person";
    page.board.show(now);
  } else {
    patch(byId("board"), make("pre", { tabindex: 0, role: "region", "aria-label": "Position" }, now.render));
  }
  showChoices();
  showPlayers();
  showMoves();
  showAnalysis();
  showButtons();
  page.files.show(now);
}

// Moves without squares (a pass), or all moves of a game without a board.
function showChoices() {
  const now = position();
  const free = page.sides.of(now.toMove) === "person" && !page.thinking;
  const found = free ? now.legal.filter((move) => !move.cells.length) : [];
  const button = (move) => make("button", { type: "button", onclick: () => page.play(move.text).catch(fail) }, page.board && move.text === "pass" ? "Pass" : move.text);
  patch(byId("choices"), ...found.map(button));
  byId("choices").hidden = !found.length;
}

function showPlayers() {
  const now = position();
  const turned = page.board ? page.board.flipped : page.sides.person === 1;
  const below = page.facts.board?.flips ? page.facts.board.below : page.sides.person ?? 0;
  const bottom = page.facts.board?.flips && turned ? 1 - below : below;
  for (const [id, player] of [["player-top", 1 - bottom], ["player-bottom", bottom]]) {
    const side = page.sides.of(player);
    const who = side === "person" ? "person" : side === "full" ? page.sides.model : `${page.sides.model}, level ${side}`;
    patch(
      byId(id),
      signOf(player),
      make("span", { class: "name" }, page.facts.players[player]),
      make("span", { class: "soft" }, who),
      !now.over && now.toMove === player ? make("span", { class: "turn" }, page.thinking ? "thinking" : "to move") : null,
      now.counts ? make("b", { class: "count" }, String(now.counts[player])) : null,
    );
  }
}

function signOf(player) {
  const { board } = page.facts;
  const piece = board && Object.values(board.pieces).find((one) => one.player === player);
  if (!piece) return null;
  return svg("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" }, svg("rect", { width: 1, height: 1, fill: board.colors.ground }), drawPiece(piece, board.colors, 0.5, 0.5));
}

export function showMoves() {
  const chosen = (at) => page.goTo(at, false).catch(fail);
  const { players } = page.facts;
  drawMoves(byId("moves"), page.tree, page.tree.root.position.toMove, chosen);
  drawChart(byId("chart"), page.tree.line, node(), players, chosen);
  if (page.summary) drawSummary(byId("review-result"), page.summary.summary, page.summary.nodes, players, chosen);
  else if (!page.reviewing) patch(byId("review-result"));
}

export function showAnalysis() {
  const visible = page.analyzing || page.hinted === node();
  const answer = visible && !position().over ? node().analysis : null;
  page.board?.setMarks(answer ? marksOf(answer, position().legal) : []);
  if (!page.sides.isModel) patch(byId("analysis"), make("p", { class: "soft" }, "This engine has no network: choose a model to analyze with."));
  else drawAnalysis(byId("analysis"), visible ? node() : { analysis: null }, page.facts.players, (text) => page.play(text).catch(fail));
  drawChart(byId("chart"), page.tree.line, node(), page.facts.players, (at) => page.goTo(at, false).catch(fail));
}

export function showButtons() {
  const at = node();
  const line = page.tree.line;
  for (const id of ["first", "back", "take-back", "remove"]) byId(id).disabled = !at.parent;
  for (const id of ["forward", "last"]) byId(id).disabled = line.at(-1) === at;
  byId("go").disabled = Boolean(page.thinking) || !engineToMove();
  byId("stop").disabled = !page.thinking && !page.searching && !page.reviewing;
  byId("analyze").setAttribute("aria-pressed", String(page.analyzing));
  byId("deeper").disabled = !page.analyzing || position().over || !page.sides.isModel || page.depth === DEPTHS.length - 1;
  byId("hint").disabled = position().over || Boolean(page.thinking);
  byId("review").textContent = page.reviewing ? "Stop the review" : "Review the game";
}
