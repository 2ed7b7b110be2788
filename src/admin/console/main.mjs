// The console: takes events, keeps the last ten minutes, and draws at most once a frame.

import { History, valuesOf } from "./history.mjs";
import { Orders } from "./orders.mjs";
import { Picture, followLinks } from "./picture.mjs";
import { Plot, Plots } from "./plots.mjs";
import { Claim, Rejects } from "./reports.mjs";
import { Stream } from "./stream.mjs";
import { Tables, drawHead, drawTiles } from "./tables.mjs";
import { amount, byId, duration, mark, show } from "./text.mjs";

const TOKEN_KEY = "twintier-token";

/** A fetch with the token, if one was given. It stays in this tab. */
function ask(path, options) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const headers = { ...options.headers, ...(token ? { authorization: `Bearer ${token}` } : {}) };
  return fetch(path, { cache: "no-store", ...options, headers });
}

const history = new History();
let last = null;
let connection = { name: "waiting", until: 0, why: "" };
let frame = 0;

const plots = new Plots([
  new Plot(byId("plots"), history, {
    title: "Requests a second", format: amount, least: 10, logarithmic: false,
    series: [{ name: "rate", label: "taken", kind: "first" }, { name: "refused", label: "refused", kind: "second" }],
  }),
  new Plot(byId("plots"), history, {
    title: "Latency", format: duration, least: 1000, logarithmic: true,
    series: [{ name: "p50", label: "p50", kind: "first" }, { name: "p99", label: "p99", kind: "second" }],
  }),
  new Plot(byId("plots"), history, {
    title: "Queue", format: amount, least: 10, logarithmic: false,
    series: [{ name: "busy", label: "in progress", kind: "first" }, { name: "waiting", label: "waiting", kind: "second" }],
  }),
  new Plot(byId("plots"), history, {
    title: "Replication lag", format: amount, least: 10, logarithmic: false,
    series: [{ name: "lag", label: "changes not everywhere yet", kind: "first" }],
  }),
], history, byId("look"), byId("moment"));
const picture = new Picture(byId("picture"));
const tables = new Tables((kind, number, order) => orders.confirm(kind, number, order));
const orders = new Orders(ask, () => last);
const rejects = new Rejects(ask);
new Claim(ask);
followLinks(byId("picture"));

/** Takes one event. */
function take(event) {
  // Another life of the appliance: its plots begin anew.
  if (last && last.started_ms !== event.started_ms) history.length = 0;
  document.body.classList.remove("empty");
  last = event;
  history.push(valuesOf(event));
  wish();
}

/** Asks for what the server saw before the page was there, and while it was cut off. Without it the plots begin now. */
async function recall() {
  try {
    const answer = await ask("/history", {});
    if (!answer.ok) return;
    const kept = await answer.json();
    if (kept.started_ms !== last?.started_ms) return;
    history.fill(kept);
    wish();
  } catch {
    // The stream says what is wrong with the connection.
  }
}

/** Draws with the next frame; hidden pages have none. */
function wish() {
  if (frame === 0) frame = requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  if (!last) return;
  drawHead(last);
  drawTiles(last);
  picture.draw(last);
  plots.draw();
  tables.draw(last, connection.name === "live");
  if (last.total.rejected !== null) rejects.follow(last.total.rejected);
}

/** Says how the connection is; only a change of its state is read out. */
function drawConnection() {
  const { name, until, why } = connection;
  const left = Math.max(0, Math.ceil((until - Date.now()) / 1000));
  const words = { live: "Live", waiting: `Disconnected · again in ${left} s`, connecting: "Connecting…", locked: "Locked" };
  show(byId("connection-text"), words[name]);
  mark(byId("connection"), "data-state", name);
  mark(byId("connection"), "title", why || null);
  byId("why").hidden = name !== "waiting";
  show(byId("why"), name === "waiting" ? `No live data: ${why}. What you see is what was known last.` : "");
  mark(document.body, "data-stale", name === "live" ? null : "");
}

/** Also when one was given and is wrong. */
function askForToken() {
  const wrong = sessionStorage.getItem(TOKEN_KEY) !== null;
  sessionStorage.removeItem(TOKEN_KEY);
  byId("token").value = "";
  show(byId("token-note"), wrong ? "That is not the token." : "Kept in this tab until it is closed.");
  mark(byId("token-note"), "data-mood", wrong ? "bad" : null);
  if (!byId("token-dialog").open) byId("token-dialog").showModal();
}

const stream = new Stream({
  ask,
  onEvent: take,
  onState(name, { until = 0, why = "" }) {
    const changed = name !== connection.name;
    connection = { name, until, why };
    drawConnection();
    wish();
    if (name === "locked") askForToken();
    if (!changed) return;
    if (name === "waiting") show(byId("said"), `Disconnected: ${why}`);
    if (name !== "live") return;
    show(byId("said"), "Live data");
    // After the event that tells which life of the appliance this is.
    queueMicrotask(recall);
  },
});

byId("token-form").addEventListener("submit", () => {
  sessionStorage.setItem(TOKEN_KEY, byId("token").value);
  stream.connect();
});
byId("connection").addEventListener("click", () => {
  if (connection.name === "locked") byId("token-dialog").showModal();
  else stream.hurry();
});
setInterval(() => {
  if (connection.name === "waiting") drawConnection();
}, 1000);
addEventListener("online", () => stream.hurry());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) stream.hurry();
});
stream.connect();

/** What a test needs to feed the page by itself. */
export const page = { take, draw, history, last: () => last };
