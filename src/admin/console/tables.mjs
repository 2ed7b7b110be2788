// Servers, stores and books as tables: rows are kept, cells change.

import { NOTHING, amount, byId, count, duration, html, mark, percent, pool, show, span, state, whole } from "./text.mjs";

/** Columns: caption, and what a server shows in it. */
const FRONTS = [
  ["Requests/s", (front) => amount(front.rate_per_s)],
  ["p50", (front) => duration(front.p50_us)],
  ["p99", (front) => duration(front.p99_us)],
  ["Connections", (front) => whole(front.connections)],
  ["In progress", (front) => whole(front.in_progress)],
  ["Waiting", (front) => whole(front.waiting)],
  ["5xx/s", (front) => amount(front.failed_per_s)],
  ["CPU", (front) => percent(front.cpu_percent)],
  ["Core", (front) => whole(front.core)],
];

const REPLICAS = [
  ["Jobs/s", (replica) => amount(replica.rate_per_s)],
  ["Queue", (replica) => whole(replica.outstanding)],
  ["Commits waiting", (replica) => whole(replica.commits_waiting)],
  ["Behind", (replica) => whole(replica.lag_updates)],
  ["Lag p99", (replica) => duration(replica.lag_p99_us)],
  ["Rows", (replica) => whole(replica.rows)],
  ["Conflicts", (replica) => whole(replica.conflicts)],
  ["Code", (replica) => (replica.code_version === undefined ? "–" : `v${replica.code_version} ${replica.code_digest.slice(0, 8)}`)],
  ["Life", (replica) => whole(replica.incarnation + 1)],
  ["CPU", (replica) => percent(replica.cpu_percent)],
  ["Core", (replica) => whole(replica.core)],
];

/** What can be ordered of a server in a state; `null` while it is on its way, or cannot hear. */
export function orderOf(kind, stateName) {
  if (kind === "front") return { serving: "drain", draining: "start" }[stateName] ?? null;
  return { running: "stop", stopped: "start", hung: "stop" }[stateName] ?? null;
}

const ORDER_WORDS = { stop: "Stop…", start: "Start…", drain: "Drain…" };

/** The cell with a row's state: a sign, and its word. */
function stateCell(cell) {
  const sign = html("span", { class: "sign", "aria-hidden": "true" });
  return cell("State", html("span", { class: "state" }, sign, html("span")));
}

function showState(cell, sign, word) {
  show(cell.firstChild.firstChild, sign);
  show(cell.firstChild.lastChild, word);
}

/** A table of one kind of servers, with a button in every row. */
class Servers {
  #kind;
  #columns;
  #body;

  constructor(table, kind, columns, onOrder) {
    this.#kind = kind;
    this.#columns = columns;
    const caption = kind === "front" ? "Front" : "Replica";
    const heads = [caption, "State", ...columns.map(([name]) => name), "Order"];
    const cells = heads.map((name) => html("th", { scope: "col", role: "columnheader" }, name));
    this.#body = html("tbody", { role: "rowgroup" });
    table.replaceChildren(
      html("thead", { role: "rowgroup" }, html("tr", { role: "row" }, ...cells)),
      this.#body,
    );
    table.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) onOrder(kind, Number(button.dataset.number), button.dataset.order);
    });
  }

  #row(number) {
    const name = this.#kind === "front" ? `Front ${number}` : `Replica ${number}`;
    const cell = (caption, ...children) => html("td", { role: "cell", "data-caption": caption }, ...children);
    return html("tr", { role: "row", id: `server-${this.#kind}-${number}`, tabindex: "-1" },
      html("th", { scope: "row", role: "rowheader" }, name),
      stateCell(cell),
      ...this.#columns.map(([caption]) => cell(caption)),
      cell("Order", html("button", { type: "button", "data-number": number }, "Stop…")));
  }

  draw(servers, reachable) {
    pool(this.#body, servers, (number) => this.#row(number), (row, server) => {
      const { word, sign, mood } = state(server.state);
      const silent = server.silent && server.state !== "hung" ? ", silent" : "";
      mark(row, "data-mood", mood);
      showState(row.children[1], sign, `${word}${silent}`);
      this.#columns.forEach(([, value], place) => show(row.children[2 + place], value(server)));
      const order = orderOf(this.#kind, server.state);
      const button = row.lastChild.firstChild;
      const name = row.firstChild.textContent;
      button.disabled = order === null || !reachable;
      if (order !== null) {
        show(button, ORDER_WORDS[order]);
        mark(button, "aria-label", `${ORDER_WORDS[order].replace("…", "")} ${name}`);
        mark(button, "data-order", order);
      }
    });
  }
}

/** Names and values in a `dl`. */
function facts(list, entries) {
  const make = () => html("div", {}, html("dt"), html("dd"));
  pool(list, entries, make, (row, [name, value, mood]) => {
    show(row.firstChild, name);
    show(row.lastChild, value);
    mark(row, "data-mood", mood ?? null);
  });
}

function stateText(name) {
  const { word, sign } = state(name);
  return `${sign} ${word}`;
}

export class Tables {
  #fronts;
  #replicas;

  constructor(onOrder) {
    this.#fronts = new Servers(byId("fronts"), "front", FRONTS, onOrder);
    this.#replicas = new Servers(byId("replicas"), "replica", REPLICAS, onOrder);
  }

  draw(event, reachable) {
    this.#fronts.draw(event.fronts, reachable);
    this.#replicas.draw(event.replicas, reachable);
    const { database, agents, storage } = event;
    facts(byId("database-facts"), [
      ["State", stateText(database.state), state(database.state).mood],
      ["Commits/s", amount(database.commits_per_s)],
      ["Changes/s", amount(database.updates_per_s)],
      ["Waiting", `${whole(database.waiting)}${database.waiting > 0 ? `, oldest ${duration(database.oldest_waiting_us)}` : ""}`],
      ["Committed", whole(database.committed)],
      ["Conflicts", whole(database.conflicted)],
      ["Failed", whole(database.failed), database.failed > 0 ? "warn" : null],
      ["Outcome unknown", whole(database.unknown), database.unknown > 0 ? "warn" : null],
      ["Refused, no room", whole(database.refused), database.refused > 0 ? "warn" : null],
      ["Last error", database.last_error ?? "none", database.last_error ? "warn" : null],
      ["Where", database.path ?? database.kind],
    ]);
    drawAppliances(event.appliances, event.at_ms);
    facts(byId("agents-facts"), [
      ["At work", whole(agents.running)],
      ["Queued", whole(agents.queued + storage.orders_waiting)],
      ["Between attempts", whole(agents.waiting)],
      ["Done", whole(agents.done)],
      ["Failed", whole(agents.failed), agents.failed > 0 ? "warn" : null],
      ["Left for later", whole(agents.left)],
      ["Refused", whole(agents.orders_refused), agents.orders_refused > 0 ? "warn" : null],
      ["Requests to back ends", `${whole(agents.backend_requests)}, ${whole(agents.backend_retries)} repeated`],
      ["Executor", storage.executor],
      ...event.imports.map((one) => [`Import of ${one.file.split("/").pop()}`, importText(one), state(one.state).mood]),
    ]);
    const even = (off) => (off === 0 ? "even" : `off by ${whole(off)}`);
    const { books } = event;
    const books_of = [["Requests", books.requests], ["Writes", books.writes], ["Replication", books.replication], ["Agents", books.agents]];
    facts(byId("books-facts"), books_of.map(([name, off]) => [name, even(off), off === 0 ? "good" : "bad"]));
    const holding = event.replicas.filter((replica) => replica.state !== "stopped");
    const current = holding.filter((replica) => replica.code_version === event.code_version).length;
    facts(byId("deployed-facts"), [
      ["Code tables", `v${event.code_version} on ${current} of ${count(holding.length, "replica")}`, current < holding.length ? "warn" : null],
      ["Applications", event.applications.join(", ")],
      ["Statements", `v${event.site_version}`],
    ]);
    const { upstreams } = event;
    byId("upstreams").hidden = upstreams.length === 0;
    facts(byId("upstreams-facts"), upstreams.map((server) =>
      [server.address, `${stateText(server.state)} · ${whole(server.outstanding)} outstanding · ${whole(server.requests)} requests`, state(server.state).mood]));
  }
}

/** Those that share the database; one that is alone shows nothing. */
function drawAppliances(appliances, at_ms) {
  const all = appliances?.members ?? [];
  // Whoever ended before any of these began is history.
  const began_ms = Math.min(...all.filter((member) => member.alive).map((member) => member.started_ms));
  const members = all.filter((member) => member.alive || member.started_ms > began_ms);
  byId("appliances").hidden = members.length < 2;
  if (members.length < 2) return;
  const late = appliances.level_age_ms === null ? "not level yet" : `level ${span(appliances.level_age_ms)} ago`;
  const notes = [
    `${count(appliances.alive, "appliance")} alive`,
    `the change log ends at ${whole(appliances.head)}`,
    `this one was ${late}`,
    ...(appliances.taken_over > 0 ? [`took over ${count(appliances.taken_over, "piece")} of work`] : []),
    ...(appliances.reloads > 0 ? [`read everything again ${count(appliances.reloads, "time")}`] : []),
    ...(appliances.refused_code ? [appliances.refused_code] : []),
  ];
  show(byId("appliances-note"), notes.join(" · "));
  mark(byId("appliances-note"), "data-mood", appliances.refused_code ? "warn" : null);
  const cell = (caption, ...children) => html("td", { role: "cell", "data-caption": caption }, ...children);
  const make = () => html("tr", { role: "row" }, html("th", { scope: "row", role: "rowheader" }), stateCell(cell),
    ...["Changes behind", "Position", "Up"].map((caption) => cell(caption)));
  pool(byId("appliances-rows"), members, make, (row, member) => {
    const isMe = member.member === appliances.me;
    // Others write down what they have read once a second.
    const behind = isMe ? appliances.behind : Math.max(0, appliances.head - member.position);
    const { word, sign, mood } = member.alive ? state("up") : { word: "ended", sign: "■", mood: "calm" };
    mark(row, "data-mood", mood);
    showState(row.children[1], sign, word);
    show(row.firstChild, `${member.name} (${member.member})${isMe ? ", this one" : ""}`);
    [
      member.alive ? whole(behind) : NOTHING,
      whole(isMe ? appliances.position : member.position),
      member.alive ? span(at_ms - member.started_ms) : NOTHING,
    ].forEach((words, place) => show(row.children[2 + place], words));
  });
}

function importText(one) {
  const share = one.bytes_total > 0 ? Math.round((one.bytes / one.bytes_total) * 100) : 0;
  const taken = `${whole(one.taken)} taken, ${whole(one.rejected)} rejected`;
  if (one.state === "running") return `${share} % · ${taken} · ${whole(one.records_per_s)}/s`;
  return `${stateText(one.state)} · ${taken}${one.reason ? ` · ${one.reason}` : ""}`;
}

/** The figures at the top. */
export function drawTiles(event) {
  const { total, books } = event;
  const off = books.requests + books.writes + books.replication + books.agents;
  const running = event.replicas.filter((replica) => replica.state === "running").length;
  const tiles = {
    rate: [amount(total.rate_per_s), `${amount(total.refused_per_s)} refused · ${amount(total.failed_per_s)} failed`],
    p50: [duration(total.p50_us), "half are faster"],
    p99: [duration(total.p99_us), "one in a hundred is slower"],
    waiting: [whole(total.waiting), `${whole(total.in_progress)} in progress`],
    lag: [whole(total.lag_updates), `p99 ${duration(total.lag_p99_us)} since the start`],
    replicas: [`${running} of ${event.replicas.length}`, `code v${event.code_version}`],
    books: [off === 0 ? "even" : `off by ${whole(off)}`, "nothing lost, nothing twice"],
  };
  const bad = { books: off !== 0, replicas: running < event.replicas.length, waiting: total.waiting > 0 };
  for (const [name, [value, note]] of Object.entries(tiles)) {
    const tile = byId(`tile-${name}`);
    show(tile.querySelector(".value"), value);
    show(tile.querySelector(".note"), name === "books" && off !== 0 ? "a fault of the program" : note);
    mark(tile, "data-mood", bad[name] ? (name === "books" ? "bad" : "warn") : null);
  }
}

/** The line below the name. */
export function drawHead(event) {
  show(byId("name"), event.name);
  if (document.title !== `${event.name} · Twintier`) document.title = `${event.name} · Twintier`;
  const engine = { uring: "io_uring" }[event.engine] ?? event.engine;
  const up = span(event.at_ms - event.started_ms);
  show(byId("line"), `Twintier ${event.version} · ${engine} · up ${up} · serves ${event.http} · ${count(event.applications.length, "application")}`);
}
