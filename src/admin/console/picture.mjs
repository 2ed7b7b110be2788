// The two clusters as a picture: browsers at the top, the database at the bottom, requests flow down.
//
// The picture is laid out anew when its width or the number of servers changes; otherwise texts and classes change.

import { amount, byId, count, duration, mark, percent, show, state, svg, whole } from "./text.mjs";

const GAP = 12;
const PAD = 12;
const BOX_WIDTH_MIN = 146;
const BOX_WIDTH_MAX = 310;
const BOX_HEIGHT = 92;
/** The caption of a cluster stands below its boxes: requests come from above. */
const LANE_FOOT = 28;
const CHIP_HEIGHT = 30;
const STEP = 30;
const STORE_HEIGHT = 84;
/** Boxes below this width say less. */
const BOX_COMPACT = 190;
/** Below this width the stores stand in two rows and texts are short. */
const NARROW = 520;

/** How fast a flow moves, by its rate: speeds change rarely, so that it does not jump. */
export function pace(rate) {
  if (!(rate > 0.05)) return "still";
  if (rate < 50) return "slow";
  return rate < 1000 ? "steady" : "fast";
}

/** Width of a flow by its rate: each power of ten is a step. */
export function weight(rate) {
  return rate > 0.05 ? Math.min(7, 1.5 + 1.4 * Math.log10(1 + rate)) : 1.5;
}

function text(className, anchor = "start") {
  return svg("text", { class: className, "text-anchor": anchor });
}

function place(node, x, y) {
  mark(node, "x", x);
  mark(node, "y", y);
}

function frame(node, x, y, width, height) {
  place(node, x, y);
  mark(node, "width", width);
  mark(node, "height", height);
}

/** A box with a title, its state, and lines; it leads to its row in the tables. */
class Box {
  constructor(target, lines) {
    this.rect = svg("rect", { class: "box", rx: 10 });
    this.sign = text("sign");
    this.title = text("name");
    this.state = text("state", "end");
    this.lines = Array.from({ length: lines }, (_, line) => text(line === 0 ? "figure" : "line"));
    // The blanks are not drawn: they part the words for those who hear or copy them.
    const words = [this.sign, this.title, this.state, ...this.lines].flatMap((each) => [each, " "]);
    this.node = svg("a", { href: `#${target}`, class: "server" }, this.rect, ...words);
  }

  put(x, y, width, height) {
    this.at = { x, y, width, height };
    frame(this.rect, x, y, width, height);
    place(this.sign, x + 12, y + 21);
    place(this.title, x + 28, y + 21);
    place(this.state, x + width - 12, y + 21);
    this.lines.forEach((line, number) => place(line, x + 12, y + 44 + number * 18));
  }

  /** Where there is no room beside the name, a state that is as it should be is said by its sign only, another one below. */
  say(name, stateName, lines, compact = false) {
    const { word, sign, mood } = state(stateName);
    mark(this.node, "data-mood", mood);
    show(this.sign, sign);
    show(this.title, name);
    const isShown = !compact || mood !== "good";
    show(this.state, isShown && !compact ? word : "");
    const shown = isShown && compact ? [word, ...lines] : lines;
    this.lines.forEach((line, number) => show(line, shown[number] ?? ""));
    mark(this.node, "aria-label", `${name}: ${(isShown ? [word, ...lines] : [...lines, word]).filter(Boolean).join(", ")}`);
  }
}

/** A line along which requests flow. */
class Flow {
  constructor() {
    this.bed = svg("path", { class: "bed" });
    this.stream = svg("path", { class: "stream" });
    this.nodes = [this.bed, this.stream];
  }

  put(x1, y1, x2, y2) {
    const middle = (y1 + y2) / 2;
    const path = x1 === x2 || y1 === y2 ? `M${x1} ${y1}L${x2} ${y2}` : `M${x1} ${y1}C${x1} ${middle} ${x2} ${middle} ${x2} ${y2}`;
    mark(this.bed, "d", path);
    mark(this.stream, "d", path);
  }

  run(rate) {
    const width = weight(rate).toFixed(1);
    mark(this.bed, "stroke-width", width);
    mark(this.stream, "stroke-width", width);
    mark(this.stream, "data-pace", pace(rate));
  }
}

/** A cluster: a frame with a caption and its boxes. */
class Lane {
  constructor(kind, number) {
    this.rect = svg("rect", { class: "lane", rx: 14 });
    this.caption = text("caption");
    this.note = text("note", "end");
    this.boxes = Array.from({ length: number }, (_, server) => new Box(`server-${kind}-${server}`, 3));
    this.flows = Array.from({ length: number }, () => new Flow());
    this.nodes = [this.rect, ...this.flows.flatMap((flow) => flow.nodes), this.caption, this.note, ...this.boxes.map((box) => box.node)];
  }

  /** Returns the lane's lower edge. A dispatcher at `from` sends to every box of a single row, else to the lane. */
  put(y, width, from) {
    const number = this.boxes.length;
    const inner = width - 2 * PAD;
    const fitting = Math.max(1, Math.floor((inner + GAP) / (BOX_WIDTH_MIN + GAP)));
    const rows = Math.ceil(number / fitting);
    const columns = Math.ceil(number / rows);
    const box = Math.min(BOX_WIDTH_MAX, Math.floor((inner - (columns - 1) * GAP) / columns));
    const height = PAD + rows * BOX_HEIGHT + (rows - 1) * GAP + LANE_FOOT;
    frame(this.rect, 0.5, y, width - 1, height);
    place(this.caption, PAD + 2, y + height - 10);
    place(this.note, width - PAD - 2, y + height - 10);
    this.boxes.forEach((each, server) => {
      const row = Math.floor(server / columns);
      const inRow = Math.min(columns, number - row * columns);
      const left = (width - inRow * box - (inRow - 1) * GAP) / 2;
      each.put(left + (server % columns) * (box + GAP), y + PAD + row * (BOX_HEIGHT + GAP), box, BOX_HEIGHT);
      const { x, width: wide } = each.at;
      if (rows === 1) this.flows[server].put(width / 2, from, x + wide / 2, y + PAD);
      else this.flows[server].put(width / 2, from, width / 2, y);
    });
    this.single = rows === 1;
    this.compact = box < BOX_COMPACT;
    return y + height;
  }

  run(rates) {
    const sum = rates.reduce((sum, rate) => sum + (rate ?? 0), 0);
    this.flows.forEach((flow, server) => flow.run(this.single ? (rates[server] ?? 0) : sum));
  }
}

/** A dispatcher: a pill on the way. */
class Chip {
  constructor() {
    this.rect = svg("rect", { class: "chip", rx: CHIP_HEIGHT / 2, height: CHIP_HEIGHT });
    this.text = text("chip-text", "middle");
    this.nodes = [this.rect, this.text];
  }

  put(y, width, wide) {
    frame(this.rect, (width - wide) / 2, y, wide, CHIP_HEIGHT);
    place(this.text, width / 2, y + 20);
    return y + CHIP_HEIGHT;
  }
}

export class Picture {
  #root;
  #width = 0;
  #parts = null;
  #event = null;
  #shape = "";

  constructor(root) {
    this.#root = root;
    new ResizeObserver(([entry]) => {
      this.#width = Math.floor(entry.contentRect.width);
      if (this.#event) this.draw(this.#event);
    }).observe(root.parentElement);
  }

  draw(event) {
    this.#event = event;
    if (this.#width < 200) return;
    const shape = `${event.fronts.length} ${event.replicas.length}`;
    if (this.#shape !== shape) {
      this.#shape = shape;
      this.#build(event.fronts.length, event.replicas.length);
      this.#parts.width = 0;
    }
    if (this.#parts.width !== this.#width) this.#layOut();
    this.#tell(event);
  }

  #build(fronts, replicas) {
    const flow = () => new Flow();
    const parts = {
      browsers: new Chip(),
      first: new Chip(),
      second: new Chip(),
      fronts: new Lane("front", fronts),
      replicas: new Lane("replica", replicas),
      toFirst: flow(),
      toSecond: flow(),
      toDatabase: flow(),
      toFile: flow(),
      fromAgents: flow(),
      database: new Box("database", 2),
      file: new Box("database", 2),
      agents: new Box("agents", 2),
    };
    mark(parts.browsers.rect, "class", "chip outside");
    const flows = [parts.toFirst, parts.toSecond, parts.toDatabase, parts.toFile, parts.fromAgents];
    const nodes = [
      ...flows.flatMap((each) => each.nodes),
      ...parts.fronts.nodes,
      ...parts.replicas.nodes,
      ...[parts.browsers, parts.first, parts.second].flatMap((chip) => chip.nodes),
      ...[parts.database, parts.file, parts.agents].map((box) => box.node),
    ];
    this.#root.replaceChildren(...nodes);
    this.#parts = parts;
  }

  #layOut() {
    const width = this.#width;
    const parts = this.#parts;
    const middle = width / 2;
    const chip = Math.min(width - 2, 330);
    let y = parts.browsers.put(1, width, chip);
    parts.toFirst.put(middle, y, middle, y + 22);
    y = parts.first.put(y + 22, width, chip);
    y = parts.fronts.put(y + STEP - 4, width, y);
    parts.toSecond.put(middle, y, middle, y + 22);
    y = parts.second.put(y + 22, width, chip);
    y = parts.replicas.put(y + STEP - 4, width, y);
    const top = y + STEP;
    if (width >= NARROW) {
      const wide = Math.floor((width - 2 * 34) / 3);
      const left = (number) => number * (wide + 34) + 0.5;
      parts.agents.put(left(0), top, wide - 1, STORE_HEIGHT);
      parts.database.put(left(1), top, wide - 1, STORE_HEIGHT);
      parts.file.put(left(2), top, wide - 1, STORE_HEIGHT);
      const line = top + STORE_HEIGHT / 2;
      parts.fromAgents.put(left(0) + wide, line, left(1), line);
      parts.toFile.put(left(1) + wide, line, left(2), line);
      parts.toDatabase.put(middle, y, middle, top);
      y = top + STORE_HEIGHT;
    } else {
      const wide = Math.floor((width - 24) / 2);
      parts.database.put(0.5, top, wide - 1, STORE_HEIGHT);
      parts.file.put(wide + 24, top, wide - 1, STORE_HEIGHT);
      parts.toFile.put(wide, top + STORE_HEIGHT / 2, wide + 24, top + STORE_HEIGHT / 2);
      parts.toDatabase.put(wide / 2, y, wide / 2, top);
      const below = top + STORE_HEIGHT + 24;
      parts.agents.put(0.5, below, width - 1, STORE_HEIGHT);
      parts.fromAgents.put(wide / 2, below, wide / 2, top + STORE_HEIGHT);
      y = below + STORE_HEIGHT;
    }
    mark(this.#root, "width", width);
    mark(this.#root, "height", y + 1);
    mark(this.#root, "viewBox", `0 0 ${width} ${y + 1}`);
    parts.width = width;
  }

  #tell(event) {
    const parts = this.#parts;
    const { total, fronts, replicas, database, agents } = event;
    const narrow = this.#width < NARROW;
    show(parts.browsers.text, `Browsers · ${count(total.connections, "connection")}`);
    show(parts.first.text, "First dispatcher · least work");
    const waiting = total.waiting === 0 ? "nobody waits" : `${whole(total.waiting)} waiting`;
    show(parts.second.text, `Second dispatcher · ${waiting}`);
    mark(parts.second.rect, "data-mood", total.waiting > 0 ? "warn" : "calm");
    show(parts.fronts.caption, "First cluster");
    show(parts.fronts.note, `statements v${event.site_version}`);
    show(parts.replicas.caption, "Second cluster");
    const lag = total.lag_updates > 0 ? `${count(total.lag_updates, "change")} behind` : "all changes everywhere";
    show(parts.replicas.note, narrow ? `⇄ ${lag}` : `replication ⇄ ${lag} · code v${event.code_version}`);
    fronts.forEach((front, number) => {
      const { compact, boxes } = parts.fronts;
      const [p50, p99] = [`p50 ${duration(front.p50_us)}`, `p99 ${duration(front.p99_us)}`];
      boxes[number].say(`Front ${number}`, front.state, [
        `${amount(front.rate_per_s)} req/s`,
        ...(compact ? [p50, p99] : [`${p50} · ${p99}`, `${whole(front.in_progress)} in progress · CPU ${percent(front.cpu_percent)}`]),
      ], compact);
    });
    replicas.forEach((replica, number) => {
      const { compact, boxes } = parts.replicas;
      const conflicts = replica.conflicts > 0 && !compact ? ` · ${count(replica.conflicts, "conflict")}` : "";
      const code = `${compact ? "" : "code "}v${replica.code_version ?? "?"}`;
      boxes[number].say(`Replica ${number}`, replica.state, replica.state === "stopped" ? ["holds nothing"] : [
        `${amount(replica.rate_per_s)} jobs/s`,
        `queue ${whole(replica.outstanding)} · ${code}`,
        `${whole(replica.rows)} rows${conflicts}`,
      ], compact);
    });
    parts.database.say(narrow ? "Database" : "Database server", database.state, [
      `${amount(database.commits_per_s)} commits/s`,
      `${whole(database.waiting)} waiting`,
    ]);
    parts.file.say(database.kind === "duckdb" ? "DuckDB" : database.kind, database.state, [
      `${amount(database.updates_per_s)} changes/s`,
      `${whole(database.committed)} commits`,
    ]);
    const failed = agents.failed > 0 ? ` · ${whole(agents.failed)} failed` : "";
    parts.agents.say("Storage thread", "up", [
      `${count(agents.running, "agent")} at work`,
      `${whole(agents.queued + agents.waiting)} wait · ${whole(agents.done)} done${failed}`,
    ]);
    const rate = total.rate_per_s ?? 0;
    const jobs = replicas.map((replica) => replica.rate_per_s ?? 0);
    parts.toFirst.run(rate);
    parts.fronts.run(fronts.map((front) => front.rate_per_s));
    parts.toSecond.run(jobs.reduce((sum, each) => sum + each, 0));
    parts.replicas.run(jobs);
    parts.toDatabase.run(database.commits_per_s ?? 0);
    parts.toFile.run(database.commits_per_s ?? 0);
    parts.fromAgents.run(agents.running);
  }
}

/** Shows the row that a box leads to. */
export function followLinks(root) {
  root.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    const row = link && byId(link.getAttribute("href").slice(1));
    if (!row) return;
    event.preventDefault();
    row.scrollIntoView({ block: "center" });
    row.focus({ preventScroll: true });
  });
}
