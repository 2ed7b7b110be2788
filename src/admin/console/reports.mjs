// Rejected requests, asked for when there are new ones, and the claim chart, asked for by hand.

import { byId, count, html, mark, pool, show, whole } from "./text.mjs";

/** Rejected requests that are shown. */
const REJECTS_MAX = 20;
/** Not more often than this, however many are rejected. */
const REJECTS_PAUSE_MS = 5000;

/** The newest rejected requests of all fronts. */
export function newest(report) {
  const all = report.fronts.flatMap(({ front, rejects }) => rejects.map((reject) => ({ front, ...reject })));
  return all.sort((one, other) => (one.time < other.time ? 1 : -1)).slice(0, REJECTS_MAX);
}

export class Rejects {
  #ask;
  #seen = -1;
  #next_ms = 0;
  #asking = false;

  constructor(ask) {
    this.#ask = ask;
  }

  /** Asks if more were rejected than those that are shown. */
  async follow(total) {
    const now = Date.now();
    if (total === this.#seen || this.#asking || now < this.#next_ms) return;
    this.#asking = true;
    this.#next_ms = now + REJECTS_PAUSE_MS;
    try {
      const answer = await this.#ask("/rejects", {});
      if (answer.ok) {
        this.draw(newest(await answer.json()), total);
        this.#seen = total;
      }
    } catch {
      // The stream says that there is no connection; the next event asks again.
    } finally {
      this.#asking = false;
    }
  }

  draw(rejects, total) {
    byId("rejects-table").hidden = rejects.length === 0;
    show(byId("rejects-note"), total === 0
      ? "No request was rejected for its content."
      : `${count(total, "request")} rejected since the start${total > rejects.length ? `; the newest ${whole(rejects.length)}` : ""}.`);
    const captions = ["Time", "Client", "Front", "Status", "What is wrong", "Where", "Bytes"];
    const make = () => html("tr", { role: "row" }, ...captions.map((caption) => html("td", { role: "cell", "data-caption": caption })));
    pool(byId("rejects"), rejects, make, (row, reject) => {
      const [time, client, front, status, what, where, bytes] = row.children;
      show(time, reject.time.replace("T", " ").replace(/\.\d+Z$/, ""));
      mark(time, "title", reject.time);
      show(client, reject.client);
      show(front, String(reject.front));
      show(status, String(reject.status));
      show(what, reject.words || reject.reason);
      show(where, `byte ${reject.offset} of the ${reject.part}`);
      if (bytes.childElementCount === 0) bytes.append(html("code", {}, html("span"), html("mark"), html("span")));
      const [before, byte, after] = bytes.firstChild.children;
      // The place itself matters; the whole excerpt is in /rejects/text.
      show(before, reject.before.slice(-30));
      show(byte, reject.byte || "end");
      show(after, reject.after.slice(0, 12));
    });
  }
}

export class Claim {
  #ask;

  constructor(ask) {
    this.#ask = ask;
    byId("claim-ask").addEventListener("click", () => this.#check());
  }

  async #check() {
    const button = byId("claim-ask");
    button.disabled = true;
    show(byId("claim-note"), "Sending the chart's own requests…");
    try {
      const answer = await this.#ask("/claim", {});
      if (answer.ok) this.#draw(await answer.json());
      else show(byId("claim-note"), `${answer.status} ${(await answer.text()).trim()}`);
    } catch (error) {
      show(byId("claim-note"), `No answer: ${error.message}`);
    } finally {
      button.disabled = false;
    }
  }

  #draw(chart) {
    const holding = chart.elements.filter((element) => element.holds).length;
    show(byId("claim-note"), `${holding} of ${count(chart.elements.length, "element")} of ${chart.claim} hold, checked at ${new Date().toLocaleTimeString("en-GB")}.`);
    const make = () => html("li", {}, html("details", {},
      html("summary", {}, html("span", { class: "sign", "aria-hidden": "true" }), html("span", { class: "element" }), html("span", { class: "verdict" })),
      html("p", { class: "here" }), html("ul")));
    pool(byId("claim"), chart.elements, make, (row, element) => {
      row.dataset.mood = element.holds ? "good" : "bad";
      const details = row.firstChild;
      const [sign, name, verdict] = details.firstChild.children;
      show(sign, element.holds ? "✓" : "✕");
      show(name, element.element);
      show(verdict, element.holds ? "holds" : "fails");
      show(details.children[1], `Here: ${element.here}`);
      pool(details.children[2], element.evidence, () => html("li"), (line, text) => show(line, text));
    });
  }
}
