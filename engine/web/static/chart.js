// The win chance over the game, of the player who begins: a curve with the mistakes marked.

import { chance, make, patch, svg } from "./dom.js";

const [WIDTH, HEIGHT, EDGE] = [600, 120, 8];
const SHAPES = { inaccuracy: "warn", mistake: "warn", blunder: "bad" };

// The value of a node in [-1, 1], of the player who begins; null where it is not known.
export function valueOf(node) {
  if (node.position?.over) return node.position.winner === null ? 0 : node.position.winner === 0 ? 1 : -1;
  if (node.analysis && typeof node.analysis.value === "number" && node.position) {
    return node.position.toMove === 0 ? node.analysis.value : -node.analysis.value;
  }
  return node.review ? node.review.value : null;
}

export function drawChart(place, line, current, players, chosen) {
  const values = line.map(valueOf);
  const known = values.map((value, ply) => [ply, value]).filter(([, value]) => value !== null);
  if (known.length < 2) {
    patch(place);
    return;
  }
  const x = (ply) => EDGE + ((WIDTH - 2 * EDGE) * ply) / Math.max(1, line.length - 1);
  const y = (value) => EDGE + ((HEIGHT - 2 * EDGE) * (1 - value)) / 2;
  const points = known.map(([ply, value]) => `${x(ply).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const ends = [x(known[0][0]), x(known.at(-1)[0])];
  const at = line.indexOf(current);
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", preserveAspectRatio: "none", "aria-label": said(line, known, players) },
    svg("rect", { width: WIDTH, height: HEIGHT, class: "zone" }),
    svg("polygon", { points: `${ends[0]},${y(0)} ${points} ${ends[1]},${y(0)}`, class: "area" }),
    svg("line", { x1: 0, x2: WIDTH, y1: y(0), y2: y(0), class: "half" }),
    svg("line", { x1: x(at), x2: x(at), y1: 0, y2: HEIGHT, class: "now" }),
    svg("polyline", { points, class: "curve" }),
  );
  line.forEach((node, ply) => {
    const mark = ply > 0 && line[ply - 1].review?.played === node.move ? line[ply - 1].review.mark : null;
    if (!mark || values[ply] === null) return;
    const [cx, cy] = [x(ply), y(values[ply])];
    drawing.append(svg("path", { d: `M${cx - 5} ${cy + 5} L${cx} ${cy - 6} L${cx + 5} ${cy + 5} Z`, class: SHAPES[mark] }));
  });
  drawing.onclick = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width * WIDTH - EDGE) / (WIDTH - 2 * EDGE);
    const ply = Math.round(share * (line.length - 1));
    chosen(line[Math.min(line.length - 1, Math.max(0, ply))]);
  };
  const names = make("div", { class: "chart-names" }, make("span", {}, `Above: ${players[0]} ahead`), make("span", {}, at < 0 || values[at] === null ? "here: unknown" : `here: ${players[0]} ${chance(values[at])}`));
  patch(place, drawing, names);
}

function said(line, known, players) {
  const last = known.at(-1);
  return `Win chance of ${players[0]} over ${line.length - 1} moves: ${chance(known[0][1])} at the start, ${chance(last[1])} after move ${last[0]}.`;
}
