// The real clients of npm, driven over stdin and stdout: one JSON object a line, {id, op, ...} in, {id, value | error} out.
// It runs in the folder that has node_modules: build/web.
import { createInterface } from "node:readline";

const chats = new Map();
for (const kind of ["unhandledRejection", "uncaughtException"]) process.on(kind, () => {}); // a server that is killed
console.error = console.warn = console.log = () => {}; // stdout is ours, and what the clients log is their own

async function makeChat({ sdk, api, chat, messages = [], transport = "default" }) {
  const ai = await import(`ai${sdk}`);
  let made;
  const requests = []; // what was asked, and what came back
  const watched = async (url, options = {}) => {
    const response = await fetch(url, options);
    requests.push({ method: options.method ?? "GET", url: String(url).replace(api, ""), status: response.status });
    return response;
  };
  if (transport === "workflow") {
    const { WorkflowChatTransport } = await import("@ai-sdk/workflow");
    made = new WorkflowChatTransport({ api, fetch: watched });
  } else {
    made = new ai.DefaultChatTransport({ api, fetch: watched });
  }
  const state = {
    status: "ready",
    error: undefined,
    messages,
    pushMessage: (message) => { state.messages = [...state.messages, message]; },
    popMessage: () => { state.messages = state.messages.slice(0, -1); },
    replaceMessage: (index, message) => {
      state.messages = [...state.messages.slice(0, index), structuredClone(message), ...state.messages.slice(index + 1)];
    },
    snapshot: (value) => structuredClone(value),
  };
  class Chat extends ai.AbstractChat {}
  return { ai: new Chat({ id: chat, state, transport: made }), state, requests };
}

const textOf = (message) =>
  (message?.parts ?? []).filter((part) => part.type === "text").map((part) => part.text).join("");

function dump({ state, requests }) {
  return { status: state.status, error: state.error?.message ?? null, messages: state.messages, requests };
}

async function until(condition, seconds = 60) {
  const end = Date.now() + seconds * 1000;
  while (!condition()) {
    if (Date.now() > end) throw new Error("it did not come true");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const operations = {
  async chat({ name, ...rest }) { chats.set(name, await makeChat(rest)); },
  // A request goes on in the background, as in a page.
  async send({ name, text, body }) { chats.get(name).ai.sendMessage({ text }, { body }).catch(() => {}); },
  async resume({ name }) { chats.get(name).ai.resumeStream().catch(() => {}); },
  async resumed({ name }) { await chats.get(name).ai.resumeStream(); return dump(chats.get(name)); },
  async abort({ name }) { await chats.get(name).ai.stop(); },
  async dump({ name }) { return dump(chats.get(name)); },
  async text({ name, length }) {
    const chat = chats.get(name);
    const last = () => textOf(chat.state.messages.findLast((message) => message.role === "assistant"));
    await until(() => last().length >= length);
    return last();
  },
  async status({ name, status }) {
    const chat = chats.get(name);
    await until(() => status.includes(chat.state.status));
    return dump(chat);
  },
  async agui({ name, url, thread, get, text }) {
    const { HttpAgent } = await import("@ag-ui/client");
    // Joining is a GET: the client has no method of its own for it.
    const agent = new HttpAgent({
      url, threadId: thread,
      fetch: get ? (address) => fetch(address, { headers: { Accept: "text/event-stream" } }) : undefined,
    });
    const events = [];
    if (text) agent.messages = [{ id: "u1", role: "user", content: text }];
    const entry = { agent, events, done: false, error: null };
    chats.set(name, entry);
    agent.runAgent({}, { onEvent: ({ event }) => { events.push(event); } })
      .then(() => { entry.done = true; }, (error) => { entry.done = true; entry.error = String(error.message ?? error); });
  },
  async agui_events({ name, count = 0 }) {
    const entry = chats.get(name);
    await until(() => entry.done || (count && entry.events.length >= count));
    return { events: entry.events, error: entry.error, done: entry.done, messages: entry.agent.messages };
  },
  async agui_abort({ name }) { chats.get(name).agent.abortRun(); },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, op, ...rest } = JSON.parse(line);
  operations[op](rest).then(
    (value) => process.stdout.write(JSON.stringify({ id, value: value ?? null }) + "\n"),
    (error) => process.stdout.write(JSON.stringify({ id, error: String(error.stack ?? error) }) + "\n"),
  );
}
process.exit(0);
