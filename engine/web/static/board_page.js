// The board page: what follows when a person, or the engine, does something.

import { ask, onLost, stream } from "./api.js";
import { show, showAnalysis, showButtons, showMoves, tell } from "./board_show.js";
import { BoardView } from "./board_view.js";
import { byId, fill, make, options } from "./dom.js";
import { FilesView } from "./files_view.js";
import { DEPTHS, engineToMove, fail, node, PAGE, page, position, say } from "./page_state.js";
import { Sides } from "./sides.js";
import { fromHash, keep, kept, toHash } from "./store.js";
import { GameTree } from "./tree.js";

const REVIEW = 200; // simulations a position
const HINT = 400;

const body = (at = node(), start = page.tree.start) => ({ game: page.facts.game, start, moves: at.moves });
const asked = (at) => ({ ...body(at), model: page.sides.model, page: PAGE });

function stop(...names) {
  for (const name of names) {
    page[name]?.abort();
    page[name] = null;
  }
}

// Games

let opening = Promise.resolve();
let wanted = 0; // of the games that were asked for, the last one's number

// One after another: the arrow keys go through the list of games faster than they open. True where it was opened.
function openGame(name, given = {}) {
  wanted += 1;
  const number = wanted;
  stop("thinking", "searching", "reviewing");
  document.querySelector("main").inert = true; // what a person does meanwhile would mean the game before
  opening = opening.catch(() => {}).then(() => number === wanted && openNow(name, given, () => number === wanted));
  return opening;
}

async function openNow(name, { start = null, moves = [], tree = null, settings = null }, last) {
  byId("fault").hidden = true;
  try {
    await opened(await ask("/api/game", { game: name }), start, moves, tree, settings);
    if (last()) document.documentElement.dataset.ready = name;
  } finally {
    if (last()) {
      document.querySelector("main").inert = false;
      if (page.facts) byId("game").value = page.facts.game;
    }
  }
  return last();
}

async function opened(facts, start, moves, tree, settings) {
  const name = facts.game;
  const found = tree || new GameTree(start);
  const at = tree ? tree.current : found.addLine(moves);
  at.position ||= await ask("/api/position", { game: name, start: found.start, moves: at.moves });
  page.facts = facts;
  page.sides.setGame(facts);
  if (settings) page.sides.restore(settings);
  document.title = `${name} · az`;
  byId("title").textContent = `Board: ${name}`;
  byId("move-help").textContent = `Write a move: ${facts.board ? facts.board.moveHelp : "as the buttons show them"}.`;
  page.board = facts.board ? new BoardView(byId("board"), facts, (text) => play(text).catch(fail), say) : null;
  byId("board").className = facts.board ? "board" : "board text";
  fill(byId("board"));
  page.flipped = null;
  await setTree(found, at, false);
}

// A game in place of the one on the board, which stays until the position is known: what ends meanwhile shows it.
async function setTree(tree, at, live) {
  const before = halts;
  await positionOf(at, tree.start);
  Object.assign(page, { tree, summary: null });
  tree.current = at;
  await goTo(at, live && before === halts);
}

async function newGame() {
  stop("thinking", "searching", "reviewing");
  const tree = new GameTree();
  page.sides.spent = [0, 0];
  page.seed = Math.floor(Math.random() * 2 ** 31);
  await setTree(tree, tree.root, true);
}

async function load({ start, moves }) {
  stop("thinking", "searching", "reviewing");
  const tree = new GameTree(start);
  await setTree(tree, tree.addLine(moves), false);
}

// Moves

let going = 0; // to a position: the number of times that one was asked for
let halts = 0; // the number of times that a person has pressed Stop

async function positionOf(at, start = page.tree.start) {
  at.position ||= await ask("/api/position", body(at, start));
  return at.position;
}

// Show a node. live: the game goes on from there, so the engine answers. Of several that are asked for the last counts.
async function goTo(at, live) {
  stop("thinking", "searching");
  byId("fault").hidden = true;
  const number = (going += 1);
  const before = halts;
  await positionOf(at);
  if (at.parent) await positionOf(at.parent);
  if (page.tree.root !== at) await positionOf(page.tree.root);
  if (number !== going) return;
  page.tree.current = at;
  page.hinted = null;
  show();
  tell();
  keepAll();
  if (live && before === halts && engineToMove()) await think();
  else if (page.analyzing) await search(DEPTHS[page.depth]);
}

// signal: of the engine's move, which a person may stop until it is on the board.
async function play(text, signal) {
  const from = node();
  const found = await ask("/api/position", { ...body(from), moves: [...from.moves, text] }, signal);
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

async function think() {
  stop("thinking", "searching");
  const at = node();
  const signal = (page.thinking = new AbortController());
  show();
  try {
    const best = await page.sides.think({ ...asked(at), seed: page.seed }, at.position.toMove, (answer) => heard(at, answer, page.analyzing), signal.signal);
    await play(best, signal.signal);
  } finally {
    if (page.thinking === signal) page.thinking = null;
    show();
  }
}

// An answer of the search about a node; the deepest one is kept.
function heard(at, answer, shown) {
  if (answer.waiting) {
    const doing = page.thinking ? `${page.facts.players[at.position.toMove]} is thinking.` : "The engine looks at this position.";
    say(answer.waiting === "thinking" ? doing : `Getting ready: ${answer.waiting}`);
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
    halts += 1;
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
  on("game", "change", () => openGame(byId("game").value).then((open) => open && play0()));
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
  Object.assign(page, { goTo, play });
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
    await openGame(about.game, { start: about.start, moves: about.moves, settings: usual });
  } else {
    const old = kept(from.game);
    const same = old && old.tree.start === from.start && JSON.stringify(old.tree.current.moves) === JSON.stringify(from.moves);
    const given = same ? { tree: old.tree, settings: old.settings } : { ...from, settings: usual };
    await openGame(from.game, given).catch(async (error) => {
      await openGame(from.game, { settings: usual }); // moves of the address that the game does not have
      fail(error);
    });
  }
  const loaded = !from && about.moves.length; // it stays as it is until a person goes on
  await (loaded || node().children.length ? null : engineToMove() ? think() : null);
}

begin().catch(fail);
