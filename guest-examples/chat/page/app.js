// A room of the chat: `?room=ROOM&name=NAME`. The page speaks MQTT 5 with the host that
// it came from, over WebSocket.

/* global mqtt */

const LINES_MAX = 500;

const asked = new URLSearchParams(location.search);
const room = (asked.get("room") ?? "").replace(/[^\p{L}\p{N}_-]/gu, "") || "lobby";
const element = (id) => document.getElementById(id);

// An identity of its own, so that two windows do not take each other's place. Answers
// that are meant for this page alone come to the topic that ends in it.
const clientId = "page-" + Array.from(crypto.getRandomValues(new Uint8Array(8)),
  (byte) => byte.toString(16).padStart(2, "0")).join("");
const topics = {
  say: `chat/${room}/say`,
  messages: `chat/${room}/messages`,
  history: `chat/${room}/history`,
  own: `chat/${room}/to/${clientId}`,
};

element("room").textContent = room;
element("name").value = asked.get("name") ?? "";

const scheme = location.protocol === "https:" ? "wss" : "ws";
const client = mqtt.connect(`${scheme}://${location.host}/mqtt`, {
  protocolVersion: 5,
  clientId,
  clean: true,
  // What is subscribed to is said below, after each connection: the history closes
  // the gap that an outage has left.
  resubscribe: false,
  reconnectPeriod: 1000,
});

client.on("connect", () => {
  // The history comes last: what is said meanwhile comes twice rather than never.
  const wanted = { [topics.messages]: { qos: 1 }, [topics.own]: { qos: 1 } };
  wanted[topics.history] = { qos: 0 };
  client.subscribe(wanted, (error) => state(error ? `refused: ${error.message}` : "connected"));
});
client.on("close", () => state("not connected"));
client.on("error", (error) => state(error.message));
client.on("message", (topic, payload, packet) => {
  const text = new TextDecoder().decode(payload);
  if (topic === topics.history) {
    // The broker's copy for those who join; later ones only say what was heard already.
    if (packet.retain) text.split("\n").filter(Boolean).forEach(showOld);
    return;
  }
  const { from, at } = packet.properties?.userProperties ?? {};
  show({ from, text, at: Number(at) || null, isAnswer: topic === topics.own });
});

element("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = element("text").value;
  const properties = {
    contentType: "text/plain",
    responseTopic: topics.own,
    userProperties: { from: element("name").value },
  };
  client.publish(topics.say, text, { qos: 1, properties });
  element("text").value = "";
});

function state(text) {
  element("state").textContent = text;
}

// A line of the history: when, who and what, with tabs between them.
function showOld(line) {
  const [at, from, text] = line.split("\t");
  show({ from, text, at: Number(at), isAnswer: false });
}

// Shows a line in its place. No two messages of a room have the same time, so that one
// that is there already is the same one; what has no time, such as an answer, goes last.
function show({ from, text, at, isAnswer }) {
  const lines = element("lines");
  const others = [...lines.children];
  if (at && others.some((other) => Number(other.dataset.at) === at)) return;
  const line = document.createElement("li");
  line.className = isAnswer ? "answer" : "message";
  if (at) {
    line.dataset.at = at;
    const time = line.appendChild(document.createElement("time"));
    time.dateTime = new Date(at).toISOString();
    time.textContent = new Date(at).toLocaleTimeString([], { timeStyle: "short" });
  }
  // Never as HTML: what others say is text.
  line.appendChild(document.createElement("b")).textContent = from;
  line.appendChild(document.createElement("span")).textContent = text;
  lines.insertBefore(line, at ? others.find((other) => Number(other.dataset.at) > at) ?? null : null);
  if (lines.children.length > LINES_MAX) lines.firstElementChild.remove();
  line.scrollIntoView({ block: "nearest" });
}
