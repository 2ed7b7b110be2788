// The parts of the console's script that need no browser. Run by `node`, with the folder of the script as argument.

import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const folder = pathToFileURL(`${process.argv[2]}/`).href;
const load = (name) => import(`${folder}${name}.mjs`);
const { CAPACITY, History } = await load("history");
const { Parser, Stream, pause } = await load("stream");
const { roundUp, ticks } = await load("plots");
const { amount, duration, span, state } = await load("text");
const { orderOf } = await load("tables");
const { applicationName, codeFiles, question } = await load("orders");
const { newest } = await load("reports");

const checks = {
  "a ring holds ten minutes and no more"() {
    const history = new History();
    for (let second = 0; second < 86_400; second++) history.push({ at_ms: second * 1000, rate: second, p50: null });
    assert.equal(history.length, CAPACITY);
    assert.equal(history.at("rate", 0), 86_400 - CAPACITY);
    assert.equal(history.newest("rate"), 86_399);
    assert.ok(Number.isNaN(history.newest("p99")), "what is not known is no number");
    assert.equal(history.placeAt(86_000_000), CAPACITY - 400);
    assert.equal(history.placeAt(0), -1);
    assert.equal(history.largest("rate", 1e6), 1e6);
  },

  "what the server has kept comes before what the page has seen since"() {
    const series = ["rate_per_s", "refused_per_s", "p50_us", "p99_us", "waiting", "in_progress", "lag_updates"];
    const history = new History();
    for (const at_ms of [5000, 6000, 7000]) history.push({ at_ms, rate: 1, lag: 0 });
    const rows = Array.from({ length: 6 }, (_, second) => [(second + 1) * 1000, 9, 8, 7, null, 5, 4, 3]);
    history.fill({ series, rows });
    assert.deepEqual(history.samples().map((values) => values.at_ms), [1000, 2000, 3000, 4000, 5000, 6000, 7000]);
    assert.deepEqual(history.samples()[5], { at_ms: 6000, rate: 9, refused: 8, p50: 7, p99: NaN, waiting: 5, busy: 4, lag: 3 });
    assert.equal(history.newest("rate"), 1, "what is newer stays");
    // Other columns are found by their names, and a long one does not make the ring longer.
    history.fill({ series: ["lag_updates", "new"], rows: Array.from({ length: 700 }, (_, second) => [second * 1e6, second, 0]) });
    assert.equal(history.length, CAPACITY);
    assert.equal(history.newest("lag"), 699);
    assert.ok(Number.isNaN(history.newest("rate")));
    for (const wrong of [{}, { series, rows: 7 }, { series, rows: [null, ["a"], {}] }]) {
      const empty = new History();
      empty.fill(wrong);
      assert.equal(empty.length, 0);
    }
  },

  "events are cut wherever the network cuts them"() {
    const text = "id: 1\ndata: {\"a\":1}\n\nid: 2\ndata: {\"a\":2}\n\nevent: end\ndata: {}\n\n";
    for (let cut = 0; cut <= text.length; cut++) {
      const parser = new Parser();
      const taken = [];
      for (const part of [text.slice(0, cut), text.slice(cut)]) parser.feed(part, (type, data) => taken.push([type, data]));
      assert.deepEqual(taken, [["message", '{"a":1}'], ["message", '{"a":2}'], ["end", "{}"]]);
      assert.equal(parser.held, 0);
    }
    const parser = new Parser();
    assert.throws(() => { for (let part = 0; part < 100; part++) parser.feed("x".repeat(100_000), () => {}); });
  },

  "pauses grow to half a minute"() {
    assert.deepEqual([0, 1, 2, 3, 20].map((attempt) => pause(attempt, 1)), [1000, 2000, 4000, 8000, 30_000]);
    assert.equal(pause(20, 0), 22_500);
  },

  async "a stream says how it is, tries again and stays locked"() {
    const states = [];
    const events = [];
    const bodyOf = (text) => new Response(text, { status: 200 });
    const answers = [
      () => Promise.reject(new Error("refused")),
      () => new Response("16 consoles listen already\n", { status: 503 }),
      () => bodyOf('id: 1\ndata: {"n":1}\n\nevent: end\ndata: {}\n\n'),
      () => new Response("no", { status: 401 }),
    ];
    let stream;
    await new Promise((resolve) => {
      stream = new Stream({
        ask: async () => answers.shift()(),
        onEvent: (event) => events.push(event),
        onState(name, { why }) {
          states.push(why ? `${name}: ${why}` : name);
          if (name === "locked" || states.length > 10) resolve();
          else if (name === "waiting") setTimeout(() => stream.hurry(), 0);
        },
      });
      stream.connect();
    });
    assert.deepEqual(states, [
      "waiting: no connection",
      "waiting: 16 consoles listen already",
      "live",
      "waiting: the appliance has ended",
      "locked",
    ]);
    assert.deepEqual(events, [{ n: 1 }]);
  },

  "scales end in round numbers"() {
    assert.deepEqual([1, 1.1, 3, 7, 10, 480, 1000].map(roundUp), [1, 2, 5, 10, 10, 500, 1000]);
    assert.deepEqual(ticks(0, 480, false), [0, 250, 500]);
    assert.deepEqual(ticks(120, 90_000, true).map(Math.round), [100, 1000, 100_000]);
    const [low, , high] = ticks(1000, 1000, true);
    assert.ok(low <= 1000 && high >= 1000 && high > low);
  },

  "numbers are short"() {
    assert.deepEqual([0, 0.1, 12.34, 123.4, 12_345, 3.4e6, null].map(amount), ["0", "0.1", "12.3", "123", "12.3 k", "3.4 M", "–"]);
    assert.deepEqual([840, 1234, 99_940, 250_000, 3.4e6, null].map(duration), ["840 µs", "1.2 ms", "99.9 ms", "250 ms", "3.4 s", "–"]);
    assert.deepEqual([900, 12_000, 243_000, 11_520_000, 187_200_000].map(span), ["0 s", "12 s", "4 min 3 s", "3 h 12 min", "2 d 4 h"]);
  },

  "every state has a sign of its own mood, and one that is new is shown"() {
    for (const name of ["running", "stopped", "joining", "stopping", "hung", "draining", "serving"]) {
      assert.notEqual(state(name).sign, "?", name);
    }
    assert.deepEqual(state("dancing"), { word: "dancing", sign: "?", mood: "calm" });
  },

  "only what a server can do is offered"() {
    const replica = ["running", "stopped", "joining", "stopping", "hung"].map((name) => orderOf("replica", name));
    assert.deepEqual(replica, ["stop", "start", null, null, "stop"]);
    assert.deepEqual(["serving", "draining", "silent"].map((name) => orderOf("front", name)), ["drain", "start", null]);
  },

  "the question warns of the last one"() {
    const event = {
      fronts: [{ state: "serving" }, { state: "draining" }],
      replicas: [{ state: "running" }, { state: "running" }, { state: "stopped" }],
    };
    assert.equal(question("replica", 0, "stop", event)[2], null);
    assert.equal(question("front", 0, "drain", event)[2], "bad");
    event.replicas[1].state = "hung";
    assert.match(question("replica", 0, "stop", event)[1], /last replica/);
  },

  "a folder is read as `twintier deploy` reads it"() {
    const file = (path) => ({ webkitRelativePath: `code/${path}`, name: path.split("/").pop(), size: 1 });
    const files = ["views/b.toml", "application.toml", ".hidden", "views/.swp", "views/a.toml~", "templates/a.html"].map(file);
    assert.deepEqual(codeFiles(files).map(({ path }) => path), ["application.toml", "templates/a.html", "views/b.toml"]);
    assert.equal(applicationName('# name\ntitle = "T"\nname = "reqcat"\n'), "reqcat");
    assert.equal(applicationName("title = 'T'"), null);
  },

  "the newest rejects of all fronts"() {
    const fronts = [0, 1].map((front) => ({ front, rejects: Array.from({ length: 30 }, (_, n) => ({ time: `2026-01-01T00:00:${String(59 - n).padStart(2, "0")}Z` })) }));
    const shown = newest({ fronts });
    assert.equal(shown.length, 20);
    assert.deepEqual(new Set(shown.slice(0, 2).map(({ front }) => front)), new Set([0, 1]));
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log(`ok ${name}`);
}
