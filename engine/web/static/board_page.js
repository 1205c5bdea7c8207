// The board page: what follows when a person, or the engine, does something.

import { ask, onLost, stream } from "./api.js";
import { drawAnalysis, marksOf } from "./analysis_view.js";
import { BoardView } from "./board_view.js";
import { drawChart } from "./chart.js";
import { byId, fill, make, options, svg } from "./dom.js";
import { FilesView } from "./files_view.js";
import { drawMoves, drawSummary } from "./moves_view.js";
import { drawPiece } from "./pieces.js";
import { Sides } from "./sides.js";
import { fromHash, keep, kept, toHash } from "./store.js";
import { GameTree } from "./tree.js";

const PAGE = crypto.randomUUID(); // its searches share a tree on the server
const DEPTHS = [400, 2000, 10000, 50000, 250000, 500000]; // visits of an analysis, deeper and deeper
const REVIEW = 200; // simulations a position
const HINT = 400;

const page = {
  facts: null, tree: new GameTree(), board: null, sides: null, files: null,
  seed: Math.floor(Math.random() * 2 ** 31), depth: 0, analyzing: false, hinted: null, flipped: null, summary: null,
  thinking: null, searching: null, reviewing: null, // AbortControllers of what runs
};

const node = () => page.tree.current;
const position = () => node().position;
const body = (at = node()) => ({ game: page.facts.game, start: page.tree.start, moves: at.moves });
const asked = (at) => ({ ...body(at), model: page.sides.model, page: PAGE });

function say(text) {
  byId("status").textContent = text;
}

function fail(error) {
  if (error?.name === "AbortError") return;
  byId("fault").textContent = String(error?.message || error);
  byId("fault").hidden = false;
}

function stop(...names) {
  for (const name of names) {
    page[name]?.abort();
    page[name] = null;
  }
}

// Games

async function openGame(name, { start = null, moves = [], tree = null, settings = null } = {}) {
  stop("thinking", "searching", "reviewing");
  byId("fault").hidden = true;
  const facts = await ask("/api/game", { game: name });
  page.facts = facts;
  page.summary = null;
  page.sides.setGame(facts);
  if (settings) page.sides.restore(settings);
  byId("game").value = name;
  document.title = `${name} · az`;
  byId("title").textContent = `Board: ${name}`;
  byId("move-help").textContent = `Write a move: ${facts.board ? facts.board.moveHelp : "as the buttons show them"}.`;
  page.board = facts.board ? new BoardView(byId("board"), facts, (text) => play(text).catch(fail), say) : null;
  byId("board").className = facts.board ? "board" : "board text";
  fill(byId("board"));
  page.tree = tree || new GameTree(start);
  page.flipped = null;
  await goTo(tree ? tree.current : page.tree.addLine(moves), false);
}

async function newGame() {
  stop("thinking", "searching", "reviewing");
  page.tree = new GameTree();
  page.summary = null;
  page.sides.spent = [0, 0];
  page.seed = Math.floor(Math.random() * 2 ** 31);
  await goTo(page.tree.root, true);
}

async function load({ start, moves }) {
  stop("thinking", "searching", "reviewing");
  const tree = new GameTree(start);
  const last = tree.addLine(moves);
  await positionOf(last, { ...body(last), start }); // a wrong one leaves the game at the board as it is
  page.tree = tree;
  page.summary = null;
  await goTo(last, false);
}

// Moves

async function positionOf(at, question = body(at)) {
  at.position ||= await ask("/api/position", question);
  return at.position;
}

// Show a node. live: the game goes on from there, so the engine answers.
async function goTo(at, live) {
  stop("thinking", "searching");
  byId("fault").hidden = true;
  await positionOf(at);
  if (at.parent) await positionOf(at.parent);
  if (page.tree.root !== at) await positionOf(page.tree.root);
  page.tree.current = at;
  page.hinted = null;
  show();
  tell();
  keepAll();
  if (live && engineToMove()) await think();
  else if (page.analyzing) await search(DEPTHS[page.depth]);
}

async function play(text) {
  const from = node();
  const found = await ask("/api/position", { ...body(from), moves: [...from.moves, text] });
  if (from !== node()) return; // the person went elsewhere meanwhile
  const line = page.tree.line.length;
  const next = page.tree.add(found.moves.at(-1), found, from);
  if (page.tree.line.length !== line) page.summary = null;
  await goTo(next, true);
}

function keepAll() {
  history.replaceState(null, "", toHash(page.facts.game, page.tree));
  keep(page.facts.game, page.tree, page.sides.settings);
}

async function takeBack() {
  let at = node();
  if (!at.parent) return;
  const person = page.sides.person;
  do at = at.parent;
  while (at.parent && person !== null && (await positionOf(at)).toMove !== person);
  const gone = page.tree.line[page.tree.line.indexOf(at) + 1];
  page.tree.remove(gone);
  page.summary = null;
  await goTo(at, true);
}

async function remove() {
  const gone = node();
  if (!gone.parent) return;
  page.tree.remove(gone);
  page.summary = null;
  await goTo(page.tree.current, false);
}

// The engine

function engineToMove() {
  return !position().over && page.sides.of(position().toMove) !== "person";
}

async function think() {
  stop("thinking", "searching");
  const at = node();
  const signal = (page.thinking = new AbortController());
  show();
  try {
    const best = await page.sides.think({ ...asked(at), seed: page.seed }, at.position.toMove, (answer) => heard(at, answer, page.analyzing), signal.signal);
    if (signal.signal.aborted) return;
    page.thinking = null;
    await play(best);
  } finally {
    if (page.thinking === signal) page.thinking = null;
    show();
  }
}

// An answer of the search about a node; the deepest one is kept.
function heard(at, answer, shown) {
  if (answer.waiting) {
    say(answer.waiting === "thinking" ? `${page.facts.players[at.position.toMove]} is thinking.` : `Getting ready: ${answer.waiting}`);
    return;
  }
  if (answer.moves?.length && answer.visits >= (at.analysis?.visits || 0)) at.analysis = answer;
  if (at === node() && shown) showAnalysis();
  if (at === node() && answer.done) tell();
}

async function search(visits) {
  stop("searching");
  const at = node();
  if (at.position.over || !page.sides.isModel) {
    showAnalysis();
    return;
  }
  if ((at.analysis?.visits || 0) >= visits) {
    showAnalysis();
    return;
  }
  const signal = (page.searching = new AbortController());
  showButtons();
  try {
    await stream("/api/analyze", { ...asked(at), visits }, (answer) => heard(at, answer, true), signal.signal);
  } finally {
    if (page.searching === signal) page.searching = null;
    showButtons();
  }
}

async function hint() {
  const at = node();
  if (at.position.over) return;
  if (!page.sides.isModel) throw new Error("choose a model as the engine: only a network has an opinion to show.");
  await search(HINT);
  if (at !== node() || !at.analysis) return;
  page.hinted = at;
  showAnalysis();
  say(`Hint: ${at.analysis.best}.`);
}

async function review() {
  if (page.reviewing) {
    stop("reviewing");
    show();
    return;
  }
  if (!page.sides.isModel) throw new Error("choose a model as the engine: only a network can review a game.");
  const nodes = page.tree.line;
  if (nodes.length < 2) throw new Error("there is no move to review yet.");
  const signal = (page.reviewing = new AbortController());
  let done = 0;
  showButtons();
  try {
    await stream("/api/review", { ...asked(nodes.at(-1)), simulations: REVIEW }, (answer) => {
      if (answer.waiting) return;
      for (const row of answer.rows) nodes[row.ply].review = row;
      done += answer.rows.length;
      byId("file-note").textContent = "";
      fill(byId("review-result"), make("p", { class: "soft", role: "status" }, `Reviewed ${done} of ${answer.of} positions.`));
      if (answer.summary) page.summary = { summary: answer.summary, nodes };
      showMoves();
    }, signal.signal);
  } finally {
    if (page.reviewing === signal) page.reviewing = null;
    show();
  }
}

// What is shown

function tell() {
  const now = position();
  const { players } = page.facts;
  const last = node().parent ? `${players[node().parent.position.toMove]} played ${node().move}. ` : "";
  say(now.over ? `${last}${now.ending}` : `${last}${players[now.toMove]} to move.`);
}

function show() {
  const now = position();
  if (page.board) {
    const below = page.sides.person ?? page.facts.board.below;
    page.board.flipped = page.flipped ?? (page.facts.board.flips && below !== page.facts.board.below);
    page.board.enabled = !now.over && !page.thinking && page.sides.of(now.toMove) === "person";
    page.board.show(now);
  } else {
    fill(byId("board"), make("pre", { tabindex: 0, role: "region", "aria-label": "Position" }, now.render));
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
  const button = (move) => make("button", { type: "button", onclick: () => play(move.text).catch(fail) }, page.board && move.text === "pass" ? "Pass" : move.text);
  fill(byId("choices"), ...found.map(button));
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
    fill(
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

function showMoves() {
  const chosen = (at) => goTo(at, false).catch(fail);
  const { players } = page.facts;
  drawMoves(byId("moves"), page.tree, page.tree.root.position.toMove, chosen);
  drawChart(byId("chart"), page.tree.line, node(), players, chosen);
  if (page.summary) drawSummary(byId("review-result"), page.summary.summary, page.summary.nodes, players, chosen);
  else if (!page.reviewing) fill(byId("review-result"));
}

function showAnalysis() {
  const visible = page.analyzing || page.hinted === node();
  const answer = visible && !position().over ? node().analysis : null;
  page.board?.setMarks(answer ? marksOf(answer, position().legal) : []);
  if (!page.sides.isModel) fill(byId("analysis"), make("p", { class: "soft" }, "This engine has no network: choose a model to analyze with."));
  else drawAnalysis(byId("analysis"), visible ? node() : { analysis: null }, page.facts.players, (text) => play(text).catch(fail));
  drawChart(byId("chart"), page.tree.line, node(), page.facts.players, (at) => goTo(at, false).catch(fail));
}

function showButtons() {
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

// What a person does

function on(id, kind, work) {
  byId(id).addEventListener(kind, async (event) => {
    event.preventDefault();
    try {
      await work();
    } catch (error) {
      fail(error);
    }
  });
}

const actions = {
  first: () => goTo(page.tree.root, false),
  back: () => node().parent && goTo(node().parent, false),
  forward: () => node().children[0] && goTo(node().children[0], false),
  last: () => goTo(page.tree.line.at(-1), false),
};

function listen() {
  for (const [id, work] of Object.entries(actions)) on(id, "click", work);
  on("new", "click", newGame);
  on("take-back", "click", takeBack);
  on("remove", "click", remove);
  on("hint", "click", hint);
  on("review", "click", review);
  on("go", "click", think);
  on("stop", "click", () => {
    stop("thinking", "searching", "reviewing");
    page.analyzing = false;
    show();
  });
  on("flip", "click", () => {
    if (!page.board) return;
    page.flipped = !page.board.flipped;
    show();
  });
  on("analyze", "click", async () => {
    page.analyzing = !page.analyzing;
    page.depth = 0;
    if (!page.analyzing) stop("searching");
    show();
    if (page.analyzing && !page.thinking) await search(DEPTHS[0]);
  });
  on("deeper", "click", () => {
    while (page.depth < DEPTHS.length - 1 && DEPTHS[page.depth] <= (node().analysis?.visits || 0)) page.depth += 1;
    return search(DEPTHS[page.depth]);
  });
  on("type", "submit", async () => {
    await play(byId("typed").value);
    byId("typed").value = "";
  });
  on("game", "change", () => openGame(byId("game").value).then(() => play0()));
  document.addEventListener("keydown", (event) => {
    const inField = event.target.closest("input, textarea, select, [role=gridcell], .scroll, pre");
    const work = { ArrowLeft: "back", ArrowRight: "forward", Home: "first", End: "last" }[event.key];
    if (!work || inField || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    Promise.resolve(actions[work]()).catch(fail);
  });
}

// A game that has just begun: where the engine has the first move, it plays.
async function play0() {
  if (!node().parent && engineToMove()) await think();
}

async function sidesChanged() {
  stop("thinking", "searching");
  show();
  keepAll();
  if (engineToMove() && !node().children.length) await think();
  else if (page.analyzing) await search(DEPTHS[page.depth]);
}

async function begin() {
  onLost((lost) => (byId("lost").hidden = !lost));
  const about = await ask("/api/begin", {});
  options(byId("game"), about.games.map((name) => [name, name]), about.game);
  page.sides = new Sides(about.levels, () => sidesChanged().catch(fail));
  page.files = new FilesView({ game: () => page.facts.game, body, load, fail });
  page.sides.setEffort(about.simulations, about.seconds);
  listen();
  const usual = { sides: about.sides, model: about.model, effort: about.seconds ? `secs:${about.seconds}` : `sims:${about.simulations}` };
  const from = fromHash(location.hash);
  if (!from || !about.games.includes(from.game)) {
    await openGame(about.game, { start: about.start, settings: usual });
  } else {
    const old = kept(from.game);
    const same = old && old.tree.start === from.start && JSON.stringify(old.tree.current.moves) === JSON.stringify(from.moves);
    await openGame(from.game, same ? { tree: old.tree, settings: old.settings } : { ...from, settings: usual });
  }
  document.documentElement.dataset.ready = "true";
  await (node().children.length ? null : engineToMove() ? think() : null);
}

begin().catch(fail);
