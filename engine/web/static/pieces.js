// Pieces drawn as shapes that differ without color: a ring for the second player's discs, a crown, a letter.

import { svg } from "./dom.js";

const CROWN = "M-.2 .14 L-.25 -.13 L-.11 0 L0 -.2 L.11 0 L.25 -.13 L.2 .14 Z";

// `color` of the piece's player, `ground` of the square below it.
export function drawPiece(piece, colors, x, y) {
  const color = colors.players[piece.player];
  const group = svg("g", { transform: `translate(${x} ${y})`, class: "piece" });
  const disc = { r: 0.38, fill: color, stroke: edge(color), "stroke-width": 0.035 };
  if (piece.glyph === "●") {
    group.append(svg("circle", disc));
    group.append(svg("circle", { r: 0.27, fill: "none", stroke: edge(color), "stroke-width": 0.018, opacity: 0.5 }));
  } else if (piece.glyph === "○") {
    group.append(svg("circle", disc));
    group.append(svg("circle", { r: 0.2, fill: "none", stroke: edge(color), "stroke-width": 0.09 }));
  } else if (piece.glyph === "♛") {
    group.append(svg("circle", disc), svg("path", { d: CROWN, fill: edge(color) }));
  } else if (piece.glyph === "X") {
    const line = { stroke: color, "stroke-width": 0.13, "stroke-linecap": "round" };
    group.append(svg("line", { x1: -0.26, y1: -0.26, x2: 0.26, y2: 0.26, ...line }));
    group.append(svg("line", { x1: -0.26, y1: 0.26, x2: 0.26, y2: -0.26, ...line }));
  } else if (piece.glyph === "O") {
    group.append(svg("circle", { r: 0.28, fill: "none", stroke: color, "stroke-width": 0.12 }));
  } else {
    const text = { "text-anchor": "middle", "dominant-baseline": "central", "font-size": 0.6, fill: color };
    group.append(svg("text", text, piece.glyph));
  }
  return group;
}

// Black on light colors, white on dark ones.
export function edge(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16) || 0);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 110 ? "#14181f" : "#f4f6fa";
}
