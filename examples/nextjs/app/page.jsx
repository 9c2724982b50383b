"use client";
import { useChat } from "@ai-sdk/react";
import { useEffect, useState } from "react";

function Chat({ id }) {
  const { messages, sendMessage, status } = useChat({ id, resume: true });
  const stop = () => fetch(`/api/chat/${id}/stop`, { method: "POST" });
  return (
    <main>
      {messages.map((message) => (
        <p key={message.id}>
          <b>{message.role}</b> {message.parts.map((part) => (part.type === "text" ? part.text : ""))}
        </p>
      ))}
      <form action={(form) => sendMessage({ text: form.get("text") })}>
        <input name="text" placeholder="Say something" />
        {status === "ready" ? <button>Send</button> : <button type="button" onClick={stop}>Stop</button>}
      </form>
    </main>
  );
}

export default function Page() {
  const [id, setId] = useState(null);
  useEffect(() => {
    const known = localStorage.getItem("chat") ?? crypto.randomUUID();
    localStorage.setItem("chat", known);
    setId(known);
  }, []);
  return id && <Chat id={id} />;
}
