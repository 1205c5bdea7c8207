// The ground of a board: lines between squares, or hexagonal cells with edges in the colors of who connects them.

import { svg } from "./dom.js";

// Corners of a cell around its middle: rows stand one apart and are moved by half a cell, so that they fit together.
const [TOP, BOTTOM] = [[0, -2 / 3], [0, 2 / 3]];
const [UPPER_LEFT, UPPER_RIGHT, LOWER_LEFT, LOWER_RIGHT] = [[-0.5, -1 / 3], [0.5, -1 / 3], [-0.5, 1 / 3], [0.5, 1 / 3]];
const HEXAGON = [TOP, UPPER_RIGHT, LOWER_RIGHT, BOTTOM, LOWER_LEFT, UPPER_LEFT];

// view: a BoardView.
export function drawLines({ board, rows, columns }) {
  const faint = board.lines ? { "stroke-width": 0.04, opacity: 1 } : { "stroke-width": 0.02, opacity: 0.45 };
  const group = svg("g", { stroke: board.colors.lines, ...faint });
  for (let x = 1; x < columns; x += 1) group.append(svg("line", { x1: x, x2: x, y1: 0, y2: rows }));
  for (let y = 1; y < rows; y += 1) group.append(svg("line", { y1: y, y2: y, x1: 0, x2: columns }));
  return group;
}

export function drawHexagons(view) {
  const { colors, edges } = view.board;
  const group = svg("g");
  const last = new Set(view.position.last.map(String));
  view.position.cells.forEach((signs, row) =>
    signs.forEach((sign, column) => {
      const fill = last.has(String([row, column])) ? colors.last : colors.ground;
      const points = path(view, [[row, column]], HEXAGON);
      group.append(svg("polygon", { points, fill, stroke: colors.lines, "stroke-width": 0.03 }));
    }),
  );
  if (edges) group.append(...drawEdges(view, edges));
  return group;
}

function drawEdges(view, [across, down]) {
  const columns = [...Array(view.columns).keys()];
  const rows = [...Array(view.rows).keys()];
  const [bottom, right] = [view.rows - 1, view.columns - 1];
  const lines = [
    [across, columns.map((column) => [0, column]), [UPPER_LEFT, TOP, UPPER_RIGHT]],
    [across, columns.map((column) => [bottom, column]), [LOWER_LEFT, BOTTOM, LOWER_RIGHT]],
    [down, rows.map((row) => [row, 0]), [UPPER_LEFT, LOWER_LEFT, BOTTOM]],
    [down, rows.map((row) => [row, right]), [TOP, UPPER_RIGHT, LOWER_RIGHT]],
  ];
  const stroke = { fill: "none", "stroke-width": 0.14, "stroke-linejoin": "round", "stroke-linecap": "round" };
  return lines.map(([player, cells, corners]) =>
    svg("polyline", { points: path(view, cells, corners), stroke: view.board.colors.players[player], ...stroke }),
  );
}

function path(view, cells, corners) {
  const points = cells.flatMap((cell) => {
    const [y, x] = view.spot(cell);
    return corners.map(([right, down]) => `${x + 0.5 + right},${y + 0.5 + down}`);
  });
  return points.join(" ");
}
