// The last ten minutes: one ring of numbers for each series, of a size that never changes.

/** Samples that are kept: ten minutes of one a second. */
export const CAPACITY = 600;

export const SERIES = ["at_ms", "rate", "refused", "p50", "p99", "waiting", "busy", "lag"];

/** A gap longer than this is shown as one. */
export const GAP_MS = 4000;

export class History {
  #rings = Object.fromEntries(SERIES.map((name) => [name, new Float64Array(CAPACITY)]));
  #next = 0;
  length = 0;

  /** Takes one sample; what it does not know is NaN. */
  push(values) {
    for (const name of SERIES) this.#rings[name][this.#next] = values[name] ?? NaN;
    this.#next = (this.#next + 1) % CAPACITY;
    this.length = Math.min(this.length + 1, CAPACITY);
  }

  /** A value by its age: 0 is the oldest one, `length - 1` the newest. */
  at(name, place) {
    return this.#rings[name][(this.#next - this.length + place + CAPACITY) % CAPACITY];
  }

  newest(name) {
    return this.length > 0 ? this.at(name, this.length - 1) : NaN;
  }

  /** The largest of the values that are known, and at least `least`. */
  largest(name, least) {
    let largest = least;
    for (let place = 0; place < this.length; place++) {
      const value = this.at(name, place);
      if (value > largest) largest = value;
    }
    return largest;
  }

  /** The smallest of the values that are above 0; `otherwise` if there is none. */
  smallest(name, otherwise) {
    let smallest = Infinity;
    for (let place = 0; place < this.length; place++) {
      const value = this.at(name, place);
      if (value > 0 && value < smallest) smallest = value;
    }
    return smallest === Infinity ? otherwise : smallest;
  }

  /** The place of the newest sample that is not newer than a moment; -1 if there is none. */
  placeAt(ms) {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.at("at_ms", middle) <= ms) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /**
   * Puts what the server has kept (the answer to `/history`) in the place of what is here, up to its newest sample. What
   * does not have that shape is ignored.
   */
  fill({ series, rows }) {
    if (!Array.isArray(series) || !Array.isArray(rows)) return;
    const kept = rows.filter((row) => Array.isArray(row) && Number.isFinite(row[0]));
    const columns = Object.entries(IN_TOTAL).map(([name, there]) => [name, series.indexOf(there) + 1]);
    const sample = (row) => Object.fromEntries([["at_ms", row[0]], ...columns.map(([name, column]) => [name, column > 0 ? row[column] : NaN])]);
    const until = kept.length > 0 ? kept.at(-1)[0] : -Infinity;
    const newer = this.samples().filter((values) => values.at_ms > until);
    this.length = 0;
    for (const values of [...kept.map(sample), ...newer]) this.push(values);
  }

  /** All of them, the oldest first. */
  samples() {
    return Array.from({ length: this.length }, (_, place) => Object.fromEntries(SERIES.map((name) => [name, this.at(name, place)])));
  }
}

/** Where each series is in an event's `total`, and in `/history`. */
const IN_TOTAL = {
  rate: "rate_per_s", refused: "refused_per_s", p50: "p50_us", p99: "p99_us", waiting: "waiting", busy: "in_progress", lag: "lag_updates",
};

/** What the plots show of one event. */
export function valuesOf(event) {
  return { at_ms: event.at_ms, ...Object.fromEntries(Object.entries(IN_TOTAL).map(([name, there]) => [name, event.total[there]])) };
}
