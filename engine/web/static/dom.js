// Elements from data. Text only ever becomes text: no function here reads HTML.

const SVG = "http://www.w3.org/2000/svg";

export function byId(id) {
  return document.getElementById(id);
}

// make("button", {type: "button", class: "small", "aria-pressed": "true", onclick: f}, "text", child, …)
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Put these children in place of what is there.
export function fill(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

// Options of a select: [value, text] pairs; keeps what was chosen where it is still there.
export function options(select, pairs, chosen = select.value) {
  fill(select, ...pairs.map(([value, text]) => make("option", { value }, text)));
  if (pairs.some(([value]) => String(value) === String(chosen))) select.value = String(chosen);
}

export function percent(share) {
  return `${Math.round(100 * share)} %`;
}

// A win chance from a value in [-1, 1].
export function chance(value) {
  return percent((Math.min(1, Math.max(-1, value)) + 1) / 2);
}
