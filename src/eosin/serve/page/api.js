// Requests to this server, and to no other. A token stays in this tab.

let token = sessionStorage.getItem("eosin-token") || "";

export function setToken(text) {
  token = text;
  sessionStorage.setItem("eosin-token", text);
}

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function asked(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (token) headers.Authorization = `Bearer ${token}`;
  const reply = await fetch(path, { ...options, headers });
  if (!reply.ok) {
    let text = `The server said ${reply.status}.`;
    try {
      text = (await reply.json()).error.message;
    } catch { /* no JSON */ }
    throw new Refused(reply.status, text);
  }
  return reply;
}

export const getJson = async (path) => (await asked(path)).json();
export const getBlob = async (path, signal) => (await asked(path, { signal })).blob();

function posted(body, signal) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
}

export const postJson = async (path, body) => (await asked(path, posted(body))).json();

// Server-sent events of a POST: calls on(name, data) for each.
export async function stream(path, body, on, signal) {
  const reply = await asked(path, posted(body, signal));
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    rest += value;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const lines = rest.slice(0, end).split("\n");
      rest = rest.slice(end + 2);
      const name = lines.find((l) => l.startsWith("event: "));
      const data = lines.find((l) => l.startsWith("data: "));
      if (name && data) on(name.slice(7), JSON.parse(data.slice(6)));
    }
  }
}

// A key for one version of a correction; randomUUID is missing where the page came over plain http from elsewhere.
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

export async function download(path, name) {
  const url = URL.createObjectURL(await getBlob(path));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
