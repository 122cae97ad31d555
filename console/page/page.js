/*
What the page does: asks the admin API every few seconds while somebody looks, and shows what it answers.

Takes the admin token from the form, where the port wants one; it lives in sessionStorage and leaves for this origin only.
Everything is shown as text: names of users are what callers say they are.
*/
"use strict";

const EVERY_MS = 5000;
const KEPT = "penstock-admin-token";
const $ = (id) => document.getElementById(id);

class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

async function ask(path) {
  const token = sessionStorage.getItem(KEPT);
  let answer;
  try {
    answer = await fetch(path, { headers: token ? { Authorization: `Bearer ${token}` } : {}, cache: "no-store" });
  } catch {
    throw new Refused(0, "The admin port does not answer. What is shown is from before.");
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, said.error?.message ?? `the admin port answers ${answer.status}`);
  return said;
}

/* Writing... */

function element(tag, text, look) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (look) made.className = look;
  return made;
}

/* A column: its head, what a cell holds (text or an element), how it looks, and how the cell of a row looks besides. */
function table(where, columns, rows, nothing) {
  if (!rows.length) return $(where).replaceChildren(element("p", nothing, "nothing"));
  const made = element("table");
  const head = made.createTHead().insertRow();
  for (const [name, , look] of columns) {
    const cell = element("th", name, look);
    cell.scope = "col";
    head.append(cell);
  }
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const [, content, look = "", besides = () => ""] of columns) {
      const cell = line.insertCell();
      cell.className = `${look} ${besides(row)}`.trim();
      cell.append(content(row));
    }
  }
  $(where).replaceChildren(made);
}

const count = (number) => number.toLocaleString("en-US");
const short = (number) => new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 }).format(number);
const usd = (text, digits = 2) => Number(text).toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: digits });
const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "–");
const moment = (text) => element("time", text.replace("T", " ").replace(/(\.\d+)?Z$/, " UTC"));

function ago(ms) {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s ago`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

function meter(part, whole) {
  const made = element("meter");
  Object.assign(made, { min: 0, max: whole || 1, low: 0.8 * whole, high: 0.95 * whole, optimum: 0, value: part });
  made.textContent = share(part, whole);
  made.title = share(part, whole);
  return made;
}

/* Parts of the page... */

async function versions() {
  const [status, history] = await Promise.all([ask("/v1/config/status"), ask("/v1/config/versions")]);
  const live = status.replicas.filter((each) => each.live);
  const late = live.filter((each) => !each.current).length;
  const edges = live.filter((each) => each.role === "edge").length;
  $("version").textContent =
    `version ${status.version} is live, ${edges} ${edges === 1 ? "edge runs" : "edges run"}` +
    (late ? `, ${late} of all replicas not yet with it` : "");
  table("replicas", [
    ["replica", (row) => row.replica],
    ["role", (row) => row.role],
    ["live", (row) => (row.live === null ? "not known" : row.live ? "yes" : "no"), "", (row) => (row.live === null ? "" : row.live ? "good" : "bad")],
    ["version", (row) => String(row.version ?? "–"), "number", (row) => (row.current ? "" : "odd")],
    ["said", (row) => (row.age_ms === null ? "–" : ago(row.age_ms)), "number"],
    ["error", (row) => row.error ?? "", "wide", () => "bad"],
  ], status.replicas, "No replica has said that it runs.");
  table("history", [
    ["version", (row) => String(row.version), "number"],
    ["at", (row) => moment(row.at)],
    ["by", (row) => row.by],
    ["what", (row) => row.kind],
    ["why", (row) => row.why, "wide"],
  ], history.versions.slice(0, 12), "Nothing was published yet.");
}

async function deployments() {
  const [health, placed] = await Promise.all([ask("/v1/health"), ask("/v1/deployments")]);
  const known = new Map(placed.deployments.map((each) => [each.id, each]));
  const looks = { healthy: "good", unknown: "odd", offline: "bad" };
  const words = (row) => {
    const more = known.get(row.id) ?? {};
    return [row.state, ...["drained", "cooling", "throttled"].filter((word) => more[word])].join(", ");
  };
  table("deployments", [
    ["deployment", (row) => row.id],
    ["state", words, "", (row) => looks[row.state]],
    ["left alone", (row) => Object.entries(row.breaker).filter(([, word]) => word !== "closed").map(([kind]) => kind).join(", ") || "–"],
    ["in flight", (row) => count(known.get(row.id)?.in_flight ?? 0), "number"],
    ["weight", (row) => String(known.get(row.id)?.weight ?? ""), "number"],
    ["latency", (row) => (row.latency_us ? `${count(Math.round(row.latency_us / 1000))} ms` : "–"), "number"],
    ["probe", (row) => row.probe?.why.replaceAll("_", " ") ?? "–", "", (row) => (row.probe && !row.probe.fine ? "bad" : "")],
  ], health.deployments, "No model is configured.");
}

async function quotas() {
  const { quotas: scopes } = await ask("/v1/quotas");
  const budgets = scopes.flatMap((each) => each.budgets.map((budget) => ({ ...budget, scope: each.scope })));
  const amount = (row) => Number(row.raised_usd ?? row.usd);
  const used = (row) => Number(row.spent_usd) + Number(row.held_usd);
  table("budgets", [
    ["scope", (row) => row.scope],
    ["budget in USD", (row) => `${usd(amount(row), 6)} per ${row.per}, ${row.mode}${row.raised_usd === null ? "" : ", raised"}`],
    ["used", (row) => meter(used(row), amount(row))],
    ["spent", (row) => usd(row.spent_usd, 6), "number"],
    ["held", (row) => usd(row.held_usd, 6), "number"],
    ["left", (row) => usd(row.remaining_usd, 6), "number", (row) => (Number(row.remaining_usd) > 0 ? "" : "bad")],
    ["begins anew", (row) => (row.resets_at ? moment(row.resets_at) : "never")],
  ], budgets.sort((a, b) => used(b) / amount(b) - used(a) / amount(a)), "There are no budgets.");
  const limits = scopes.flatMap((each) => Object.entries(each.limits).map(([name, limit]) => ({ ...limit, name, scope: each.scope })));
  const taken = (row) => (row.remaining === null ? 0 : Math.max(0, row.burst - row.remaining));
  table("limits", [
    ["scope", (row) => row.scope],
    ["limit", (row) => row.name],
    ["is", (row) => count(row.limit), "number"],
    ["used", (row) => meter(taken(row), row.burst)],
    ["left now", (row) => (row.remaining === null ? "–" : count(row.remaining)), "number", (row) => (row.remaining === 0 ? "bad" : "")],
    ["full again", (row) => (row.resets_in_ms ? `in ${(row.resets_in_ms / 1000).toFixed(1)} s` : "–"), "number"],
  ], limits.sort((a, b) => taken(b) / b.burst - taken(a) / a.burst), "There are no limits.");
}

async function usage() {
  const by = $("by").value;
  const used = await ask(`/v1/usage?by=${by}&since=${$("since").value}`);
  const { total } = used;
  const sums = [
    [count(total.requests), "requests"],
    [`${usd(total.cost_usd, total.cost_nusd < 1e9 ? 6 : 2)}`, "USD"],
    [`${short(total.input_tokens)} / ${short(total.output_tokens)}`, "tokens in / out"],
    [share(total.errors, total.attempts), "of the attempts failed"],
  ];
  $("sums").replaceChildren(...sums.map(([number, words]) => {
    const made = element("li");
    made.append(element("b", number), words);
    return made;
  }));
  const most = Math.max(...used.rows.map((row) => row.cost_nusd), 1);
  table("usage", [
    [$("by").selectedOptions[0].text, (row) => row[by] || "–"],
    ["requests", (row) => count(row.requests), "number"],
    ["attempts", (row) => count(row.attempts), "number"],
    ["input", (row) => count(row.input_tokens), "number"],
    ["cached", (row) => count(row.cached_tokens), "number"],
    ["output", (row) => count(row.output_tokens), "number"],
    ["failed", (row) => count(row.errors), "number", (row) => (row.errors ? "odd" : "")],
    ["USD", (row) => usd(row.cost_usd, 9), "number"],
    ["", (row) => bar(row.cost_nusd, most)],
  ], used.rows, "Nothing was used in that time.");
}

function bar(part, whole) {
  const made = element("progress");
  Object.assign(made, { max: whole, value: Math.max(0, part) });
  made.setAttribute("aria-hidden", "true");
  return made;
}

async function events() {
  const said = await ask("/v1/events?count=20");
  table("events", [
    ["at", (row) => moment(row.at)],
    ["scope", (row) => row.scope],
    ["reached", (row) => `${row.percent} %`, "number", (row) => (row.percent >= 100 ? "bad" : "odd")],
    ["spent", (row) => usd(row.spent_usd, 6), "number"],
    ["of USD", (row) => `${usd(row.amount_usd, 6)} per ${row.per}, ${row.mode}`],
  ], said.events, "None.");
}

async function call(event) {
  event.preventDefault();
  const id = encodeURIComponent($("request").value.trim());
  try {
    const { entries } = await ask(`/v1/exchanges/${id}`);
    table("call", [
      ["attempt", (row) => row.attempt_id.split(".").pop()],
      ["caller", (row) => row.key],
      ["asked", (row) => row.model_asked],
      ["served by", (row) => row.deployment],
      ["because", (row) => row.reason],
      ["outcome", (row) => `${row.outcome}${row.status ? ` (${row.status})` : ""}`, "", (row) => (row.outcome === "ok" ? "good" : "odd")],
      ["in", (row) => count(row.input_tokens), "number"],
      ["out", (row) => count(row.output_tokens), "number"],
      ["USD", (row) => usd(row.cost_nusd / 1e9, 9), "number"],
      ["first byte", (row) => `${(row.ttft_us / 1000).toFixed(1)} ms`, "number"],
      ["all", (row) => `${(row.duration_us / 1000).toFixed(1)} ms`, "number"],
      ["added", (row) => `${(row.added_us / 1000).toFixed(2)} ms`, "number"],
    ], entries, "There is nothing.");
  } catch (error) {
    $("call").replaceChildren(element("p", error.message, "nothing"));
  }
}

/* Looking, again and again... */

let looking = false;

async function look() {
  if (looking || document.hidden) return;
  looking = true;
  try {
    await versions();
    const parts = await Promise.allSettled([usage(), deployments(), quotas(), events()]);
    const failed = parts.find((each) => each.status === "rejected");
    if (failed) throw failed.reason;
    show("page", null);
  } catch (error) {
    const isClosed = error.status === 401;
    if (isClosed) {
      const wasWrong = sessionStorage.getItem(KEPT) !== null;
      sessionStorage.removeItem(KEPT);
      show("door", wasWrong ? "This token is not the admin token." : null);
      $("version").textContent = "";
    } else show(null, error.message ?? String(error));
  } finally {
    looking = false;
  }
}

function show(part, trouble) {
  if (part) {
    $("page").hidden = part !== "page";
    $("door").hidden = part !== "door";
    $("forget").hidden = part !== "page" || sessionStorage.getItem(KEPT) === null;
  }
  $("trouble").hidden = !trouble;
  $("trouble").textContent = trouble ?? "";
}

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEPT, $("token").value.trim());
  $("token").value = "";
  look();
});
$("forget").addEventListener("click", () => {
  sessionStorage.removeItem(KEPT);
  location.reload();
});
$("ask").addEventListener("submit", call);
for (const id of ["by", "since"]) $(id).addEventListener("change", () => usage().catch((error) => show(null, error.message)));
document.addEventListener("visibilitychange", look);
setInterval(look, EVERY_MS);
look();
