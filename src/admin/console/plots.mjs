// Plots of the last ten minutes as SVG: a fixed set of nodes each, whose attributes change.

import { CAPACITY, GAP_MS } from "./history.mjs";
import { clock, html, mark, show, svg } from "./text.mjs";

/** The stretch that is shown, in minutes: the first that holds what is known, so that a new page is not empty. */
const WINDOWS = [1, 2, 5, CAPACITY / 60];
const LEFT = 52;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 18;
const LINES = 3;
/** Places of the labels of time: the beginning, the middle, now. */
const ANCHORS = ["start", "middle", "end"];

/** Milliseconds of the stretch that is shown. */
export function windowOf(history) {
  const known_ms = history.length > 0 ? history.newest("at_ms") - history.at("at_ms", 0) : 0;
  return 60_000 * (WINDOWS.find((minutes) => known_ms <= minutes * 60_000) ?? WINDOWS[WINDOWS.length - 1]);
}

/** −5 min, −30 s, now */
function timeBefore(ms) {
  if (ms === 0) return "now";
  return ms % 60_000 === 0 ? `−${ms / 60_000} min` : ms < 60_000 ? `−${ms / 1000} s` : `−${ms / 60_000} min`;
}

/** The next of 1, 2, 5, 10, 20, 50 … that is not below a value. */
export function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 5, 10].find((step) => step * power >= value * (1 - 1e-9));
  return step * power;
}

/** Values that have a line: from 0 to a round number, or whole powers of ten. */
export function ticks(smallest, largest, logarithmic) {
  if (!logarithmic) {
    const top = roundUp(largest);
    return [0, top / 2, top];
  }
  const low = 10 ** Math.floor(Math.log10(smallest));
  const high = Math.max(low * 10, 10 ** Math.ceil(Math.log10(largest)));
  const decades = Math.round(Math.log10(high / low));
  return decades === 1 ? [low, low * Math.sqrt(10), high] : [low, low * 10 ** Math.floor(decades / 2), high];
}

export class Plot {
  #history;
  #options;
  #nodes;
  #width = 0;
  #height = 0;

  /**
   * `series` are `{ name, label, kind }` with names of the history and kinds `first` and `second`; `format` writes a
   * value; a `logarithmic` scale suits values that differ by powers of ten.
   */
  constructor(parent, history, options) {
    this.#history = history;
    this.#options = options;
    this.#nodes = this.#build(parent);
    new ResizeObserver(([entry]) => {
      this.#width = Math.floor(entry.contentRect.width);
      this.#height = Math.floor(entry.contentRect.height);
      this.draw(null);
    }).observe(this.#nodes.frame);
  }

  #build(parent) {
    const { title, series } = this.#options;
    const lines = Array.from({ length: LINES }, () => svg("line", { class: "grid" }));
    const labels = Array.from({ length: LINES }, () => svg("text", { class: "axis", "text-anchor": "end" }));
    const times = ANCHORS.map((anchor) => svg("text", { class: "axis", "text-anchor": anchor }));
    const area = svg("path", { class: "area" });
    const paths = series.map(({ kind }) => svg("path", { class: `curve ${kind}` }));
    const cross = svg("line", { class: "cross" });
    const dots = series.map(({ kind }) => svg("circle", { class: `dot ${kind}`, r: 3.5 }));
    const parts = [...lines, ...labels, ...times, area, ...paths, cross, ...dots];
    const picture = svg("svg", { role: "img", class: "plot" }, ...parts);
    const values = series.map(() => html("span", { class: "value" }));
    const entries = series.map(({ label, kind }, place) =>
      html("span", { class: "entry" }, html("i", { class: `key ${kind}` }), `${label} `, values[place]));
    const caption = html("figcaption", {}, html("span", { class: "title" }, title), html("span", { class: "legend" }, ...entries));
    const frame = html("div", { class: "frame" }, picture);
    parent.append(html("figure", {}, caption, frame));
    return { lines, labels, times, area, paths, cross, dots, picture, values, frame };
  }

  /** The moment at a place of the screen, as milliseconds before the newest sample; `null` beside the plot. */
  before(clientX) {
    const box = this.#nodes.frame.getBoundingClientRect();
    const inner = this.#width - LEFT - RIGHT;
    const share = (clientX - box.left - LEFT) / inner;
    return inner > 0 && share >= 0 && share <= 1 ? (1 - share) * windowOf(this.#history) : null;
  }

  get frame() {
    return this.#nodes.frame;
  }

  /** Draws everything; `before_ms` is where the reader looks, `null` if nowhere. */
  draw(before_ms) {
    const [width, height] = [this.#width, this.#height];
    if (width <= LEFT + RIGHT || height <= TOP + BOTTOM) return;
    const { series, format, logarithmic, least } = this.#options;
    const { picture, lines, labels, times, area, paths, cross, dots, values } = this.#nodes;
    const history = this.#history;
    mark(picture, "width", width);
    mark(picture, "height", height);
    mark(picture, "viewBox", `0 0 ${width} ${height}`);
    const largest = Math.max(...series.map(({ name }) => history.largest(name, least)));
    const smallest = logarithmic ? Math.min(...series.map(({ name }) => history.smallest(name, least))) : 0;
    const marks = ticks(smallest, largest, logarithmic);
    const [low, high] = [marks[0], marks[LINES - 1]];
    const scale = logarithmic ? (value) => Math.log(Math.max(value, low) / low) / Math.log(high / low) : (value) => value / high;
    const y = (value) => TOP + (1 - scale(value)) * (height - TOP - BOTTOM);
    const now = history.newest("at_ms");
    const shown_ms = windowOf(history);
    const x = (ms) => LEFT + (1 - (now - ms) / shown_ms) * (width - LEFT - RIGHT);
    marks.forEach((value, place) => {
      const at = y(value).toFixed(1);
      mark(lines[place], "x1", LEFT);
      mark(lines[place], "x2", width - RIGHT);
      mark(lines[place], "y1", at);
      mark(lines[place], "y2", at);
      mark(labels[place], "x", LEFT - 8);
      mark(labels[place], "y", (y(value) + 4).toFixed(1));
      show(labels[place], format(value));
    });
    ANCHORS.forEach((_, place) => {
      mark(times[place], "x", (LEFT + (place / 2) * (width - LEFT - RIGHT)).toFixed(1));
      mark(times[place], "y", height - 3);
      show(times[place], timeBefore(shown_ms * (1 - place / 2)));
    });
    series.forEach(({ name }, place) => mark(paths[place], "d", this.#path(name, x, y)));
    mark(area, "d", logarithmic ? "" : this.#area(series[0].name, x, y));
    const place = before_ms === null ? history.length - 1 : history.placeAt(now - before_ms);
    const looks = before_ms !== null && place >= 0;
    mark(cross, "visibility", looks ? "visible" : "hidden");
    if (looks) {
      const at = x(history.at("at_ms", place)).toFixed(1);
      for (const [name, value] of [["x1", at], ["x2", at], ["y1", TOP], ["y2", height - BOTTOM]]) mark(cross, name, value);
    }
    series.forEach(({ name }, number) => {
      const value = place >= 0 ? history.at(name, place) : NaN;
      show(values[number], format(value));
      const seen = looks && !Number.isNaN(value);
      mark(dots[number], "visibility", seen ? "visible" : "hidden");
      if (seen) {
        mark(dots[number], "cx", x(history.at("at_ms", place)).toFixed(1));
        mark(dots[number], "cy", y(value).toFixed(1));
      }
    });
    mark(picture, "aria-label", this.#sentence());
  }

  #sentence() {
    const { title, series, format } = this.#options;
    const part = ({ name, label }) =>
      `${label} ${format(this.#history.newest(name))} now, at most ${format(this.#history.largest(name, 0))}`;
    return `${title} in the last ten minutes: ${series.map(part).join("; ")}`;
  }

  /** A curve that is broken where nothing is known. */
  #path(name, x, y) {
    const history = this.#history;
    const parts = [];
    let last = -Infinity;
    for (let place = 0; place < history.length; place++) {
      const value = history.at(name, place);
      if (Number.isNaN(value)) continue;
      const at = history.at("at_ms", place);
      if (history.newest("at_ms") - at > windowOf(history)) continue;
      parts.push(`${at - last > GAP_MS ? "M" : "L"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`);
      last = at;
    }
    return parts.join("");
  }

  #area(name, x, y) {
    const curve = this.#path(name, x, y);
    const floor = y(0).toFixed(1);
    // Each stretch is closed along the floor.
    const close = (stretch) => {
      const points = stretch.split("L");
      const end = (point) => point.split(" ")[0];
      return points.length < 2 ? "" : `M${stretch}L${end(points[points.length - 1])} ${floor}L${end(points[0])} ${floor}Z`;
    };
    return curve.split("M").filter(Boolean).map(close).join("");
  }
}

/** Plots that are looked at together: by pointer, and by the slider for those who use keys. */
export class Plots {
  #plots;
  #history;
  #slider;
  #moment;
  #before_ms = null;

  constructor(plots, history, slider, moment) {
    this.#plots = plots;
    this.#history = history;
    this.#slider = slider;
    this.#moment = moment;
    for (const plot of plots) {
      plot.frame.addEventListener("pointermove", (event) => this.#look(plot.before(event.clientX)));
      plot.frame.addEventListener("pointerleave", () => this.#look(null));
    }
    slider.addEventListener("input", () => {
      const share = 1 - slider.value / slider.max;
      this.#look(share === 0 ? null : share * windowOf(history));
    });
  }

  #look(before_ms) {
    this.#before_ms = before_ms;
    this.#slider.value = Math.round(this.#slider.max * (1 - (before_ms ?? 0) / windowOf(this.#history)));
    this.draw();
  }

  draw() {
    for (const plot of this.#plots) plot.draw(this.#before_ms);
    const at = this.#history.newest("at_ms") - (this.#before_ms ?? 0);
    const text = this.#before_ms === null || Number.isNaN(at) ? "now" : clock(at);
    show(this.#moment, text);
    mark(this.#slider, "aria-valuetext", text);
  }
}
