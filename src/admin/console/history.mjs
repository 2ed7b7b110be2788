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

  /** As text, to survive that the page is loaded anew. */
  save() {
    const row = (place) => SERIES.map((name) => {
      const value = this.at(name, place);
      return Number.isNaN(value) ? null : value;
    });
    return JSON.stringify(Array.from({ length: this.length }, (_, place) => row(place)));
  }

  /** Takes back what `save` gave; anything else is ignored. */
  restore(text) {
    let rows;
    try {
      rows = JSON.parse(text);
    } catch {
      return;
    }
    if (!Array.isArray(rows)) return;
    for (const row of rows.slice(-CAPACITY)) {
      if (!Array.isArray(row) || !Number.isFinite(row[0])) continue;
      if (this.length > 0 && row[0] <= this.newest("at_ms")) continue;
      this.push(Object.fromEntries(SERIES.map((name, column) => [name, row[column] ?? NaN])));
    }
  }
}

/** What the plots show of one event. */
export function valuesOf(event) {
  const { total } = event;
  return {
    at_ms: event.at_ms,
    rate: total.rate_per_s,
    refused: total.refused_per_s,
    p50: total.p50_us,
    p99: total.p99_us,
    waiting: total.waiting,
    busy: total.in_progress,
    lag: total.lag_updates,
  };
}
