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
    if (name.startsWith("on")) element[name] = value; // a property: `patch` hands it on
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

// Like `fill`, but keeps the elements that are there, so that what has the focus, or is being pressed, stays while an
// analysis goes on. Of the elements with a data-key each keeps its own; the others are taken by their order.
export function patch(element, ...children) {
  const active = element.contains(document.activeElement) ? document.activeElement : null;
  matched(element, children.filter((child) => child !== null && child !== undefined));
  if (active && active !== document.activeElement && element.contains(active)) active.focus({ preventScroll: true });
}

function matched(element, fresh) {
  const before = [...element.childNodes];
  const kept = new Map(before.filter((node) => node.dataset?.key).map((node) => [node.dataset.key, node]));
  const others = before.filter((node) => !node.dataset?.key);
  const wanted = fresh.map((node) => {
    if (typeof node === "string") node = document.createTextNode(node);
    const found = node.dataset?.key ? kept.get(node.dataset.key) : others.shift();
    return found && found.nodeName === node.nodeName ? same(found, node) : node;
  });
  wanted.forEach((node, index) => {
    if (element.childNodes[index] !== node) element.insertBefore(node, element.childNodes[index] || null);
  });
  while (element.childNodes.length > wanted.length) element.lastChild.remove();
}

// Make an element that is there the same as a new one.
function same(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return old;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  old.onclick = fresh.onclick;
  matched(old, [...fresh.childNodes]);
  return old;
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
