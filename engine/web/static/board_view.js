// The board: a drawing (SVG, hidden from screen readers) below a grid of squares that take clicks, drags and keys.

import { fill, make, svg } from "./dom.js";
import { drawHexagons, drawLines } from "./ground.js";
import { drawPiece } from "./pieces.js";

const GUTTER = 0.55; // squares; for the names of rows and columns

export class BoardView {
  // place: the element to fill. facts: of /api/game. played(text): a legal move was chosen. say(text): for people.
  constructor(place, facts, played, say) {
    Object.assign(this, { place, facts, played, say });
    this.board = facts.board;
    this.flipped = false;
    this.enabled = true;
    this.picked = null; // {cell, moves, at}: a piece that was taken up
    this.marks = []; // of the analysis: {cells, text, weight, best}
    this.focus = [0, 0];
    this.drag = null;
    this.labels = new Map((this.board?.labels || []).map(([row, column, text]) => [`${row},${column}`, text]));
  }

  show(position) {
    this.position = position;
    this.picked = null;
    this.draw();
  }

  setMarks(marks) {
    this.marks = marks;
    if (this.position && this.overlay) this.drawOverlay();
  }

  get rows() {
    return this.position.cells.length;
  }

  get columns() {
    return Math.max(...this.position.cells.map((row) => row.length));
  }

  // Where a square is drawn.
  at([row, column]) {
    return this.flipped ? [this.rows - 1 - row, this.columns - 1 - column] : [row, column];
  }

  // The same in the drawing, where rows of hexagonal cells are moved by half a cell each.
  spot(cell) {
    const [y, x] = this.at(cell);
    return [y, x + this.shift(y)];
  }

  shift(y) {
    return this.board.slanted ? y / 2 : 0;
  }

  get span() {
    return this.columns + this.shift(this.rows - 1);
  }

  draw() {
    const { board, rows } = this;
    const columns = this.span + (board.slanted ? 0.1 : 0); // the stroke of the last cell
    const left = board.rowLabels.length ? GUTTER : 0;
    const names = board.columnLabels.length ? GUTTER : 0;
    const top = names && !board.columnsBelow ? names : 0;
    const [width, height] = [columns + left, rows + names + (board.slanted ? GUTTER : 0)];
    const viewBox = `${-left} ${-top} ${width} ${height}`;
    const drawing = svg("svg", { viewBox, "aria-hidden": "true", class: "drawing" });
    drawing.append(this.drawGround(), this.drawNames(left, top), this.drawPieces());
    this.overlay = svg("g");
    drawing.append(this.overlay);
    this.cells = make("div", { role: "grid", "aria-label": `Board of ${this.facts.game}`, class: "cells" });
    this.cells.style.left = `${(100 * left) / width}%`;
    this.cells.style.top = `${(100 * top) / height}%`;
    this.cells.style.width = `${(100 * this.span) / width}%`;
    this.cells.style.height = `${(100 * rows) / height}%`;
    this.buildCells();
    const hadFocus = this.place.contains(document.activeElement);
    this.place.style.setProperty("--ratio", `${width} / ${height}`);
    this.place.classList.toggle("drags", this.position.legal.some((move) => move.cells.length > 1));
    fill(this.place, drawing, this.cells);
    this.drawOverlay();
    if (hadFocus) this.cellAt(this.focus)?.focus();
  }

  drawGround() {
    const { colors, lines, byColumn } = this.board;
    if (this.board.slanted) return drawHexagons(this);
    const group = svg("g");
    group.append(svg("rect", { width: this.columns, height: this.rows, fill: colors.ground, rx: byColumn ? 0.2 : 0.04 }));
    const last = new Set(this.position.last.map(String));
    this.position.cells.forEach((signs, row) =>
      signs.forEach((sign, column) => {
        const [y, x] = this.at([row, column]);
        const ground = sign === "" ? colors.noSquare : last.has(String([row, column])) ? colors.last : null;
        const color = ground || ((row + column) % 2 && colors.alternate) || null;
        if (byColumn) {
          group.append(svg("circle", { cx: x + 0.5, cy: y + 0.5, r: 0.42, fill: color || "#06122f" }));
        } else if (color) {
          group.append(svg("rect", { x, y, width: 1, height: 1, fill: color }));
        }
        const label = this.labels.get(`${row},${column}`);
        if (label && sign !== "") {
          const small = label.length > 1 || this.labels.size > 30;
          const place = small ? { x: x + 0.04, y: y + 0.18, "font-size": 0.17 } : { x: x + 0.1, y: y + 0.26, "font-size": 0.22 };
          group.append(svg("text", { ...place, fill: colors.label }, label));
        }
      }),
    );
    if (lines || !byColumn) group.append(drawLines(this));
    return group;
  }

  drawNames(left, top) {
    const group = svg("g", { class: "names", "text-anchor": "middle", "dominant-baseline": "central", "font-size": 0.3 });
    this.board.columnLabels.forEach((name, column) => {
      const x = (this.flipped ? this.columns - 1 - column : column) + (this.board.slanted ? 0 : 0.5);
      group.append(svg("text", { x, y: top ? -top / 2 : this.rows + GUTTER / 2 }, name));
    });
    this.board.rowLabels.forEach((name, row) => {
      const y = this.flipped ? this.rows - 1 - row : row;
      group.append(svg("text", { x: this.shift(y) - left / 2, y: y + 0.5 }, name));
    });
    return group;
  }

  drawPieces() {
    const group = svg("g");
    const won = new Set(this.position.won.map(String));
    this.eachPiece((sign, cell) => {
      const [y, x] = this.spot(cell);
      const piece = this.board.pieces[sign];
      const drawn = drawPiece(piece, this.board.colors, x + 0.5, y + 0.5);
      drawn.dataset.cell = String(cell);
      group.append(drawn);
      if (won.has(String(cell))) {
        const ring = { cx: x + 0.5, cy: y + 0.5, r: 0.43, fill: "none", stroke: "#ffffff", "stroke-width": 0.08 };
        group.append(svg("circle", { ...ring, stroke: "#10141b", "stroke-width": 0.12 }), svg("circle", ring));
      }
    });
    for (const cell of this.position.last) {
      const [y, x] = this.spot(cell);
      const round = this.board.byColumn ? 0.46 : 0.08;
      const mark = { x: x + 0.04, y: y + 0.04, width: 0.92, height: 0.92, rx: round, fill: "none" };
      group.append(svg("rect", { ...mark, stroke: "#ffffff", "stroke-width": 0.05, "stroke-dasharray": ".14 .1" }));
    }
    return group;
  }

  eachPiece(told) {
    this.position.cells.forEach((signs, row) =>
      signs.forEach((sign, column) => {
        if (this.board.pieces[sign]) told(sign, [row, column]);
      }),
    );
  }

  // What changes while a person thinks: targets, the piece taken up, the analysis.
  drawOverlay() {
    const found = [];
    for (const mark of [...this.marks].reverse()) found.push(this.drawMark(mark));
    if (this.enabled) {
      const marked = new Set(this.marks.filter((mark) => mark.cells.length === 1).map((mark) => String(mark.cells[0])));
      const targets = [...(this.picked ? this.targets() : this.starts())].filter((key) => !marked.has(key));
      for (const key of targets) {
        const [y, x] = this.spot(key.split(",").map(Number));
        const dot = { cx: x + 0.5, cy: y + 0.5, r: this.picked ? 0.16 : 0.07, class: "target" };
        if (!this.picked && this.position.cells[key.split(",")[0]][key.split(",")[1]] !== "-") {
          found.push(svg("circle", { ...dot, r: 0.45, fill: "none", stroke: "#ffffff", "stroke-width": 0.035 }));
        } else {
          found.push(svg("circle", { ...dot, fill: "#ffffff", stroke: "#10141b", "stroke-width": 0.03 }));
        }
      }
    }
    if (this.picked) {
      const [y, x] = this.spot(this.picked.cell);
      found.push(svg("rect", { x: x + 0.05, y: y + 0.05, width: 0.9, height: 0.9, class: "picked", rx: 0.1 }));
    }
    fill(this.overlay, ...found);
  }

  drawMark({ cells, text, weight, best }) {
    const points = cells.map((cell) => this.spot(cell)).map(([y, x]) => [x + 0.5, y + 0.5]);
    const shape = svg("g", { opacity: best ? 1 : 0.45 + 0.5 * weight });
    const group = svg("g", { class: best ? "mark best" : "mark" }, shape); // its number stays as clear as it is
    const end = points.at(-1);
    if (points.length > 1) {
      const from = points.at(-2);
      const angle = Math.atan2(end[1] - from[1], end[0] - from[0]);
      const stop = [end[0] - 0.3 * Math.cos(angle), end[1] - 0.3 * Math.sin(angle)];
      const line = [...points.slice(0, -1), stop].map((point) => point.join(",")).join(" ");
      shape.append(svg("polyline", { points: line, class: "edge" }), svg("polyline", { points: line, class: "shaft" }));
      const turned = `translate(${stop[0]} ${stop[1]}) rotate(${(180 * angle) / Math.PI})`;
      shape.append(svg("path", { d: "M-.06 -.17 L.22 0 L-.06 .17 Z", transform: turned, class: "head" }));
    } else {
      shape.append(svg("circle", { cx: end[0], cy: end[1], r: 0.31, class: "spot" }));
    }
    if (text) {
      const place = points.length > 1 ? points[0] : end;
      group.append(svg("text", { x: place[0], y: place[1], class: "share" }, text));
    }
    return group;
  }

  buildCells() {
    for (let y = 0; y < this.rows; y += 1) {
      const row = make("div", { role: "row" });
      row.style.width = `${(100 * this.columns) / this.span}%`;
      row.style.marginLeft = `${(100 * this.shift(y)) / this.span}%`;
      for (let x = 0; x < this.columns; x += 1) {
        const cell = this.at([y, x]); // turning round twice changes nothing
        row.append(
          make("div", {
            role: "gridcell", class: "cell", "data-cell": String(cell), "aria-label": this.nameOf(cell),
            tabindex: String(cell) === String(this.focus) ? 0 : -1,
            "aria-selected": "false",
          }),
        );
      }
      this.cells.append(row);
    }
    if (!this.cells.querySelector('[tabindex="0"]')) this.cells.querySelector(".cell").tabIndex = 0;
    this.cells.addEventListener("keydown", (event) => this.key(event));
    this.cells.addEventListener("pointerdown", (event) => this.down(event));
    this.cells.addEventListener("pointermove", (event) => this.moved(event));
    this.cells.addEventListener("pointerup", (event) => this.up(event));
    this.cells.addEventListener("pointercancel", () => this.dropGhost());
    this.cells.addEventListener("focusin", (event) => this.focused(event.target));
  }

  focused(element) {
    this.focus = this.cellOf(element) || this.focus;
    for (const cell of this.cells.querySelectorAll('.cell[tabindex="0"]')) cell.tabIndex = -1;
    element.tabIndex = 0;
  }

  cellOf(element) {
    const found = element?.closest?.(".cell")?.dataset.cell;
    return found ? found.split(",").map(Number) : null;
  }

  cellAt(cell) {
    return this.cells.querySelector(`[data-cell="${cell}"]`);
  }

  // "square 11, Black man, can move" for those who hear the board.
  nameOf([row, column]) {
    const { board, position } = this;
    const label = this.labels.get(`${row},${column}`);
    const parts = [];
    if (label) parts.push(`square ${label}`);
    else if (board.rowLabels.length && board.columnLabels.length) parts.push(`${board.columnLabels[column]}${board.rowLabels[row]}`);
    else if (board.columnLabels.length) parts.push(`column ${board.columnLabels[column]}, row ${row + 1}`);
    else parts.push(`row ${row + 1}, column ${column + 1}`);
    const sign = position.cells[row][column];
    const piece = board.pieces[sign];
    if (piece) parts.push(`${this.facts.players[piece.player]} ${piece.name}`);
    else parts.push(sign === "" ? "not used" : "empty");
    const here = String([row, column]);
    if (position.last.some((cell) => String(cell) === here)) parts.push("last move");
    if (position.won.some((cell) => String(cell) === here)) parts.push("winning line");
    if (this.enabled && this.starts().has(here)) parts.push(piece ? "can move" : "can be played");
    return parts.join(", ");
  }

  // The squares where a move may begin.
  starts() {
    return new Set(this.position.legal.filter((move) => move.cells.length).map((move) => String(move.cells[0])));
  }

  // The squares where the piece taken up may go next, or end.
  targets() {
    const { moves, at } = this.picked;
    return new Set(moves.flatMap((move) => move.cells.slice(at + 1)).map(String));
  }

  key(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const cell = this.cellOf(event.target);
    if (!cell) return;
    const [y, x] = this.at(cell);
    let next = null;
    if (steps[event.key]) next = [y + steps[event.key][0], x + steps[event.key][1]];
    else if (event.key === "Home") next = [y, 0];
    else if (event.key === "End") next = [y, this.columns - 1];
    if (next) {
      event.preventDefault();
      event.stopPropagation(); // the page's own arrows go through the game
      const inside = [Math.min(this.rows - 1, Math.max(0, next[0])), Math.min(this.columns - 1, Math.max(0, next[1]))];
      this.cellAt(this.at(inside)).focus();
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.act(cell);
    } else if (event.key === "Escape" && this.picked) {
      event.stopPropagation();
      this.letGo();
      this.say("Put back.");
    }
  }

  // A square was chosen by a click, a drop or a key.
  act(cell, dropped = false) {
    if (!this.enabled) return;
    const here = String(cell);
    if (this.picked && here !== String(this.picked.cell)) {
      if (this.goOn(cell)) return;
      if (dropped) return;
    }
    const legal = this.position.legal;
    const column = (move) => this.board.byColumn && move.cells[0][1] === cell[1];
    const single = legal.filter((move) => move.cells.length === 1 && (String(move.cells[0]) === here || column(move)));
    const from = legal.filter((move) => move.cells.length > 1 && String(move.cells[0]) === here);
    const again = this.picked && here === String(this.picked.cell);
    this.letGo();
    if (single.length === 1) this.played(single[0].text);
    else if (from.length && (!again || dropped)) this.take(cell, from, 0);
    else if (!from.length) this.say("No move begins there.");
  }

  take(cell, moves, at) {
    this.picked = { cell, moves, at };
    this.drawOverlay();
    this.cellAt(cell)?.setAttribute("aria-selected", "true");
    const targets = [...this.targets()].map((key) => this.nameOf(key.split(",").map(Number)).split(",")[0]);
    this.say(`Taken up. It may go to ${targets.join(", ")}.`);
  }

  // The next square of the piece taken up: a whole move, or one more hop of a longer one. False: it cannot go there.
  goOn(cell) {
    const here = String(cell);
    const { moves, at } = this.picked;
    const found = moves.filter((move) => move.cells.slice(at + 1).some((one) => String(one) === here));
    const ends = found.filter((move) => String(move.cells.at(-1)) === here);
    if (ends.length === 1) {
      this.letGo();
      this.played(ends[0].text);
      return true;
    }
    if (!found.length) return false;
    if (ends.length > 1) this.say("Two ways lead there: choose a square on the way first.");
    else this.take(cell, found, found[0].cells.findIndex((one, index) => index > at && String(one) === here));
    return true;
  }

  letGo() {
    this.picked = null;
    for (const cell of this.cells.querySelectorAll('[aria-selected="true"]')) cell.setAttribute("aria-selected", "false");
    this.drawOverlay();
  }

  down(event) {
    if (event.button !== 0) return;
    const cell = this.cellOf(event.target);
    if (!cell || !this.enabled) return;
    const movable = this.position.legal.some((move) => move.cells.length > 1 && String(move.cells[0]) === String(cell));
    this.drag = { cell, x: event.clientX, y: event.clientY, ghost: null, movable };
  }

  moved(event) {
    if (!this.drag?.movable) return;
    const size = this.cells.getBoundingClientRect().width / this.span;
    const [across, down] = [(event.clientX - this.drag.x) / size, (event.clientY - this.drag.y) / size];
    if (!this.drag.ghost && Math.hypot(across, down) > 0.2) {
      this.picked = null;
      this.act(this.drag.cell, true);
      this.drag.ghost = this.place.querySelector(`.piece[data-cell="${this.drag.cell}"]`);
      this.cells.setPointerCapture(event.pointerId);
    }
    if (this.drag.ghost) {
      const [y, x] = this.spot(this.drag.cell);
      this.drag.ghost.setAttribute("transform", `translate(${x + 0.5 + across} ${y + 0.5 + down})`);
    }
  }

  up(event) {
    const drag = this.drag;
    if (!drag) return;
    const dragged = Boolean(drag.ghost);
    this.dropGhost();
    const box = this.cells.getBoundingClientRect();
    const y = Math.floor(((event.clientY - box.top) / box.height) * this.rows);
    const across = ((event.clientX - box.left) / box.width) * this.span;
    const x = Math.floor(across - this.shift(y));
    const inside = x >= 0 && y >= 0 && x < this.columns && y < this.rows;
    if (inside) this.act(this.at([y, x]), dragged);
    if (dragged && this.picked && !(inside && String(this.at([y, x])) === String(drag.cell))) this.letGo();
  }

  dropGhost() {
    if (this.drag?.ghost) {
      const [y, x] = this.spot(this.drag.cell);
      this.drag.ghost.setAttribute("transform", `translate(${x + 0.5} ${y + 0.5})`);
    }
    this.drag = null;
  }
}
