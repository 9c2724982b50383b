"use client";
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { useEffect, useState } from "react";

// The page keeps what was said, and which run answered last: after a reload that is sent again, whole, be it over or not.
const transport = new DefaultChatTransport({
  fetch: async (url, options) => {
    const response = await fetch(url, options);
    const run = response.headers.get("x-workflow-run-id");
    if (run) localStorage.setItem("run", run);
    return response.status === 404 ? new Response(null, { status: 204 }) : response; // no longer kept
  },
  prepareReconnectToStreamRequest: ({ id }) => ({
    api: `/api/chat/${encodeURIComponent(localStorage.getItem("run") ?? id)}/stream`,
  }),
});

function Chat({ id, said }) {
  const { messages, sendMessage, status, error } = useChat({ id, messages: said, transport, resume: true });
  useEffect(() => localStorage.setItem("said", JSON.stringify(messages)), [messages]);
  const stop = () => fetch(`/api/chat/${id}/stop`, { method: "POST" });
  const writing = status === "submitted" || status === "streaming";
  return (
    <main>
      {messages.map((message) => (
        <p key={message.id}>
          <b>{message.role}</b> {message.parts.map((part) => (part.type === "text" ? part.text : ""))}
        </p>
      ))}
      {error && <p role="alert">{error.message}</p>}
      <form action={(form) => sendMessage({ text: form.get("text") })}>
        <input name="text" placeholder="Say something" aria-label="Message" required />
        {writing ? <button type="button" onClick={stop}>Stop</button> : <button>Send</button>}
      </form>
    </main>
  );
}

export default function Page() {
  const [chat, setChat] = useState(null);
  useEffect(() => {
    const id = localStorage.getItem("chat") ?? crypto.randomUUID();
    localStorage.setItem("chat", id);
    setChat({ id, said: JSON.parse(localStorage.getItem("said") ?? "[]") });
  }, []);
  return chat && <Chat {...chat} />;
}
