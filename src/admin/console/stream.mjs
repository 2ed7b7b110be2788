// The stream of events, read with `fetch`: `EventSource` cannot send a token.
//
//   connecting ──first event──▶ live ──end, error, silence──▶ waiting ──pause is over──▶ connecting
//        │ 401                                                   ▲
//        └────────▶ locked ──a token is given──▶ connecting      │
//        └──────────────── error, 503 ───────────────────────────┘

/** Silence after which a connection counts as lost: events come once a second. */
const SILENCE_MS = 8000;
const PAUSE_FIRST_MS = 1000;
const PAUSE_MAX_MS = 30_000;
/** Bytes of one event at most; more is no event of ours. */
const EVENT_CHARS_MAX = 1 << 20;

/** Before the next attempt: doubles with each one, spread so that consoles do not come back together. */
export function pause(attempt, random) {
  const full = Math.min(PAUSE_MAX_MS, PAUSE_FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(full * (0.75 + random * 0.25));
}

/** Cuts text into events. It keeps no more than the part of one that has not ended. */
export class Parser {
  #rest = "";

  /** Calls `take(type, data)` for every event that ends in `text`. */
  feed(text, take) {
    this.#rest += text;
    let end;
    while ((end = this.#rest.indexOf("\n\n")) >= 0) {
      const block = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + 2);
      let type = "message";
      const data = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) type = line.slice(7);
        else if (line.startsWith("data: ")) data.push(line.slice(6));
      }
      if (data.length > 0) take(type, data.join("\n"));
    }
    if (this.#rest.length > EVENT_CHARS_MAX) throw new Error("an event without an end");
  }

  get held() {
    return this.#rest.length;
  }
}

export class Stream {
  #ask;
  #onEvent;
  #onState;
  #attempt = 0;
  #timer = 0;
  #abort = null;

  /**
   * `ask(path, options)` is a fetch with the token; `onEvent(object)` takes each event; `onState(name, detail)` is told
   * `live`, `waiting` (with the moment of the next attempt and why) or `locked`.
   */
  constructor({ ask, onEvent, onState }) {
    this.#ask = ask;
    this.#onEvent = onEvent;
    this.#onState = onState;
  }

  /** Connects now, whatever it was waiting for. */
  connect() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    const abort = new AbortController();
    this.#abort = abort;
    this.#read(abort).then(
      (why) => this.#lost(abort, why),
      (error) => this.#lost(abort, abort.signal.reason?.why ?? "no connection", error),
    );
  }

  /** Connects now if it waits for its next attempt. */
  hurry() {
    if (this.#timer !== 0) this.connect();
  }

  #lost(abort, why) {
    // A newer connection has taken its place.
    if (abort !== this.#abort) return;
    if (why === "locked") {
      this.#onState("locked", {});
      return;
    }
    const ms = pause(this.#attempt++, Math.random());
    this.#timer = setTimeout(() => this.connect(), ms);
    this.#onState("waiting", { until: Date.now() + ms, why });
  }

  async #read(abort) {
    this.#timer = 0;
    let watch = 0;
    const heard = () => {
      clearTimeout(watch);
      watch = setTimeout(() => abort.abort({ why: "no event came" }), SILENCE_MS);
    };
    try {
      heard();
      const answer = await this.#ask("/events", { signal: abort.signal, headers: { accept: "text/event-stream" } });
      if (answer.status === 401) return "locked";
      if (answer.status === 503) return (await answer.text()).trim();
      if (!answer.ok) return `${answer.status} ${(await answer.text()).trim()}`;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new Parser();
      let ended = false;
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return ended ? "the appliance has ended" : "the connection broke off";
        heard();
        parser.feed(value, (type, data) => {
          if (type === "end") {
            ended = true;
            return;
          }
          this.#attempt = 0;
          this.#onState("live", {});
          this.#onEvent(JSON.parse(data));
        });
      }
    } finally {
      clearTimeout(watch);
    }
  }
}
