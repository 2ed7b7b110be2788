// Numbers as people read them, and elements that change only when what they show does.

const SVG = "http://www.w3.org/2000/svg";

/** Nothing is known: the first second, or a server that says nothing. */
export const NOTHING = "–";

/** 412, 1.2 k, 3.4 M */
export function amount(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return NOTHING;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  if (value >= 100 || Number.isInteger(value)) return String(Math.round(value));
  return value.toFixed(1);
}

/** 63,666 */
export function whole(value) {
  return value === null || value === undefined ? NOTHING : Math.round(value).toLocaleString("en");
}

/** 840 µs, 1.2 ms, 3.4 s */
export function duration(us) {
  if (us === null || us === undefined || Number.isNaN(us)) return NOTHING;
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 99_950) return `${(us / 1e3).toFixed(1)} ms`;
  if (us < 999_500) return `${Math.round(us / 1e3)} ms`;
  return `${(us / 1e6).toFixed(1)} s`;
}

/** 12 s, 4 min 3 s, 3 h 12 min, 2 d 4 h */
export function span(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => seconds >= size);
  if (first < 0) return "0 s";
  const text = ([size, unit], within) => `${Math.floor((seconds % within) / size)} ${unit}`;
  const shown = [text(parts[first], Infinity)];
  if (first + 1 < parts.length) shown.push(text(parts[first + 1], parts[first][0]));
  return shown.join(" ");
}

export function percent(value) {
  return value === null || value === undefined ? NOTHING : `${Math.round(value)} %`;
}

/** 1 replica, 2 replicas */
export function count(number, noun) {
  return `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** Local time of day. */
export function clock(ms) {
  return new Date(ms).toLocaleTimeString("en-GB");
}

/** Sets a text; an element that shows it already is left alone. */
export function show(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The same for an attribute; `null` takes it away. */
export function mark(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function html(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function byId(id) {
  return document.getElementById(id);
}

/** Gives `parent` as many children as there are items, and keeps those that it has. */
export function pool(parent, items, make, update) {
  while (parent.childElementCount > items.length) parent.lastElementChild.remove();
  while (parent.childElementCount < items.length) parent.append(make(parent.childElementCount));
  items.forEach((item, place) => update(parent.children[place], item, place));
}

/** What a state is called, its sign (it must be told apart without colour), and how grave it is. */
const STATES = {
  running: ["running", "●", "good"],
  serving: ["serving", "●", "good"],
  up: ["up", "●", "good"],
  done: ["done", "●", "good"],
  joining: ["joining", "◐", "warn"],
  stopping: ["stopping", "◐", "warn"],
  draining: ["drained", "◑", "warn"],
  slow: ["slow", "◐", "warn"],
  queued: ["queued", "◔", "calm"],
  leaving: ["leaving", "◑", "calm"],
  stopped: ["stopped", "■", "calm"],
  silent: ["silent", "▲", "bad"],
  hung: ["hung", "▲", "bad"],
  ejected: ["ejected", "▲", "bad"],
  full: ["full", "▲", "bad"],
  locked: ["locked", "▲", "bad"],
  down: ["down", "▲", "bad"],
  failed: ["failed", "▲", "bad"],
};

export function state(name) {
  const [word, sign, mood] = STATES[name] ?? [name ?? "unknown", "?", "calm"];
  return { word, sign, mood };
}
