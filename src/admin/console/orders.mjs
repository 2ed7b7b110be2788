// Orders to servers and deploys: asked about in a dialog, sent, and their outcome written down.

import { byId, clock, count, html, pool, show, whole } from "./text.mjs";

/** Outcomes that the page remembers. */
const OUTCOMES_MAX = 8;
/** Bytes of a deploy at most; the appliance takes 32 MiB. */
const DEPLOY_BYTES_MAX = 24 * 1024 * 1024;

/** What the dialog says before an order is sent. */
export function question(kind, number, order, event) {
  const others = (list, good) => list.filter((server, each) => each !== number && server.state === good).length;
  if (kind === "front") {
    const left = others(event.fronts, "serving");
    return order === "drain"
      ? [`Drain front ${number}?`,
        left > 0
          ? `New connections go to the ${count(left, "other front")}. Those that it has are served on.`
          : "It is the last front that takes connections: new ones will find nobody.",
        left > 0 ? null : "bad"]
      : [`Start front ${number}?`, "It takes new connections again.", null];
  }
  const left = others(event.replicas, "running");
  return order === "stop"
    ? [`Stop replica ${number}?`,
      left > 0
        ? `It finishes what it has begun and then holds nothing. ${count(left, "replica")} will do its work.`
        : "It is the last replica that runs: requests will wait for one, and then be answered with 503.",
      left > 0 ? null : "bad"]
    : [`Start replica ${number}?`, "It copies what the others hold, and then takes jobs.", null];
}

const VERBS = { stop: "Stop", start: "Start", drain: "Drain" };

/** The code tables in a chosen folder, as `twintier deploy` would read them. */
export function codeFiles(files) {
  const below = (file) => (file.webkitRelativePath || file.name).split("/").slice(1).join("/") || file.name;
  const isHidden = (path) => path.split("/").some((part) => part.startsWith(".") || part.endsWith("~"));
  return [...files]
    .map((file) => ({ file, path: below(file), bytes: file.size }))
    .filter(({ path }) => !isHidden(path))
    .sort((one, other) => (one.path < other.path ? -1 : 1));
}

/** The name in `application.toml`; the appliance reads the file properly. */
export function applicationName(text) {
  return /^\s*name\s*=\s*["']([^"']+)["']/m.exec(text)?.[1] ?? null;
}

export class Orders {
  #ask;
  #event = () => null;
  #outcomes = [];
  #pending = null;
  #deploy = null;

  /** `ask` is a fetch with the token, `event` gives the last event. */
  constructor(ask, event) {
    this.#ask = ask;
    this.#event = event;
    const confirm = byId("confirm");
    confirm.addEventListener("close", () => {
      const order = this.#pending;
      this.#pending = null;
      if (order && confirm.returnValue === "yes") this.#send(order);
    });
    for (const dialog of document.querySelectorAll("dialog")) {
      dialog.querySelector("[data-close]")?.addEventListener("click", () => dialog.close(""));
    }
    byId("deploy-open").addEventListener("click", () => this.#openDeploy());
    byId("deploy-folder").addEventListener("change", () => this.#choose());
    byId("deploy-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#sendDeploy();
    });
  }

  /** Asks before an order is sent. */
  confirm(kind, number, order) {
    const event = this.#event();
    if (!event) return;
    const [title, text, mood] = question(kind, number, order, event);
    show(byId("confirm-title"), title);
    show(byId("confirm-text"), text);
    const yes = byId("confirm-yes");
    show(yes, `${VERBS[order]} ${kind} ${number}`);
    yes.className = mood === "bad" || order === "stop" ? "danger" : "primary";
    this.#pending = { kind, number, order };
    const dialog = byId("confirm");
    dialog.returnValue = "";
    dialog.showModal();
  }

  async #send({ kind, number, order }) {
    const name = `${VERBS[order]} ${kind} ${number}`;
    try {
      const answer = await this.#ask(`/servers/${kind}/${number}/${order}`, { method: "POST" });
      const text = (await answer.text()).trim();
      if (!answer.ok) {
        this.#note(name, `refused: ${text}`, "bad");
        return;
      }
      const said = JSON.parse(text);
      this.#note(name, said.state ?? (said.draining ? "takes no new connections" : "takes connections"), "good");
    } catch (error) {
      this.#note(name, `no answer: ${error.message}`, "bad");
    }
  }

  /** Writes an outcome down; the oldest one leaves. */
  #note(name, text, mood) {
    this.#outcomes.unshift({ at_ms: Date.now(), name, text, mood });
    this.#outcomes.length = Math.min(this.#outcomes.length, OUTCOMES_MAX);
    byId("outcomes-section").hidden = false;
    const make = () => html("li", {}, html("time"), html("b"), html("span"));
    pool(byId("outcomes"), this.#outcomes, make, (row, outcome) => {
      show(row.children[0], clock(outcome.at_ms));
      show(row.children[1], outcome.name);
      show(row.children[2], outcome.text);
      row.dataset.mood = outcome.mood;
    });
    show(byId("said"), `${name}: ${text}`);
  }

  #openDeploy() {
    this.#deploy = null;
    byId("deploy-form").reset();
    this.#describe("", "Every replica gets the new version; a wrong one is refused and nothing changes.", []);
    byId("deploy").showModal();
  }

  #describe(mood, text, files) {
    const result = byId("deploy-result");
    result.dataset.mood = mood;
    show(result, text);
    byId("deploy-files").hidden = files.length === 0;
    show(byId("deploy-files").querySelector("summary"), count(files.length, "code table"));
    pool(byId("deploy-list"), files, () => html("li"), (row, { path, bytes }) => show(row, `${path} · ${whole(bytes)} bytes`));
    byId("deploy-yes").disabled = this.#deploy === null;
    show(byId("deploy-yes"), this.#deploy ? `Deploy ${this.#deploy.application}` : "Deploy");
  }

  async #choose() {
    this.#deploy = null;
    const files = codeFiles(byId("deploy-folder").files);
    const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    if (files.length === 0) return this.#describe("bad", "The folder is empty.", files);
    if (bytes > DEPLOY_BYTES_MAX) return this.#describe("bad", `These are ${whole(bytes)} bytes: this is no folder of code tables.`, []);
    const own = files.find(({ path }) => path === "application.toml");
    if (!own) return this.#describe("bad", "There is no application.toml in it: choose the folder that holds it.", files);
    const application = applicationName(await own.file.text());
    if (!application) return this.#describe("bad", "application.toml names no application: name = \"…\".", files);
    const sources = await Promise.all(files.map(async ({ file, path }) => [path, await file.text()]));
    this.#deploy = { application, sources };
    const event = this.#event();
    const known = event?.applications.includes(application);
    const next = event ? ` It becomes code v${event.code_version + 1}.` : "";
    this.#describe("", known ? `Replaces the code of ${application} on every replica.${next}` : `${application} is a new application here.${next}`, files);
  }

  async #sendDeploy() {
    if (!this.#deploy) return;
    const { application, sources } = this.#deploy;
    const yes = byId("deploy-yes");
    yes.disabled = true;
    show(byId("deploy-result"), "Under way…");
    try {
      const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ application, sources }) };
      const answer = await this.#ask("/deploy", options);
      const text = (await answer.text()).trim();
      if (!answer.ok) {
        this.#note(`Deploy ${application}`, "refused, nothing has changed", "bad");
        return this.#describe("bad", text, []);
      }
      const said = JSON.parse(text);
      this.#note(`Deploy ${application}`, `code v${said.version} on every replica`, "good");
      byId("deploy").close();
    } catch (error) {
      this.#note(`Deploy ${application}`, `no answer: ${error.message}`, "bad");
      this.#describe("bad", `No answer: ${error.message}`, []);
    }
  }
}
