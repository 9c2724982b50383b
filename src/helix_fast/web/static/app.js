// The live page. What comes from the store is only ever text: it is put into text nodes, never parsed.
import { element, sessionBars, timeChart } from "./charts.js";

const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const MOST_NODES = 4000; // of a stream's text: what is older leaves the page
const EVERY_MS = 2000;
let settings = { allowStop: false, health: false };
let page = "live";
let open = null; // { id, stream, source }
let listed = [];

async function ask(path, options) {
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? response.statusText);
  return answer;
}

function say(text) { byId("state").textContent = text; }

function duration(ms) {
  if (ms == null) return "";
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
}

function since(ms) { return ms == null ? "" : `${duration(Math.max(0, Date.now() - ms))} ago`; }

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let amount = Number(value), unit = 0;
  while (amount >= 1024 && unit < units.length - 1) { amount /= 1024; unit++; }
  return `${amount < 10 && unit ? amount.toFixed(1) : Math.round(amount)} ${units[unit]}`;
}

function badge(target, row) {
  const status = row.lost ? "lost" : row.status || "idle";
  target.textContent = status;
  const kind = row.lost || status === "failed" || status.startsWith("unreadable") ? "bad"
    : row.live ? "live" : status === "interrupted" ? "warn" : "";
  target.className = `badge ${kind}`;
}

// --- the list

async function refreshList() {
  const query = new URLSearchParams(new FormData(byId("filter")));
  const found = await ask(`api/list?${query}`);
  listed = found.rows;
  const shown = found.rows.length === 200 ? "the first 200" : number.format(found.rows.length);
  byId("found").textContent = `${shown} of ${number.format(found.total)}`;
  const rows = byId("rows");
  const known = new Map([...rows.children].map((item) => [item.dataset.id, item]));
  const items = found.rows.map((row) => {
    let item = known.get(row.id);
    if (!item) {
      const button = element("button", { type: "button", onclick: () => show(row.id) },
        element("span", { className: "id", textContent: row.id, title: row.id }),
        element("span", {}), element("span", { className: "more" }));
      item = element("li", {}, button);
      item.dataset.id = row.id;
    }
    const [, mark, more] = item.firstChild.children;
    badge(mark, row);
    const parts = [row.agentType, row.chunks ? `${number.format(row.chunks)} chunk${row.chunks === 1 ? "" : "s"}` : "", since(row.updatedAt)];
    more.textContent = parts.filter(Boolean).join(" · ");
    item.firstChild.toggleAttribute("aria-current", open?.id === row.id);
    return item;
  });
  if (items.length !== rows.children.length || items.some((item, at) => rows.children[at] !== item)) {
    const focused = document.activeElement; // moving an element takes the focus from it
    rows.replaceChildren(...items);
    if (focused && rows.contains(focused)) focused.focus();
  }
}

// --- one session

function close() {
  open?.source?.close();
  open = null;
  byId("detail").hidden = true;
  byId("live").classList.remove("open");
}

async function show(id) {
  close();
  open = { id, stream: null, source: null };
  byId("live").classList.add("open");
  byId("detail").hidden = false;
  byId("name").textContent = id;
  byId("text").replaceChildren();
  byId("facts").replaceChildren();
  byId("follow").textContent = "";
  go("live");
  byId("name").focus({ preventScroll: true });
  await refreshDetail();
  refreshList();
}

async function refreshDetail() {
  const current = open;
  const found = await ask(`api/session?id=${encodeURIComponent(current.id)}`);
  if (open !== current) return;
  const { row, state, stream, usage, entries } = found;
  badge(byId("badge"), row);
  byId("stop").hidden = !(settings.allowStop && row.live);
  const facts = [
    ["Agent", state?.agentType], ["Session", state?.status], ["Steps", state?.stepCount],
    ["Messages", state?.messages?.length], ["Stream", stream?.status], ["Chunks", stream && number.format(stream.lastSequence)],
    ["Begun", since(stream?.createdAt)], ["Last write", since(stream?.updatedAt)], ["Error", stream?.error ?? state?.error],
    ["Stop asked for", stream?.stopRequested ? stream.stopReason || "yes" : null],
    ["Lock", row.owner && `${row.owner}, ${duration(row.lockMs)} left`],
    ["Tokens", usage?.tokens && number.format(usage.tokens.total)], ["Usage entries", entries || null],
  ];
  byId("facts").replaceChildren(...facts.filter(([, value]) => value != null && value !== "").flatMap(([name, value]) =>
    [element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: String(value) }))]));
  byId("session-state").textContent = state ? JSON.stringify(state, null, 2) : "There is no session of this id.";
  if (row.streamId && row.streamId !== current.stream) follow(current, row.streamId);
  if (entries) {
    const series = await ask(`api/usage/session?id=${encodeURIComponent(current.id)}`);
    if (open === current) byId("session-chart").replaceChildren(timeChart(series));
  } else {
    byId("session-chart").replaceChildren(element("p", { className: "quiet", textContent: "No tokens are recorded." }));
  }
}

function follow(current, stream) {
  current.source?.close();
  current.stream = stream;
  const text = byId("text");
  text.replaceChildren();
  const source = current.source = new EventSource(`api/events?id=${encodeURIComponent(stream)}`);
  const writer = new Writer(text);
  source.onmessage = (event) => writer.add(JSON.parse(event.data));
  source.onopen = () => { byId("follow").textContent = "following"; };
  source.onerror = () => { if (source.readyState !== EventSource.CLOSED) byId("follow").textContent = "reconnecting"; };
  const ended = (text_) => (event) => {
    source.close();
    const told = event.data && event.data !== "{}" ? JSON.parse(event.data).message : "";
    byId("follow").textContent = `${text_} ${told}`.trim();
    refreshDetail().catch(failed);
  };
  source.addEventListener("end", ended("The stream has ended."));
  source.addEventListener("failed", ended("Failed:"));
  source.addEventListener("reset", () => writer.clear());
}

// Puts chunks into the page, a batch a frame.
class Writer {
  constructor(target) { this.target = target; this.waiting = []; this.clear(); }

  clear() { this.target.replaceChildren(); this.part = null; this.kind = ""; this.begun = null; this.tools = new Map(); this.waiting = []; }

  add(chunk) {
    if (!this.waiting.push(chunk) || this.waiting.length > 1) return;
    requestAnimationFrame(() => this.flush());
    if (document.hidden) setTimeout(() => this.flush(), 200); // a hidden page has no frames
  }

  flush() {
    const target = this.target;
    const atEnd = target.scrollTop + target.clientHeight >= target.scrollHeight - 24;
    for (const chunk of this.waiting.splice(0)) this.write(chunk);
    while (target.childNodes.length > MOST_NODES) target.firstChild.remove();
    if (atEnd) target.scrollTop = target.scrollHeight;
  }

  write(chunk) {
    const inner = chunk.type === "ui" ? chunk.chunk : null;
    this.begun ??= chunk.timestamp ?? null;
    if (chunk.type === "text_delta") return this.text("text", chunk.delta);
    if (chunk.type === "thinking") return this.text("thinking", chunk.content);
    if (inner?.type === "text-delta" || inner?.type === "TEXT_MESSAGE_CONTENT") return this.text("text", inner.delta);
    if (inner?.type === "reasoning-delta" || inner?.type === "REASONING_MESSAGE_CONTENT") return this.text("thinking", inner.delta);
    this.kind = "";
    if (chunk.type === "tool_start") {
      this.tools.set(chunk.toolCallId, chunk.timestamp);
      return this.event("tool", `${chunk.toolName}`, JSON.stringify(chunk.arguments ?? {}), chunk.timestamp);
    }
    if (chunk.type === "tool_end") {
      const took = chunk.timestamp - this.tools.get(chunk.toolCallId);
      const bad = chunk.success === false || chunk.error != null;
      const name = `${bad ? "failed" : "result"}${took >= 0 ? ` after ${took} ms` : ""}`;
      return this.event(bad ? "bad" : "tool", name, chunk.error ?? JSON.stringify(chunk.result), chunk.timestamp);
    }
    if (chunk.type === "subagent_start") return this.event("sub", "sub-agent begins", `${chunk.subAgentType ?? ""} ${chunk.subSessionId ?? ""}`, chunk.timestamp);
    if (chunk.type === "subagent_end") return this.event(chunk.success === false ? "bad" : "sub", "sub-agent ends", `${chunk.subSessionId ?? ""} ${chunk.error ?? ""}`, chunk.timestamp);
    if (chunk.type === "error") return this.event("bad", "error", chunk.error, chunk.timestamp);
    const { type, agentId, agentType, timestamp, ...rest } = inner ?? chunk;
    this.event("", type ?? "header", JSON.stringify(rest), chunk.timestamp);
  }

  text(kind, delta) {
    if (this.kind !== kind) {
      this.kind = kind;
      this.part = element("span", { className: `part ${kind}` });
      this.target.append(this.part);
    }
    this.part.append(delta);
    if (this.part.childNodes.length > MOST_NODES) this.part.normalize();
  }

  event(kind, name, detail, at) {
    const line = element("span", { className: `event ${kind}` });
    if (at && this.begun) line.append(element("time", { textContent: `+${((at - this.begun) / 1000).toFixed(1)} s` }));
    line.append(element("b", { textContent: name }), ` ${detail.length > 2000 ? `${detail.slice(0, 2000)}…` : detail}`);
    this.target.append(line);
  }
}

// --- the other pages

async function refreshUsage() {
  byId("usage-chart").replaceChildren(sessionBars(await ask("api/usage"), show));
}

async function refreshLocks() {
  const found = await ask("api/list?");
  const held = found.rows.filter((row) => row.owner);
  byId("no-locks").hidden = held.length > 0;
  byId("lock-rows").replaceChildren(...held.map((row) => element("tr", {},
    element("td", {}, element("button", { type: "button", textContent: row.id, onclick: () => show(row.id) })),
    element("td", { textContent: row.owner }), element("td", { textContent: row.lockMs == null ? "no end" : duration(row.lockMs) }))));
}

async function refreshServer() {
  const info = await ask("api/server");
  const tile = (name, value) => value == null ? [] : [element("div", { className: "tile" },
    element("b", { textContent: value }), element("span", { textContent: name }))];
  const memory = Number(info.maxmemory) ? `${bytes(info.used_memory)} of ${bytes(info.maxmemory)}` : info.used_memory && bytes(info.used_memory);
  byId("tiles").replaceChildren(
    ...tile("server", info.error ?? (info.valkey_version ? `Valkey ${info.valkey_version}` : `Redis ${info.redis_version}`)),
    ...tile("up for", info.uptime_in_seconds && duration(info.uptime_in_seconds * 1000)),
    ...tile("memory", memory), ...tile("eviction", info.maxmemory_policy),
    ...tile("evicted keys", info.evicted_keys), ...tile("clients", info.connected_clients),
    ...tile("requests a second", info.instantaneous_ops_per_sec), ...tile("channels with readers", info.pubsub_channels),
    ...tile("role", info.role && `${info.role}, ${info.connected_slaves ?? 0} replicas`),
    ...tile("append-only file", info.aof_enabled && (info.aof_enabled === "1" ? "on" : "off")),
    ...tile("last snapshot", info.rdb_last_bgsave_status));
}

async function examine() {
  say("examining…");
  const findings = await ask("api/health");
  byId("findings").replaceChildren(...findings.map((finding) => element("li", {},
    element("span", { className: `badge ${{ ok: "live", warning: "warn", error: "bad" }[finding.level]}`, textContent: finding.level }),
    element("b", { textContent: finding.name }), ` ${finding.detail}`, element("small", { textContent: finding.hint ?? "" }))));
  say("");
}

// --- the page

function failed(error) { say(error.message); }

const refreshers = {
  live: async () => { await refreshList(); if (open) await refreshDetail(); },
  usage: refreshUsage, locks: refreshLocks, server: refreshServer,
};

async function refresh() {
  try {
    await refreshers[page]();
    say("");
  } catch (error) {
    failed(error);
  }
}

function go(name) {
  page = name;
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== name;
  for (const button of document.querySelectorAll("nav button")) {
    if (button.dataset.page === name) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
}

document.querySelector("nav").addEventListener("click", (event) => {
  if (!event.target.dataset.page) return;
  if (event.target.dataset.page === "live" && page === "live") close();
  go(event.target.dataset.page);
  refresh();
});
byId("filter").addEventListener("submit", (event) => event.preventDefault());
let typing;
byId("filter").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(refresh, 150); });
byId("back").addEventListener("click", () => { close(); refreshList().catch(failed); });
byId("examine").addEventListener("click", () => examine().catch(failed));
byId("stop").addEventListener("click", async () => {
  if (!confirm(`Stop ${open.id}?`)) return;
  await ask(`api/stop?id=${encodeURIComponent(open.stream ?? open.id)}`, { method: "POST" }).catch(failed);
  refresh();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && open && !document.querySelector("dialog[open]")) { close(); refreshList().catch(failed); }
  if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) { event.preventDefault(); byId("filter").q.focus(); }
});

settings = await ask("api/settings").catch(() => settings);
byId("examine").hidden = !settings.health;
const named = new URLSearchParams(location.search).get("id");
if (named) show(named).catch(failed); else refresh();
setInterval(() => { if (!document.hidden) refresh(); }, EVERY_MS);
