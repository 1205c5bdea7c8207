// A chart of lines: axes, intervals as bands, thresholds, and a cursor for pointer and keyboard.

import { fill, make, svg } from "./dom.js";

const [WIDTH, HEIGHT] = [420, 190];
const EDGE = { left: 46, right: 10, top: 8, bottom: 22 };
const MOST_POINTS = 300; // of a line

export class LineChart {
  // format(x): text of a place on the axis across.
  constructor(title, format) {
    this.format = format;
    this.at = null; // place of the cursor
    this.title = make("h3", {}, title);
    this.far = ""; // thresholds that lie too high to be drawn, in words
    this.plot = make("div", {
      class: "plot", tabindex: 0, role: "group", "aria-label": `${title}. Arrow keys move a cursor.`,
      onkeydown: (event) => this.key(event), onpointermove: (event) => this.moved(event), onpointerleave: () => this.point(null),
      onfocus: () => this.readout.setAttribute("aria-live", "polite"), onblur: () => this.left(),
    });
    this.key_ = make("div", { class: "key" });
    this.readout = make("div", { class: "readout", "aria-live": "off" }); // curves that grow are not read out
    this.element = make("div", { class: "card chart-card" }, this.title, this.plot, this.key_, this.readout);
  }

  // series: [{name, style, points: [[x, y] or [x, y, low, high]]}]. thresholds: [{value, name}].
  show(series, thresholds = []) {
    this.series = series.map((one) => ({ ...one, points: thinned(one.points) })).filter((one) => one.points.length);
    this.thresholds = thresholds;
    this.element.hidden = !this.series.length;
    if (!this.series.length) return;
    this.scale();
    this.draw();
    this.drawKey(series.length);
    this.point(this.at);
  }

  scale() {
    const points = this.series.flatMap((one) => one.points);
    const xs = points.map((point) => point[0]);
    const ys = points.flatMap((point) => point.slice(1).filter((value) => value !== null));
    const top = Math.max(...ys);
    // A threshold far away would flatten the line to nothing: it is then told below the chart.
    this.shown = this.thresholds.filter((one) => one.value <= 4 * top);
    const all = [...ys, ...this.shown.map((one) => one.value)];
    const least = Math.min(...all);
    const most = Math.max(...all);
    this.logs = least > 0 && most / least > 100;
    const map = this.logs ? Math.log10 : (value) => value;
    let [low, high] = [map(least), map(most)];
    if (!this.logs && low > 0 && low < 0.5 * high) low = 0;
    if (high === low) [low, high] = low === 0 ? [0, 1] : [low - 0.5, high + 0.5];
    this.range = [low, high];
    this.y = (value) => EDGE.top + (HEIGHT - EDGE.top - EDGE.bottom) * (1 - (map(value) - low) / (high - low));
    const [begin, end] = [Math.min(...xs), Math.max(...xs)];
    this.span = [begin, end];
    this.x = (value) => EDGE.left + (WIDTH - EDGE.left - EDGE.right) * (end > begin ? (value - begin) / (end - begin) : 0.5);
  }

  draw() {
    const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": this.said() });
    for (const tick of this.ticks()) {
      const y = this.y(tick).toFixed(1);
      drawing.append(svg("line", { class: "grid", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y, y2: y }));
      drawing.append(svg("text", { x: EDGE.left - 5, y, "text-anchor": "end", "dominant-baseline": "central" }, short(tick)));
    }
    const bottom = HEIGHT - 6;
    drawing.append(svg("text", { x: EDGE.left, y: bottom }, this.format(this.span[0])));
    drawing.append(svg("text", { x: WIDTH - EDGE.right, y: bottom, "text-anchor": "end" }, this.format(this.span[1])));
    for (const one of this.series) {
      const sure = one.points.filter((point) => point.length > 3 && point[2] !== null && point[3] !== null);
      if (sure.length > 1) {
        const above = sure.map((point) => this.place(point[0], point[3]));
        const below = sure.map((point) => this.place(point[0], point[2])).reverse();
        drawing.append(svg("polygon", { points: [...above, ...below].join(" "), class: `band ${one.style}` }));
      } else if (sure.length) {
        const points = [2, 3].map((end) => this.place(sure[0][0], sure[0][end])).join(" ");
        drawing.append(svg("polyline", { points, class: `curve interval ${one.style}` }));
      }
      const points = one.points.map((point) => this.place(point[0], point[1])).join(" ");
      if (one.points.length > 1) drawing.append(svg("polyline", { points, class: `curve ${one.style}` }));
      else drawing.append(svg("circle", { cx: this.x(one.points[0][0]), cy: this.y(one.points[0][1]), r: 3, class: `curve ${one.style}` }));
    }
    this.drawThresholds(drawing);
    this.cursor = svg("line", { class: "cursor", y1: EDGE.top, y2: HEIGHT - EDGE.bottom, x1: 0, x2: 0, visibility: "hidden" });
    drawing.append(this.cursor);
    fill(this.plot, drawing);
  }

  drawThresholds(drawing) {
    let free = Infinity; // the lower end of the last name: the next one stands below it
    for (const one of [...this.shown].sort((a, b) => b.value - a.value)) {
      const y = this.y(one.value);
      drawing.append(svg("line", { class: "threshold", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y, y2: y }));
      const wanted = y < 18 ? y + 12 : y - 4;
      const at = free === Infinity ? wanted : Math.max(wanted, free + 12);
      free = at;
      drawing.append(svg("text", { class: "threshold-name", x: WIDTH - EDGE.right, y: at, "text-anchor": "end" }, `${one.name} ${short(one.value)}`));
    }
    this.far = this.thresholds.filter((one) => !this.shown.includes(one)).map((one) => `; ${one.name} ${short(one.value)}`).join("");
  }

  place(x, y) {
    return `${this.x(x).toFixed(1)},${this.y(this.logs ? Math.max(y, 10 ** this.range[0]) : y).toFixed(1)}`;
  }

  ticks() {
    const [low, high] = this.range;
    if (this.logs) {
      const every = Math.max(1, Math.ceil((high - low) / 4));
      const found = [];
      for (let power = Math.ceil(low); power <= high; power += every) found.push(10 ** power);
      return found;
    }
    const rough = (high - low) / 4;
    const unit = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((one) => one * unit).find((one) => one >= rough);
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
    return found;
  }

  drawKey(count) {
    this.key_.hidden = count < 2;
    fill(this.key_, ...this.series.map((one) => make("span", {},
      svg("svg", { viewBox: "0 0 30 10", "aria-hidden": "true" }, svg("line", { x1: 0, x2: 30, y1: 5, y2: 5, class: `curve ${one.style}`, "stroke-width": 2.5 })),
      one.name)));
  }

  said() {
    return this.series.map((one) => {
      const values = one.points.map((point) => point[1]);
      const [least, most] = [Math.min(...values), Math.max(...values)];
      return `${one.name}: last ${short(values.at(-1))}, from ${short(least)} to ${short(most)}`;
    }).join("; ");
  }

  // Put the cursor at x; null: away, and the last values are told.
  point(x) {
    this.at = x;
    if (!this.series?.length) return;
    this.cursor.setAttribute("visibility", x === null ? "hidden" : "visible");
    if (x !== null) for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, this.x(x));
    const parts = this.series.map((one) => {
      const point = x === null ? one.points.at(-1) : nearest(one.points, x);
      const span = point.length > 3 && point[2] !== null ? ` [${short(point[2])}, ${short(point[3])}]` : "";
      return `${this.series.length > 1 ? `${one.name} ` : ""}${short(point[1])}${span}`;
    });
    this.readout.textContent = `${x === null ? "last" : this.format(x)}: ${parts.join(" · ")}${x === null ? this.far : ""}`;
  }

  moved(event) {
    const box = this.plot.getBoundingClientRect();
    const across = (((event.clientX - box.left) / box.width) * WIDTH - EDGE.left) / (WIDTH - EDGE.left - EDGE.right);
    this.point(this.span[0] + Math.min(1, Math.max(0, across)) * (this.span[1] - this.span[0]));
  }

  left() {
    this.readout.setAttribute("aria-live", "off");
    this.point(null);
  }

  key(event) {
    const steps = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.2, PageUp: 0.2 };
    const [begin, end] = this.span;
    let next = null;
    if (steps[event.key]) next = (this.at ?? end) + steps[event.key] * (end - begin);
    else if (event.key === "Home") next = begin;
    else if (event.key === "End") next = end;
    else if (event.key === "Escape") this.point(null);
    if (next === null) return;
    event.preventDefault();
    this.point(Math.min(end, Math.max(begin, next)));
  }
}

function nearest(points, x) {
  return points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
}

// Of every stretch the least and the greatest stay, so that no spike is lost.
export function thinned(points, most = MOST_POINTS) {
  if (points.length <= most) return points;
  const kept = [];
  const parts = most / 2;
  for (let i = 0; i < parts; i += 1) {
    const part = points.slice(Math.floor((i * points.length) / parts), Math.floor(((i + 1) * points.length) / parts));
    const least = part.reduce((a, b) => (b[1] < a[1] ? b : a));
    const most_ = part.reduce((a, b) => (b[1] > a[1] ? b : a));
    kept.push(...(least === most_ ? [least] : least[0] <= most_[0] ? [least, most_] : [most_, least]));
  }
  kept.push(points.at(-1));
  return kept;
}

export function short(value) {
  const size = Math.abs(value);
  if (size >= 1e9 || (size > 0 && size < 1e-3)) return value.toExponential(1);
  if (size >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(size >= 1e5 ? 0 : 1)}k`;
  return String(Number(value.toPrecision(3)));
}
