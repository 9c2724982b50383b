// A page with useChat, as an app would have it; bundled by esbuild into build/web/page.js.
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai7";
import React from "react";
import { createRoot } from "react-dom/client";

const id = new URLSearchParams(location.search).get("chat");

function Chat() {
  const { messages, sendMessage, status, error } = useChat({
    id,
    resume: true,
    transport: new DefaultChatTransport({ api: "/api/chat" }),
  });
  const answers = messages.filter((message) => message.role === "assistant");
  return (
    <div>
      <p id="status">{status}</p>
      <p id="error">{error?.message ?? ""}</p>
      <p id="answers">{answers.length}</p>
      <button id="send" onClick={() => sendMessage({ text: "hello" })}>send</button>
      <button id="stop" onClick={() => fetch(`/api/chat/${encodeURIComponent(id)}/stop`, { method: "POST" })}>stop</button>
      <pre id="text">
        {answers.flatMap((message) => message.parts).filter((part) => part.type === "text").map((part) => part.text)}
      </pre>
    </div>
  );
}

createRoot(document.getElementById("root")).render(<Chat />);
